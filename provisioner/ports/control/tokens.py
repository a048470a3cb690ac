"""The contract for access tokens and audit records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.views.token import Audits, NewToken, Token
from provisioner.ports.store import Key


@dataclass(frozen=True)
class AuditFilter:
    """Conditions that select audit records; an empty one selects all."""

    who: str = ""
    what: str = ""
    owner: str = ""
    #: The beginning of the target.
    target: str = ""

    def query(self) -> list[tuple[str, str]]:
        """Return the filter as query parameters of `GET /api/audit`."""
        return [(name, value) for name, value in vars(self).items() if value]


EVERY = AuditFilter()


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

    def audit(self, limit: int = 50, before: Key | None = None, which: AuditFilter = EVERY) -> Audits:
        """Return at most `limit` audit records, the newest first; only those older than `before`, if it is set.

        With a filter, a page may have fewer records and still not be the last: see `next_key`.
        """
