"""A call to the double as read from the wire, and the log of all calls."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: The principals of the control plane and of the account's administrator; a machine's principal is its `aws:userid`.
CONTROL, ADMINISTRATOR = "control", "administrator"


class NotPlayed(Exception):
    """A call or parameter that the double does not implement; it must never be ignored silently."""


@dataclass(frozen=True)
class Call:
    service: str
    #: The API call's own name, such as `CreateFleet` or `PutObject`.
    action: str
    parameters: Mapping[str, Any]
    #: `control`, or the machine's `<role id>:<instance id>`.
    principal: str
    #: The resource of the call: `bucket/key`, or the ids and names in the parameters.
    resource: str
    at: float

    def __str__(self) -> str:
        return f"{self.service}:{self.action} {self.resource}".rstrip()


@dataclass
class Calls:
    """Every call in order of arrival; `on_call` is called with each call as it arrives, for tests."""

    every: list[Call] = field(default_factory=list)
    #: Calls that the double does not implement, or that failed with an unexpected error: each is a gap or a bug in
    #: the double, or a mistake of its user.
    unimplemented: list[str] = field(default_factory=list)
    on_call: Callable[[Call], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, call: Call) -> None:
        with self._lock:
            self.every.append(call)
        if self.on_call:
            self.on_call(call)

    def of(self, service: str = "", action: str = "", principal: str = "") -> list[Call]:
        """Return the calls that fit, oldest first; an empty argument fits all."""
        with self._lock:
            return [
                call
                for call in self.every
                if service in ("", call.service) and action in ("", call.action) and principal in ("", call.principal)
            ]
