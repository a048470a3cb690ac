"""provisioner.ports.access.Access: tokens in the store, of which only the digest is there."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.access.callers import Audit, Caller, NewToken, Token
from provisioner.core.access.throttle import Denials
from provisioner.core.errors import Conflict, Denied, Forbidden, Invalid, TooMany
from provisioner.core.not_found import no_token
from provisioner.core.recipe.fields import OWNER
from provisioner.core.run.records import Record
from provisioner.ports.store import Key
from provisioner.service.installation import Installation

_TOKEN = re.compile("pvt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
#: Compared with where there is no such token, so that the answer takes as long.
_NONE = "0" * 64
#: Tokens in use at the same time; beyond it they are read again.
MOST_PROVEN = 10_000
#: Seconds for which a token that was read is not read again: a look at the store at each request would cost a server
#: that is asked a thousand times a second as much as its work.
BELIEVED = 0.1
#: Characters of a note.
LONGEST_NOTE = 200
TRIES = 20


class Tokens:
    """Every request is let in by this one; `admit` is one thread's alone, the rest anybody's."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._denials = Denials()
        #: Those that let somebody in, and when each was read.
        self._proven: dict[str, tuple[float, Token]] = {}

    def admit(self, token: str, source: str) -> Caller:
        parts, now = _TOKEN.fullmatch(token), self._installation.clock.now()
        id, secret = parts.groups() if parts else ("", "")
        proven = self._proven.get(id)
        # Check the secret: a client that knows only the id must be throttled, without throttling the token's owner.
        if proven is None or not _right(proven[1], secret):
            wait = self._denials.wait(source, now)
            if wait > 0:
                raise TooMany(f"denied too often: try again in {wait:.0f} s", wait)
        read_at, stored = self._stored(id, now)
        if why := _hindrance(stored, secret, now):
            self._denials.add(source, now)
            if stored is not None and _right(stored, secret):
                self._proven.pop(id, None)
            raise Denied(f"{why}; an admin makes another: provision token create")
        assert stored is not None
        if len(self._proven) >= MOST_PROVEN:
            self._proven.clear()
        self._proven[id] = read_at, stored
        return Caller(id, stored.owners, stored.admin, source)

    def _stored(self, id: str, now: float) -> tuple[float, Token | None]:
        known = self._proven.get(id)
        # Backwards, too: the clock may have been set.
        if known and abs(now - known[0]) < BELIEVED:
            return known
        return now, self._installation.store.token(id) if id else None

    def create(
        self, caller: Caller, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        _only_admins(caller)
        if not owners:
            raise Invalid("a token needs an owner: whose jobs are these where a name says none?")
        for owner in owners:
            if not re.fullmatch(OWNER, owner):
                raise Invalid(f"{owner!r} is no owner: write org/identity or identity, in lower case")
        if expires_in is not None and expires_in <= 0:
            raise Invalid("a token lasts for some time, or for ever")
        if len(note) > LONGEST_NOTE or not note.isprintable():
            raise Invalid(f"a note is one line of at most {LONGEST_NOTE} characters")
        now, secret = self._installation.clock.now(), self._installation.ids.secret()
        made = Token(
            id=self._installation.ids.new()[-12:],
            sha256=_digest(secret),
            owners=tuple(dict.fromkeys(owners)),
            admin=admin,
            note=note,
            created_at=now,
            created_by=caller.name,
            expires_at=None if expires_in is None else now + expires_in,
        )
        return NewToken(f"pvt_{made.id}_{secret}", self._save(caller, made, "create token"))

    def tokens(self, caller: Caller) -> tuple[Token, ...]:
        _only_admins(caller)
        return self._installation.store.tokens()

    def revoke(self, caller: Caller, id: str) -> Token:
        _only_admins(caller)
        for _ in range(TRIES):
            token = self._installation.store.token(id)
            if token is None:
                raise no_token(id)
            if token.revoked_at is not None:
                return token
            try:
                revoked = replace(token, revoked_at=self._installation.clock.now())
                saved = self._save(caller, revoked, "revoke token")
            except Conflict:
                continue
            self._proven.pop(id, None)
            return saved
        raise Conflict(f"token {id} is being changed by others all the time: try again")

    def audit(self, caller: Caller, limit: int = 50, before: Key | None = None) -> tuple[Audit, ...]:
        _only_admins(caller)
        return self._installation.store.audit(limit, before)

    def _save(self, caller: Caller, token: Token, what: str) -> Token:
        records: list[Record] = [token, self._installation.audit(caller, what, token.owners[0], token.id)]
        return next(each for each in self._installation.save(records) if isinstance(each, Token))


def _digest(secret: str) -> str:
    # 256 bits of chance need no salt and no slow hash: nobody tries them all.
    return hashlib.sha256(secret.encode()).hexdigest()


def _right(token: Token | None, secret: str) -> bool:
    return hmac.compare_digest(_digest(secret), token.sha256 if token else _NONE) and token is not None


def _hindrance(token: Token | None, secret: str, now: float) -> str:
    """Return the reason to reject the token, or "". "Revoked" and "expired" need the right secret."""
    if not _right(token, secret) or token is None:
        return "the token is unknown"
    if token.revoked_at is not None:
        return "the token is revoked"
    if token.expires_at is not None and now >= token.expires_at:
        return "the token has expired"
    return ""


def _only_admins(caller: Caller) -> None:
    if not caller.admin:
        raise Forbidden("only an admin may do this")
