"""Get the credentials of this machine's role, and renew them before they expire."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping

from provisioner.agent.aws.fetch import credentials
from provisioner.agent.aws.http import NoAnswer
from provisioner.agent.aws.imds import seconds

#: Seconds before expiry at which credentials are renewed: new ones are available by then (EC2 User Guide, "Retrieve
#: security credentials").
EARLY = 300.0

#: Seconds between two requests for newer credentials.
PAUSE = 60.0


class Role:
    """The role's current credentials. Threads may share it."""

    def __init__(self) -> None:
        self._own: Mapping[str, str] = {}
        self._renewal = 0.0
        self._lock = threading.Lock()

    def credentials(self, now: float, instead: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Return the role's credentials. `instead` are credentials that AWS rejected; `now` is the Unix time.

        If the current credentials expire soon or are `instead`, newer ones are read first. If that read fails, the
        current ones are returned. Raises NoAnswer if there are no credentials yet: EC2 may attach the role a moment
        after boot.
        """
        with self._lock:
            if now >= self._renewal or instead is self._own:
                try:
                    self._own = credentials()
                    self._renewal = max(seconds(self._own["Expiration"]) - EARLY, now + PAUSE)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    if not self._own:
                        raise NoAnswer(str(error)) from error
                    self._renewal = now + PAUSE
            return self._own
