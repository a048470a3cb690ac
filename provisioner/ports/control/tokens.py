"""The contract for access tokens and the audit; all but `admit` raise Forbidden to a caller who is no admin."""

from collections.abc import Sequence
from typing import Protocol

from provisioner.core.access.callers import Audit, Caller, NewToken, Token
from provisioner.ports.store import Key


class Access(Protocol):
    def admit(self, token: str, source: str) -> Caller:
        """Return the caller to whom the token belongs. It takes microseconds, and only one thread calls it.

        A token that another process revoked is rejected after at most 0.1 s. Raises Denied if the token is unknown,
        revoked or expired (then the message has the word `expired`). Raises TooMany if `source` was denied too often,
        except for a token that was accepted lately: it is accepted from every source.
        """

    def create(
        self, caller: Caller, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        """Create a token for these owners, valid for `expires_in` seconds or, if None, forever; raises Invalid."""

    def tokens(self, caller: Caller) -> tuple[Token, ...]:
        """Return all tokens, also revoked and expired ones, the newest first."""

    def revoke(self, caller: Caller, id: str) -> Token:
        """Revoke the token, and return it; a revoked token is returned unchanged. Raises NotFound."""

    def audit(self, caller: Caller, limit: int = 50, before: Key | None = None) -> tuple[Audit, ...]:
        """Return at most `limit` changes, the newest first; only those before `(at, id)` of a known one."""
