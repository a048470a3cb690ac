"""The contract for access tokens and audit records."""

from collections.abc import Sequence
from typing import Protocol

from provisioner.core.views.token import Audits, NewToken, Token
from provisioner.ports.store import Key


class Tokens(Protocol):
    """Every method raises Forbidden if the caller is not an admin."""

    def create(
        self, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        """Make a token for these owners that expires after `expires_in` seconds, or never (None). Raises Invalid."""

    def all(self) -> tuple[Token, ...]:
        """Return all tokens, including revoked and expired ones, the newest first."""

    def revoke(self, id: str) -> Token:
        """Revoke the token; no error if it is revoked already. Raises NotFound."""

    def audit(self, limit: int = 50, before: Key | None = None) -> Audits:
        """Return at most `limit` audit records, the newest first; only those older than `before`, if it is set."""
