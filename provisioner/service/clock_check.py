"""Check this computer's clock: compare it with EC2's Date header, and with a monotonic clock between comparisons."""

from provisioner.core.cloud.clock_skew import TOLERANCE, Reading, told
from provisioner.core.cloud.machines import Listing
from provisioner.core.errors import ClockWrong, CloudError
from provisioner.ports.clock import Clock
from provisioner.ports.cloud import Cloud

#: Seconds for which a comparison is valid. After that, a process that runs no passes compares again.
FRESH = 600.0


class ClockCheck:
    """Compares this computer's clock with EC2's last known time plus the monotonic time since then.

    If this computer's clock is set between two comparisons, or within a pass, the next call of `now` raises ClockWrong.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reading: Reading | None = None
        #: Seconds in the error message. A small change of the difference does not change the message.
        self._told = 0.0

    @property
    def compared(self) -> bool:
        """Whether the clocks were ever compared."""
        return self._reading is not None

    @property
    def fresh(self) -> bool:
        """Whether the clocks were compared within the last FRESH seconds."""
        return self._reading is not None and self._clock.elapsed() - self._reading.elapsed < FRESH

    def began(self) -> float:
        """Return the monotonic time. Call this before a call to the cloud, and then pass the result to `read`."""
        return self._clock.elapsed()

    def read(self, cloud: float, began: float) -> None:
        """Compare the clock with the Unix time in the answer to a call that began at the monotonic time `began`."""
        elapsed = self._clock.elapsed()
        self._reading = Reading(cloud, elapsed, elapsed - began)

    def measure(self, cloud: Cloud) -> Listing:
        """List the machines, and compare the clock with the time in the answer, even if the answer is an error."""
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
        """Return this computer's Unix time; raises ClockWrong while the clock is known to be wrong."""
        # Read the clock first: if the clock is set between these two lines, `now` is the time from before the change.
        now = self._clock.now()
        ahead = self._reading.ahead(now, self._clock.elapsed()) if self._reading else 0.0
        if abs(ahead) <= TOLERANCE:
            self._told = 0.0
            return now
        if abs(ahead - self._told) > max(TOLERANCE, 0.1 * abs(self._told)):
            self._told = ahead
        raise ClockWrong(told(self._told))

    def hindrance(self) -> str:
        """Return the error message while the clock is wrong, or ""."""
        try:
            self.now()
        except ClockWrong as error:
            return str(error)
        return ""
