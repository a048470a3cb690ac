"""Who acts, and how often: the lease around the passes."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from provisioner.core.errors import CloudError, LeaseLost, ProvisionError, Retryable, WrongStore
from provisioner.ports.store import Lease
from provisioner.service.control_loop.one_pass import PassError, PassResult
from provisioner.service.control_loop.ownership import claim, compare
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.installation import Installation


@dataclass(frozen=True)
class Intervals:
    """How often what is done, in seconds, and what it costs in calls."""

    #: With something alive, from the begin of a pass to that of the next one: one DescribeInstances and one LIST a
    #: pass, about $0.02 an hour.
    busy: float = 1.0
    #: With nothing alive: one sweep, two DescribeInstances, which are free.
    idle: float = 60.0
    #: Whether another process has stored a run or a wish is looked at this often; no call is made for it.
    glance: float = 0.025
    #: Several runs within one pass are a burst: it is over when nothing was stored for `quiet`, and
    #: waited for no longer than `burst`, so that it takes few launches and nobody waits long.
    quiet: float = 0.1
    burst: float = 2.0
    #: A process that makes only one pass copies long logs for no longer than this.
    copying: float = 10.0
    #: How often the holder of the lease reads whose the bucket is: about $0.03 a month.
    owner: float = 30.0
    #: A holder that hangs loses its lease after this; one that died loses it at once.
    lease: float = 120.0


def never() -> float:
    """The alarm of who has none."""
    return math.inf


def nothing() -> bool:
    """No work for the time between passes."""
    return False


class Loop:
    """Drives the reconciler while it holds the lease; stands by while another does."""

    def __init__(
        self, installation: Installation, reconciler: Reconciler, holder: str, kind: str, intervals: Intervals
    ) -> None:
        self._installation = installation
        self._reconciler = reconciler
        self._holder = holder
        self._kind = kind
        self._intervals = intervals
        self._lease: Lease | None = None
        #: When the owner of the bucket was last compared.
        self._claimed_at = -math.inf
        #: Seconds that the last pass took.
        self._took = 0.0
        #: When the next pass is due, and what the store's changes were when that was decided.
        self._due, self._seen = -math.inf, -1

    @property
    def acting(self) -> bool:
        """Whether the lease is held here."""
        return self._lease is not None

    def acquire(self) -> bool:
        """Hold the lease, if nobody else does; raises WrongStore when this store must not act."""
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
            except ProvisionError:
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
            # A bucket that cannot be read stops no pass: this store owned it at the last comparison.
            return

    def once(self) -> PassResult | None:
        """One pass, or None when another process acts."""
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
            # The bucket does not say whose it is: nothing may be done yet.
            return PassResult(busy=True, errors=[PassError(error)])

    def when_due(self) -> PassResult | None:
        """A pass if it is time for one: for those who have something else to do between passes."""
        clock, store = self._installation.clock, self._installation.store
        if clock.elapsed() < self._due and store.changes() == self._seen:
            if self.acting:
                self._reconciler.copy_logs()
            return None
        this_pass = self.once()
        self._due, self._seen = clock.elapsed() + self._pause(this_pass), self._last_seen(this_pass)
        return this_pass

    def single(self) -> PassResult | None:
        """One pass, or None when another process acts; a second pass if long logs were copied after the first one.

        For a process that makes no other pass, and so cannot copy a part of a log in each pass.
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
        """Do passes until `until()`, and hand each result to `told`. Give the lease back at the end.

        `alarm` does what is due after each pass, and says when it wants to be called again.
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
                    spare = self._reconciler.copy_logs if this_pass else nothing
                    self._rest(min(left, self._pause(this_pass)), until, self._last_seen(this_pass), spare)
        finally:
            self.release()

    def ring(self, until: Callable[[], bool], alarm: Callable[[], float]) -> None:
        """The alarm alone, without a pass, until `until()`."""
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
        """The store's `changes` of which the pass knew; as they are where there was none, which soon comes again."""
        return self._installation.store.changes() if this_pass is None or this_pass.seen is None else this_pass.seen

    def _rest(self, seconds: float, until: Callable[[], bool], seen: int, spare: Callable[[], bool] = nothing) -> None:
        """Wait, but no longer than until another process has written to the store since `seen`, or `until()`.

        Call `spare` for work that can wait, as long as it returns that there is some.
        """
        clock, store = self._installation.clock, self._installation.store
        end = clock.now() + seconds
        while 0 < (left := end - clock.now()) <= seconds and store.changes() == seen and not until():
            if not spare():
                clock.wait(min(left, self._intervals.glance))

    def _gather(self, until: Callable[[], bool]) -> None:
        """Wait for the end of a burst of runs."""
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
            # A pass that takes long delays the next one no further, but the calls of a pass are not made without rest.
            return max(self._intervals.busy - self._took, self._intervals.busy / 4)
        if this_pass.next_try_at is None:
            return self._intervals.idle
        # A floor, so that a try that cannot even begin is not repeated without a breath.
        wait = this_pass.next_try_at - self._installation.clock.now()
        return min(self._intervals.idle, max(self._intervals.glance, wait))
