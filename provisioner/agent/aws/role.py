"""The credentials of this machine's role, renewed in time."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping

from provisioner.agent.aws.fetch import credentials
from provisioner.agent.aws.http import NoAnswer
from provisioner.agent.aws.imds import seconds

#: Seconds before their end; new ones are there by then (EC2 User Guide, "Retrieve security credentials").
EARLY = 300.0

#: Seconds between two looks for newer ones.
PAUSE = 60.0


class Role:
    """Threads may share it."""

    def __init__(self) -> None:
        self._own: Mapping[str, str] = {}
        self._renewal = 0.0
        self._lock = threading.Lock()

    def credentials(self, now: float, instead: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """As the metadata service tells them; others than `instead`, which AWS did not take, if there are any.

        Old ones serve on where newer ones cannot be had. Raises NoAnswer when there are none, as when the role is
        attached a moment after the machine has booted.
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
