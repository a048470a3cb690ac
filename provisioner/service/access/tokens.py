"""Make, check and revoke access tokens. The store has only their digests."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from provisioner.core.access.callers import Audit, Caller, Token
from provisioner.core.access.throttle import Denials
from provisioner.core.errors import Conflict, Denied, Forbidden, Invalid, TooMany
from provisioner.core.not_found import no_token
from provisioner.core.recipe.fields import OWNER
from provisioner.core.run.records import Record
from provisioner.core.views import from_records
from provisioner.core.views.token import Audits, NewToken
from provisioner.core.views.token import Token as View
from provisioner.ports.clock import Clock
from provisioner.ports.control.tokens import EVERY, AuditFilter
from provisioner.ports.ids import Ids
from provisioner.ports.store import Key, Store
from provisioner.service.recorder import Recorder

_TOKEN = re.compile("pvt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
#: The digest with which the secret of an unknown token is compared, so that the rejection of an unknown token takes as
#: long as the rejection of a known token.
_NONE = "0" * 64
#: Maximum number of accepted tokens in memory. When it is reached, the gate forgets all of them, and reads each token
#: from the store again at its next use.
MOST_PROVEN = 10_000
#: Seconds for which an accepted token is not read from the store again. At a thousand requests a second, reading the
#: token for each request would cost as much as the rest of the server's work.
BELIEVED = 0.1
#: Maximum number of characters of a note.
LONGEST_NOTE = 200
#: Number of audit records that one request with a filter reads.
LOOKED = 5000
TRIES = 20


class Gate:
    """Accepts or rejects tokens. Only one thread may call `admit`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._denials = Denials()
        #: The accepted tokens by id, each with the Unix time at which it was read from the store.
        self._proven: dict[str, tuple[float, Token]] = {}

    def admit(self, token: str, source: str) -> Caller:
        """Return the caller to whom the token belongs; takes microseconds.

        A revocation by another process takes effect within BELIEVED seconds. Raises Denied if the token is unknown,
        revoked or expired (then the message contains `expired`), and TooMany if the source was denied too often. Tokens
        that were accepted recently are never throttled.
        """
        parts, now = _TOKEN.fullmatch(token), self._clock.now()
        id, secret = parts.groups() if parts else ("", "")
        proven = self._proven.get(id)
        # Compare the secret too: throttle a client that knows only the token's id, but not the token's owner.
        if proven is None or not _right(proven[1], secret):
            wait = self._denials.wait(source, now)
            if wait > 0:
                raise TooMany(f"too many failed logins from this address: try again in {wait:.0f} s", wait)
        read_at, stored = self._stored(id, now)
        if why := _hindrance(stored, secret, now):
            self._denials.add(source, now)
            if stored is not None and _right(stored, secret):
                self._proven.pop(id, None)
            raise Denied(f"{why}; ask an admin for a new one: `provision token create --owner YOU`")
        assert stored is not None
        if len(self._proven) >= MOST_PROVEN:
            self._proven.clear()
        self._proven[id] = read_at, stored
        return Caller(id, stored.owners, stored.admin, source)

    def resume(self, id: str, source: str) -> Caller:
        """Return the caller of a token that was admitted earlier, by the token's id. Raises Denied as `admit` does."""
        read_at, stored = self._stored(id, self._clock.now())
        why = "the token is unknown" if stored is None else _ended(stored, self._clock.now())
        if why or stored is None:
            self._proven.pop(id, None)
            raise Denied(f"{why}; ask an admin for a new one: `provision token create --owner YOU`")
        if len(self._proven) >= MOST_PROVEN:
            self._proven.clear()
        self._proven[id] = read_at, stored
        return Caller(id, stored.owners, stored.admin, source)

    def _stored(self, id: str, now: float) -> tuple[float, Token | None]:
        known = self._proven.get(id)
        # The absolute difference: the clock may have been set back.
        if known and abs(now - known[0]) < BELIEVED:
            return known
        return now, self._store.token(id) if id else None

    def forget(self, id: str) -> None:
        """Forget a token that has changed, so that its next use reads it from the store."""
        self._proven.pop(id, None)


