"""How long a source waits after it was denied: nothing at first, then twice as long each time."""

import ipaddress
from dataclasses import dataclass

#: A person mistypes so often.
FREE = 5
#: In seconds: a program that goes on trying costs a look a minute.
LONGEST = 60.0
#: What was so long ago counts no more.
FORGOTTEN = 900.0
#: So many sources are remembered, about 2 MB of them; the one that was denied longest ago is forgotten first.
MOST = 10_000


@dataclass(frozen=True)
class _Denied:
    times: int
    at: float


class Denials:
    """Not thread-safe."""

    def __init__(self) -> None:
        #: In the order of their last time.
        self._sources: dict[str, _Denied] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def wait(self, source: str, now: float) -> float:
        """Seconds until this source may try again."""
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
        # A clock that was set back forgets, too.
        return denied if 0 <= now - denied.at < FORGOTTEN else _Denied(0, now)


def _network(source: str) -> str:
    """Who has one address of an IPv6 network has 2**64 of them (RFC 4291, 2.5.4)."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source[:100]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
