"""What is alive, and the end of what must not be: cloud listed first, store second."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from provisioner.core.cloud.machines import ENDING, Listing, Machine, MachineState
from provisioner.core.errors import CloudError
from provisioner.core.run.records import KnownMachine
from provisioner.ports.store import Live
from provisioner.service.installation import Installation

#: An instance stays listed for about an hour after its end (EC2 API, "DescribeInstances").
ABSENT = 3600.0
#: Status checks themselves run once a minute (EC2 User Guide, "Status checks for your instances").
EXAMINE_EVERY = 60.0
#: A terminate that shows no effect is asked again after this.
ASK_AGAIN = 10.0


@dataclass(frozen=True)
class CloudView:
    """What a look at the cloud showed."""

    listing: Listing
    #: Alive, of our installation, but of a launch this store never made: shown, never ended here.
    foreign: tuple[Machine, ...] = ()


class Endings:
    """Knows machines from listings, and asks for their end until a listing says it has come."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._examined_at = -math.inf
        #: When the last listing was asked for; None in a process that has not looked yet.
        self._looked_at: float | None = None
        #: When `insist` last asked, by the clock that is never set.
        self._insisted_at = -math.inf

    def look(self, live: Live, epoch: int) -> CloudView:
        """List and record. Raises CloudError when nothing could be listed: that is no empty cloud."""
        cloud, check, whole = self._installation.cloud, self._installation.check, True
        asked_at, before = self._installation.now(), self._looked_at
        try:
            listing = check.measure(cloud)
        except CloudError:
            # A zone in trouble can fail the whole listing: ask for those we know of.
            if not live.machines:
                raise
            began = check.began()
            listing, whole = cloud.machines_known([machine.id for machine in live.machines]), False
            check.read(listing.at, began)
        now, self._looked_at = self._installation.now(), None
        listed = {machine.id: machine for machine in listing.machines}
        known = {machine.id: machine for machine in live.machines}
        changed = [
            seen
            for machine in live.machines
            # From a listing that may lack a zone, absence says nothing.
            if (whole or machine.id in listed)
            and (seen := observe(machine, listed.get(machine.id), now, before)) != machine
        ]
        strangers = [each for each in listing.machines if each.id not in known and each.state not in ENDING]
        spare, foreign = self._sort(strangers, live, now)
        if changed or spare:
            self._installation.save([*changed, *spare], epoch=epoch)
        # Only what is recorded was seen.
        self._looked_at = asked_at if whole else None
        return CloudView(listing, tuple(foreign))

    def examine(self, silent: Iterable[KnownMachine], epoch: int) -> None:
        """Ask the cloud whether silent machines are impaired, now and then; what it says is recorded."""
        now, elapsed = self._installation.now(), self._installation.clock.elapsed()
        doubtful = [machine for machine in silent if machine.impaired_at is None and machine.state not in ENDING]
        if not doubtful or elapsed < self._examined_at + EXAMINE_EVERY:
            return
        self._examined_at = elapsed
        impaired = self._installation.cloud.impaired([machine.id for machine in doubtful])
        found = [replace(machine, impaired_at=now) for machine in doubtful if machine.id in impaired]
        if found:
            self._installation.save(found, epoch=epoch)

    def _sort(self, strangers: Sequence[Machine], live: Live, now: float) -> tuple[list[KnownMachine], list[Machine]]:
        """Those of closed launches of ours, which nobody claims; and those of launches we never made."""
        opened = {launch.id for launch in live.launches}
        candidates = [each for each in strangers if each.launch not in opened]
        if not candidates:
            return [], []
        store = self._installation.store
        ended = {machine.id: machine for machine in store.machines([each.id for each in candidates])}
        claimed = {node.instance_id for node in live.nodes if node.verdict is None}
        spare, foreign = [], []
        for each in candidates:
            if each.id in ended:
                # The machine was taken for gone, and a listing shows it alive, perhaps an old one. Without a verdict
                # on its node it is alive as before; otherwise it has to be ended after all.
                again = observe(ended[each.id], each, now)
                spare.append(again if each.id in claimed else _unclaimed(again, now))
            elif store.launch(each.launch):
                spare.append(_unclaimed(observe(KnownMachine(each.id, each.launch, each.offer, now), each, now), now))
            else:
                foreign.append(each)
        return spare, foreign

    def ask(self, machines: Iterable[KnownMachine], epoch: int) -> None:
        """Terminate those whose end is wanted and not under way."""
        now = self._installation.now()
        due = [
            machine
            for machine in machines
            if machine.end_wanted_at is not None
            and machine.state not in ENDING
            and (machine.end_asked_at is None or now >= machine.end_asked_at + ASK_AGAIN)
        ]
        if not due:
            return
        refused = self._installation.cloud.terminate([machine.id for machine in due])
        asked = [
            replace(
                machine,
                end_asked_at=now,
                end_accepted_at=machine.end_accepted_at if machine.id in refused else machine.end_accepted_at or now,
            )
            for machine in due
        ]
        self._installation.save(asked, epoch=epoch)

    def insist(self, machines: Iterable[KnownMachine]) -> None:
        """Terminate those whose end is wanted and not under way, and record nothing: for while the clock is wrong.

        Asks every ASK_AGAIN seconds. Raises CloudError.
        """
        elapsed = self._installation.clock.elapsed()
        due = [each.id for each in machines if each.end_wanted_at is not None and each.state not in ENDING]
        if due and elapsed >= self._insisted_at + ASK_AGAIN:
            self._insisted_at = elapsed
            self._installation.cloud.terminate(due)


def observe(machine: KnownMachine, listed: Machine | None, now: float, before: float | None = None) -> KnownMachine:
    """The machine as the listing shows it; absence counts only after an hour. `before` is when it was last listed."""
    if listed is None:
        absent = now - (machine.seen_at or machine.bound_at) > ABSENT
        return replace(machine, ended_at=now, reason=machine.reason or "no longer listed") if absent else machine
    ending, ended = listed.state in ENDING, listed.state is MachineState.TERMINATED
    return replace(
        machine,
        state=listed.state,
        launch_time=listed.launch_time,
        # Kept coarse: only whether it was listed within the hour matters, and each write costs.
        seen_at=now if machine.seen_at is None or now > machine.seen_at + 600 else machine.seen_at,
        reason_code=listed.reason_code,
        reason=listed.reason,
        ending=listed.ending,
        running_at=now if machine.running_at is None and listed.state is MachineState.RUNNING else machine.running_at,
        ending_at=(machine.ending_at or now) if ending else None,
        ended_at=now if ended else None,
        alive_at=before if ending and machine.ending_at is None and machine.seen_at else machine.alive_at,
        transition_at=listed.transition_at if ending else None,
    )


def _unclaimed(machine: KnownMachine, now: float) -> KnownMachine:
    return replace(machine, end_wanted_at=now, end_wanted_for="no run claims it")