class Tokens:
    """The implementation of provisioner.ports.control.tokens.Tokens."""

    def __init__(self, store: Store, recorder: Recorder, clock: Clock, ids: Ids, gate: Gate, caller: Caller) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._ids = ids
        self._gate = gate
        self._caller = caller

    def create(
        self, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        self._check_admin()
        if not owners:
            raise Invalid("a token needs at least one --owner; the first is the default for job names without an owner")
        for owner in owners:
            if not re.fullmatch(OWNER, owner):
                raise Invalid(f"invalid owner {owner!r}: write org/identity or identity, in lower case")
        if expires_in is not None and expires_in <= 0:
            raise Invalid(f"invalid expiry of {expires_in:g} s: expected more than 0 s, or none for no expiry")
        if len(note) > LONGEST_NOTE or not note.isprintable():
            raise Invalid(f"invalid note: expected one line of at most {LONGEST_NOTE} characters")
        now, secret = self._clock.now(), self._ids.secret()
        made = Token(
            id=self._ids.new()[-12:],
            sha256=_digest(secret),
            owners=tuple(dict.fromkeys(owners)),
            admin=admin,
            note=note,
            created_at=now,
            created_by=self._caller.name,
            expires_at=None if expires_in is None else now + expires_in,
        )
        stored = self._save(made, "create token")
        return from_records.new_token(stored, f"pvt_{made.id}_{secret}", now)

    def all(self) -> tuple[View, ...]:
        self._check_admin()
        now = self._clock.now()
        return tuple(from_records.token(each, now) for each in self._store.tokens())

    def revoke(self, id: str) -> View:
        self._check_admin()
        for _ in range(TRIES):
            token = self._store.token(id)
            if token is None:
                raise no_token(id)
            if token.revoked_at is not None:
                return from_records.token(token, self._clock.now())
            try:
                revoked = replace(token, revoked_at=self._clock.now())
                saved = self._save(revoked, "revoke token")
            except Conflict:
                continue
            self._gate.forget(id)
            return from_records.token(saved, self._clock.now())
        raise Conflict(f"other processes keep changing token {id}: try again")

    def audit(self, limit: int = 50, before: Key | None = None, which: AuditFilter = EVERY) -> Audits:
        self._check_admin()
        if which == EVERY:
            found = self._store.audit(limit, before)
            return from_records.audits(found, found[-1] if len(found) == limit else None)
        looked = self._store.audit(LOOKED, before)
        found = tuple(islice((each for each in looked if _matches(each, which)), limit))
        if len(found) == limit:
            return from_records.audits(found, found[-1])
        return from_records.audits(found, looked[-1] if len(looked) == LOOKED else None)

    def _save(self, token: Token, what: str) -> Token:
        records: list[Record] = [token, self._recorder.audit(self._caller, what, token.owners[0], token.id)]
        return next(each for each in self._recorder.save(records) if isinstance(each, Token))

    def _check_admin(self) -> None:
        if not self._caller.admin:
            raise Forbidden("only an admin may do this")


def _matches(each: Audit, which: AuditFilter) -> bool:
    return (
        which.who in ("", each.who)
        and which.what in ("", each.what)
        and which.owner in ("", each.owner)
        and each.target.startswith(which.target)
    )


def _digest(secret: str) -> str:
    # 256 random bits need no salt and no slow hash: they cannot be guessed.
    return hashlib.sha256(secret.encode()).hexdigest()


def _right(token: Token | None, secret: str) -> bool:
    return hmac.compare_digest(_digest(secret), token.sha256 if token else _NONE) and token is not None


def _hindrance(token: Token | None, secret: str, now: float) -> str:
    """Return the reason to reject the token, or "".

    "Revoked" and "expired" are shown only to a caller that has the right secret.
    """
    if not _right(token, secret) or token is None:
        return "the token is unknown"
    return _ended(token, now)


def _ended(token: Token, now: float) -> str:
    """Return why the token is not valid any more, or ""."""
    if token.revoked_at is not None:
        return "the token is revoked"
    if token.expires_at is not None and now >= token.expires_at:
        return "the token has expired"
    return ""
