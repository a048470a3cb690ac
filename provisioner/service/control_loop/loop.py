"""Hold the lease, and make passes at intervals while this process holds the lease."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from provisioner.core.errors import (
    ClockWrong,
    CloudError,
    LeaseLost,
    NeedsOperator,
    ProvisionError,
    Retryable,
    WrongStore,
)
from provisioner.ports.store import Lease
from provisioner.service.control_loop.one_pass import PassError, PassResult
from provisioner.service.control_loop.ownership import claim, compare
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.installation import Installation


@dataclass(frozen=True)
class Intervals:
    """Intervals and limits in seconds, with the cost of their calls."""

    #: From the start of a pass to the start of the next, while a run, machine or launch is live. A pass makes one
    #: DescribeInstances and one LIST, about $0.02 an hour.
    busy: float = 1.0
    #: Between passes while no run, machine or launch is live. A pass and a sweep make one DescribeInstances each, which
    #: is free.
    idle: float = 60.0
    #: Between two reads of the store's `changes`, which show writes by other processes. A read makes no cloud call.
    glance: float = 0.025
    #: Several new runs during one pass are a burst. The next pass begins when nothing has been stored for `quiet`
    #: seconds, or after `burst` seconds: so a burst takes few launches, and no run waits long.
    quiet: float = 0.1
    burst: float = 2.0
    #: The longest time for copying long logs in a process that makes only one pass.
    copying: float = 10.0
    #: Between two reads of the bucket's owner by the holder of the lease; costs about $0.03 a month.
    owner: float = 30.0
    #: Until the lease of a holder that hangs expires. The lease of a process that died can be acquired at once.
    lease: float = 120.0


def never() -> float:
    """Return infinity, as an alarm that is never due."""
    return math.inf


def nothing() -> bool:
    """Do no work between passes, and return False."""
    return False


class Loop:
    """Makes passes while this process holds the lease, and waits while another process holds it."""

    def __init__(
        self, installation: Installation, reconciler: Reconciler, holder: str, kind: str, intervals: Intervals
    ) -> None:
        self._installation = installation
        self._reconciler = reconciler
        self._holder = holder
        self._kind = kind
        self._intervals = intervals
        self._lease: Lease | None = None
        #: Monotonic time of the last read of the bucket's owner.
        self._claimed_at = -math.inf
        #: Duration of the last pass, in seconds.
        self._took = 0.0
        #: For `when_due`: the monotonic time of the next pass, and the store's `changes` that the last pass has seen.
        self._due, self._seen = -math.inf, -1

    @property
    def acting(self) -> bool:
        """Whether this process holds the lease."""
        return self._lease is not None

    def acquire(self) -> bool:
        """Acquire or renew the lease; return whether it is held. Raises WrongStore if another store owns the bucket."""
        store, now = self._installation.store, self._installation.clock.now()
        if self._lease is not None:
            try:
                self._lease = store.renew(self._lease, now, self._intervals.lease)
                self._check_owner()
                return True
            except LeaseLost:
                self._lease = None
        self._lease = store.acquire(self._holder, self._kind, now, self._intervals.lease)
        if self._lease is not None:
            try:
                claim(self._installation)
            except ProvisionError as error:
                if _needs_person(error):
                    with contextlib.suppress(ProvisionError):
                        self._reconciler.hold(self._lease, error)
                self.release()
                raise
            self._claimed_at = self._installation.clock.elapsed()
        return self._lease is not None

    def _check_owner(self) -> None:
        """Release the lease and raise WrongStore if another store has taken the bucket over meanwhile."""
        elapsed = self._installation.clock.elapsed()
        if elapsed < self._claimed_at + self._intervals.owner:
            return
        self._claimed_at = elapsed
        try:
            compare(self._installation)
        except WrongStore:
            self.release()
            raise
        except (Retryable, CloudError):
            # Make the pass although the bucket's owner cannot be read: this store was the owner at the last read.
            return

    def once(self) -> PassResult | None:
        """Make one pass and return its result, or None if another process holds the lease."""
        try:
            if not self.acquire() or self._lease is None:
                return None
            clock = self._installation.clock
            began = clock.elapsed()
            this_pass = self._reconciler.once(self._lease)
            self._took = clock.elapsed() - began
            self._installation.meter.passed(self._took, clock.now(), whole=this_pass.foreign is not None)
            return this_pass
        except LeaseLost:
            self._lease = None
            return None
        except Retryable as error:
            # The bucket's owner cannot be read yet, so this process must not act.
            return PassResult(busy=not _needs_person(error), errors=[PassError(error)])

    def when_due(self) -> PassResult | None:
        """Make a pass if one is due and return its result, else None; for callers that do other work between passes."""
        clock, store = self._installation.clock, self._installation.store
        if clock.elapsed() < self._due and store.changes() == self._seen:
            if self.acting:
                self._reconciler.copy_logs()
            return None
        this_pass = self.once()
        self._due, self._seen = clock.elapsed() + self._pause(this_pass), self._last_seen(this_pass)
        return this_pass

    def single(self) -> PassResult | None:
        """Make one pass and return its result, or None if another process holds the lease.

        For a process that makes no other pass. After the pass, copy long logs for at most `copying` seconds; if any
        were copied, make a second pass.
        """
        this_pass, clock = self.once(), self._installation.clock
        end, copied = clock.elapsed() + self._intervals.copying, False
        while this_pass and clock.elapsed() < end and self._reconciler.copy_logs():
            copied = True
        return self.once() if copied else this_pass

    def run(
        self,
        until: Callable[[], bool],
        told: Callable[[PassResult], None] = lambda _: None,
        alarm: Callable[[], float] = never,
    ) -> None:
        """Make passes until `until()` is true, and call `told` with each result. Release the lease at the end.

        `alarm` is called after each pass. It does the work that is due, and returns the Unix time of its next call.
        """
        try:
            while not until():
                this_pass = self.once()
                if this_pass:
                    told(this_pass)
                if until():
                    return
                left = alarm() - self._installation.clock.now()
                if this_pass and this_pass.outrun > 1:
                    self._gather(until)
                else:
                    spare = self._reconciler.use_spare_time if this_pass else nothing
                    self._rest(min(left, self._pause(this_pass)), until, self._last_seen(this_pass), spare)
        finally:
            self.release()

    def ring(self, until: Callable[[], bool], alarm: Callable[[], float]) -> None:
        """Call `alarm` whenever it is due, without making passes, until `until()` is true."""
        while not until():
            seen = self._installation.store.changes()
            left = alarm() - self._installation.clock.now()
            self._rest(min(left, self._intervals.idle), until, seen)

    def release(self) -> None:
        """Release the lease, so that another process can act at once.

        If the store cannot be written, the lease stays until this process ends.
        """
        if self._lease:
            with contextlib.suppress(Retryable):
                self._installation.store.release(self._lease)
            self._lease = None

    def _last_seen(self, this_pass: PassResult | None) -> int:
        """Return the store's `changes` before the pass last read the store, or the present ones if the pass did not."""
        return self._installation.store.changes() if this_pass is None or this_pass.seen is None else this_pass.seen

    def _rest(self, seconds: float, until: Callable[[], bool], seen: int, spare: Callable[[], bool] = nothing) -> None:
        """Wait for `seconds`, or until the store's `changes` differ from `seen` or `until()` is true.

        Meanwhile call `spare`, which does a part of the deferred work and returns whether there was any. `spare` gets
        half of the time, so that requests, which share the processor with it, get the other half.
        """
        clock, store = self._installation.clock, self._installation.store
        end = clock.now() + seconds
        while 0 < (left := end - clock.now()) <= seconds and store.changes() == seen and not until():
            began = clock.elapsed()
            worked = spare()
            clock.wait(min(left, clock.elapsed() - began if worked else self._intervals.glance))

    def _gather(self, until: Callable[[], bool]) -> None:
        """Wait for the end of a burst of new runs, as `quiet` and `burst` of Intervals define it."""
        clock, store = self._installation.clock, self._installation.store
        end, seen = clock.now() + self._intervals.burst, -1
        while 0 < end - clock.now() <= self._intervals.burst and store.changes() != seen and not until():
            seen = store.changes()
            clock.wait(self._intervals.quiet)

    def _pause(self, this_pass: PassResult | None) -> float:
        if this_pass and this_pass.outrun:
            return self._intervals.quiet if this_pass.outrun > 1 else 0.0
        if this_pass is None:
            return self._intervals.busy
        if this_pass.busy:
            # The next pass begins `busy` seconds after this one began, or after a short pause if this one took long.
            return max(self._intervals.busy - self._took, self._intervals.busy / 4)
        if this_pass.next_try_at is None:
            return self._intervals.idle
        # Wait at least `glance`: a try that fails at once must not be repeated in a busy loop.
        wait = this_pass.next_try_at - self._installation.clock.now()
        return min(self._intervals.idle, max(self._intervals.glance, wait))


def _needs_person(error: Exception) -> TypeGuard[NeedsOperator]:
    """Return whether the operator must act, so that the next try may wait. A wrong clock is compared in every pass."""
    return isinstance(error, NeedsOperator) and not isinstance(error, ClockWrong)
