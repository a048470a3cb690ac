"""List the machines, record what the listing shows, and terminate the machines that are no longer needed."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from provisioner.core.cloud.machines import ENDING, Listing, Machine
from provisioner.core.errors import CloudError, Retryable
from provisioner.core.run import story
from provisioner.core.run.machines import listings
from provisioner.core.run.machines.listings import ASK_AGAIN, Strangers
from provisioner.core.run.records import Assignment, KnownMachine, Live, Record, Run
from provisioner.service.installation import Installation

#: Seconds between two reads of the status checks, which EC2 makes once a minute (User Guide, "Status checks for your
#: instances").
EXAMINE_EVERY = 60.0
#: Maximum number of characters that are stored from the end of a machine's console output.
CONSOLE_TAIL = 4000


@dataclass(frozen=True)
class CloudView:
    """The machines of a listing."""

    listing: Listing
    #: Machines of this installation whose launch is not in this store. Passes report them, and never terminate them.
    foreign: tuple[Machine, ...] = ()


class Machines:
    """Records machines from listings, and requests their termination until a listing shows them terminated."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._examined_at = -math.inf
        #: When the last listing was requested, if it was complete and recorded; otherwise None.
        self._looked_at: float | None = None
        #: Monotonic time of the last request of `insist`.
        self._insisted_at = -math.inf

    def look(self, live: Live, epoch: int) -> CloudView:
        """List the machines and record what has changed. Raises CloudError if no machines could be listed."""
        cloud, check, whole = self._installation.cloud, self._installation.check, True
        asked_at, before = self._installation.now(), self._looked_at
        try:
            listing = check.measure(cloud)
        except CloudError:
            # An outage of one zone can fail the whole listing. List only the machines in the store.
            if not live.machines:
                raise
            began = check.began()
            listing, whole = cloud.machines_known([machine.id for machine in live.machines]), False
            check.read(listing.at, began)
        now, self._looked_at = self._installation.now(), None
        listed = {machine.id: machine for machine in listing.machines}
        changed = listings.changed(live, listed, now, before, whole=whole)
        strangers = self._strangers(listings.unknown(live, listing.machines), live, now)
        if changed or strangers.spare:
            self._installation.save([*changed, *strangers.spare], epoch=epoch)
        # Set this only now: a listing that could not be recorded must not count.
        self._looked_at = asked_at if whole else None
        return CloudView(listing, tuple(strangers.foreign))

    def _strangers(self, unknown: Sequence[Machine], live: Live, now: float) -> Strangers:
        if not unknown:
            return Strangers()
        store = self._installation.store
        ended = {machine.id: machine for machine in store.machines([each.id for each in unknown])}
        launches = {each.launch for each in unknown if each.id not in ended}
        ours = {launch for launch in launches if store.launch(launch)}
        return listings.sort_strangers(unknown, live, ended, ours, now)

    def examine(self, silent: Iterable[KnownMachine], epoch: int) -> None:
        """Record which silent machines EC2's status checks report as impaired, at most every EXAMINE_EVERY seconds.

        Raises CloudError.
        """
        now, elapsed = self._installation.now(), self._installation.clock.elapsed()
        doubtful = [machine for machine in silent if machine.impaired_at is None and machine.state not in ENDING]
        if not doubtful or elapsed < self._examined_at + EXAMINE_EVERY:
            return
        self._examined_at = elapsed
        impaired = self._installation.cloud.impaired([machine.id for machine in doubtful])
        found = [replace(machine, impaired_at=now) for machine in doubtful if machine.id in impaired]
        if found:
            self._installation.save(found, epoch=epoch)

    def terminate(self, due: Collection[KnownMachine], epoch: int) -> None:
        """Request the termination of these machines and record it. Raises CloudError."""
        if not due:
            return
        now = self._installation.now()
        refused = self._installation.cloud.terminate([machine.id for machine in due])
        self._installation.save(listings.terminated(due, refused, now), epoch=epoch)

    def insist(self, machines: Iterable[KnownMachine]) -> None:
        """Repeat the termination of machines, for use while this computer's clock is wrong; store nothing.

        Only machines whose termination was decided before are terminated. Sends a request at most every ASK_AGAIN
        seconds. Raises CloudError.
        """
        elapsed = self._installation.clock.elapsed()
        due = [each.id for each in listings.wanted_and_alive(machines)]
        if due and elapsed >= self._insisted_at + ASK_AGAIN:
            self._insisted_at = elapsed
            self._installation.cloud.terminate(due)

    def keep_console(self, run: Run, held: Assignment) -> Sequence[Record]:
        """Return the machine with the end of its console, and an event. Raises Retryable.

        Returns an empty sequence while a machine that has not ended has no console output.
        """
        try:
            text = self._installation.cloud.console(held.machine.id)[-CONSOLE_TAIL:]
        except Retryable:
            raise
        except CloudError as error:
            text = f"(the console output cannot be read: {error})"
        if not text and held.machine.ended_at is None:
            return ()
        machine = replace(held.machine, console=text or "(the cloud has no console output)")
        return [machine, story.console_kept(run, held.node, machine.console, self._installation.now())]
