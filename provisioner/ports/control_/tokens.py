"""Who is let in, by which token, and what they changed; all but `admit` raise Forbidden to who is no admin."""

from collections.abc import Sequence
from typing import Protocol

from provisioner.core.access.callers import Audit, Caller, NewToken, Token
from provisioner.ports.store import Key


class Access(Protocol):
    def admit(self, token: str, source: str) -> Caller:
        """Whose token it is; costs microseconds, and sees within 0.1 s what another process revoked. One
        thread calls it.

        Raises Denied where it is unknown, revoked or expired (the message then says `expired`), and TooMany to a
        source that was denied too often; a token that was let in lately is let in from anywhere.
        """

    def create(
        self, caller: Caller, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        """A token for these owners, valid for so many seconds or for ever; raises Invalid."""

    def tokens(self, caller: Caller) -> tuple[Token, ...]:
        """All of them, the newest first; revoked and expired ones too."""

    def revoke(self, caller: Caller, id: str) -> Token:
        """Let nobody in by it any more; no error when it is revoked already. Raises NotFound."""

    def audit(self, caller: Caller, limit: int = 50, before: Key | None = None) -> tuple[Audit, ...]:
        """The changes, the newest first; those before `(at, id)` of one that was read."""
