"""The contract for access tokens, and for the audit of changes."""

from collections.abc import Sequence
from typing import Protocol

from provisioner.core.views.token import Audits, NewToken, Token
from provisioner.ports.store import Key


class Tokens(Protocol):
    """Every method raises Forbidden if the caller is not an admin."""

    def create(
        self, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        """Make a token for these owners, valid for `expires_in` seconds, or without end if None. Raises Invalid."""

    def all(self) -> tuple[Token, ...]:
        """Return all tokens, the newest first, with revoked and expired ones."""

    def revoke(self, id: str) -> Token:
        """Revoke the token; no error if it is revoked already. Raises NotFound."""

    def audit(self, limit: int = 50, before: Key | None = None) -> Audits:
        """Return at most `limit` changes, the newest first; only those before `(at, id)` of a known one."""
