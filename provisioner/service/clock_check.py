"""Whether this computer's clock may decide anything: compared with EC2's Date header, and watched in between."""

from provisioner.core.errors import ClockWrong, CloudError
from provisioner.core.launch import Listing
from provisioner.core.skew import TOLERANCE, Reading, told
from provisioner.ports.clock import Clock
from provisioner.ports.cloud import Cloud

#: A comparison counts for so many seconds before one is made anew, where no pass makes one.
FRESH = 600.0


class ClockCheck:
    """What EC2's clock showed last, and how ours went since then by one that is never set.

    So a clock that is set between two comparisons, or within a pass, is noticed when it is read next.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reading: Reading | None = None
        #: How wrong the clock was when that was noticed: its message stays the same while that hardly changes.
        self._told = 0.0

    @property
    def compared(self) -> bool:
        """Whether the clocks were compared at all."""
        return self._reading is not None

    @property
    def fresh(self) -> bool:
        """Whether they were compared lately."""
        return self._reading is not None and self._clock.elapsed() - self._reading.elapsed < FRESH

    def began(self) -> float:
        """To be called before a call to the cloud, and given to `read` with its answer."""
        return self._clock.elapsed()

    def read(self, cloud: float, began: float) -> None:
        """Compare with the time in the answer to a call that began then."""
        elapsed = self._clock.elapsed()
        self._reading = Reading(cloud, elapsed, elapsed - began)

    def measure(self, cloud: Cloud) -> Listing:
        """List the machines, and compare with the time in the answer, which a refusal has as well."""
        began = self.began()
        try:
            listing = cloud.machines()
        except CloudError as error:
            if error.at is not None:
                self.read(error.at, began)
            raise
        self.read(listing.at, began)
        return listing

    def now(self) -> float:
        """Our clock's time; raises ClockWrong while that is known to be wrong."""
        # In this order: a clock that is set in between is read before it.
        now = self._clock.now()
        ahead = self._reading.ahead(now, self._clock.elapsed()) if self._reading else 0.0
        if abs(ahead) <= TOLERANCE:
            self._told = 0.0
            return now
        if abs(ahead - self._told) > max(TOLERANCE, 0.1 * abs(self._told)):
            self._told = ahead
        raise ClockWrong(told(self._told))

    def hindrance(self) -> str:
        """What is wrong with the clock, or nothing."""
        try:
            self.now()
        except ClockWrong as error:
            return str(error)
        return ""
