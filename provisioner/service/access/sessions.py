"""Logins of the page: an access token opens a session, and the browser then sends only the session's secret."""

import hashlib

from provisioner.core.access.callers import Caller, Session
from provisioner.core.errors import Denied
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.store import Store
from provisioner.service.access.tokens import Gate

#: Seconds until a session expires.
LIFETIME = 12 * 3600.0


class Sessions:
    """The sessions of all callers of this process."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, gate: Gate) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._gate = gate

    def open(self, caller: Caller, old: str = "") -> str:
        """Store a new session of a caller that the gate has admitted; return its secret.

        The session with the secret `old`, and all expired sessions, are deleted: no secret that was known before a
        login is valid after it.
        """
        now, secret = self._clock.now(), self._ids.secret()
        self._store.drop_sessions(now, _id(old))
        self._store.save([Session(_id(secret), caller.name, now, now + LIFETIME)])
        return secret

    def admit(self, secret: str, source: str) -> Caller:
        """Return the caller of a session; takes microseconds. Only one thread may call this method.

        Raises Denied if the session is unknown or has expired, or if its token was revoked or has expired.
        """
        found = self._store.session(_id(secret)) if secret else None
        if found is None or self._clock.now() >= found.expires_at:
            raise Denied("the session has ended: log in again")
        return self._gate.resume(found.token, source)

    def close(self, secret: str) -> None:
        """Delete the session; no error if it is unknown."""
        self._store.drop_sessions(0.0, _id(secret))


def _id(secret: str) -> str:
    # 256 random bits need no salt and no slow hash: they cannot be guessed.
    return hashlib.sha256(secret.encode()).hexdigest()
