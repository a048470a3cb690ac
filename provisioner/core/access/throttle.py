"""Throttle source addresses after five failed logins: the wait is 1 s, and doubles up to 60 s."""

import ipaddress
from dataclasses import dataclass

#: Failed logins before the first wait: a person may mistype a token this often.
FREE = 5
#: The longest wait, in seconds: a program that keeps trying costs one lookup a minute.
LONGEST = 60.0
#: Seconds after a source's last failed login until all its failures are forgotten.
FORGOTTEN = 900.0
#: Maximum number of sources in memory, about 2 MB; beyond this, the source that was denied longest ago is forgotten.
MOST = 10_000


@dataclass(frozen=True)
class _Denied:
    times: int
    at: float


class Denials:
    """The failed logins of each source. Not thread-safe."""

    def __init__(self) -> None:
        #: By network, in the order of the last failed login.
        self._sources: dict[str, _Denied] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def wait(self, source: str, now: float) -> float:
        """Return the seconds until this source may try again."""
        denied = self._of(_network(source), now)
        if denied.times < FREE:
            return 0.0
        pause = min(LONGEST, 2.0 ** min(denied.times - FREE, 10))
        return max(0.0, denied.at + pause - now)

    def add(self, source: str, now: float) -> None:
        key = _network(source)
        denied = self._of(key, now)
        self._sources.pop(key, None)
        self._sources[key] = _Denied(denied.times + 1, now)
        if len(self._sources) > MOST:
            del self._sources[next(iter(self._sources))]

    def _of(self, key: str, now: float) -> _Denied:
        denied = self._sources.get(key, _Denied(0, now))
        # If the clock was set back, the failure is forgotten too.
        return denied if 0 <= now - denied.at < FORGOTTEN else _Denied(0, now)


def _network(source: str) -> str:
    """Return a source's address, or its /64 network for IPv6: one client controls a whole /64 (RFC 4291, 2.5.4)."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source[:100]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
