"""Update the records of machines from a listing of the cloud, and choose the machines to terminate.

EC2's listings lag, and may omit a machine that exists (EC2 API, "Eventual consistency"). So a machine counts as gone
only after an hour of absence.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from provisioner.core.cloud.machines import ENDING, Machine, MachineState
from provisioner.core.run.records import KnownMachine, Live

#: An instance stays listed for about an hour after its end (EC2 API, "DescribeInstances").
ABSENT = 3600.0
#: Seconds after which a termination that shows no effect is requested again.
ASK_AGAIN = 10.0
#: Least seconds between two writes of `seen_at`, which is only compared with ABSENT.
SEEN_EVERY = 600.0


@dataclass(frozen=True)
class Strangers:
    """Listed machines that are alive and not among the live machines of the store."""

    #: Machines of our closed launches, to be saved. Those that no node claims are to be terminated.
    spare: list[KnownMachine] = field(default_factory=list)
    #: Machines of launches that this store never made: they are shown, and never terminated here.
    foreign: list[Machine] = field(default_factory=list)


def observe(machine: KnownMachine, listed: Machine | None, now: float, before: float | None = None) -> KnownMachine:
    """Return the machine as the listing shows it, or as gone if it has been absent for ABSENT seconds.

    `before` is when the listing before this one was requested, or None.
    """
    if listed is None:
        absent = now - (machine.seen_at or machine.bound_at) > ABSENT
        return replace(machine, ended_at=now, reason=machine.reason or "no longer listed") if absent else machine
    ending, ended = listed.state in ENDING, listed.state is MachineState.TERMINATED
    return replace(
        machine,
        state=listed.state,
        launch_time=listed.launch_time,
        # EC2 no longer shows the address of a machine that has ended.
        address=listed.address or machine.address,
        lifetime=machine.lifetime if listed.lifetime is None else listed.lifetime,
        seen_at=now if machine.seen_at is None or now > machine.seen_at + SEEN_EVERY else machine.seen_at,
        reason_code=listed.reason_code,
        reason=listed.reason,
        ending=listed.ending,
        running_at=now if machine.running_at is None and listed.state is MachineState.RUNNING else machine.running_at,
        ending_at=(machine.ending_at or now) if ending else None,
        ended_at=now if ended else None,
        alive_at=before if ending and machine.ending_at is None and machine.seen_at else machine.alive_at,
        transition_at=listed.transition_at if ending else None,
    )


def changed(
    live: Live, listed: Mapping[str, Machine], now: float, before: float | None, *, whole: bool
) -> list[KnownMachine]:
    """Return the updated records of the live machines that the listing changes; `before` is as in `observe`.

    `whole` is False if the listing may lack a zone: then a machine's absence proves nothing.
    """
    return [
        seen
        for machine in live.machines
        if (whole or machine.id in listed)
        and (seen := observe(machine, listed.get(machine.id), now, before)) != machine
    ]


def unknown(live: Live, listed: Iterable[Machine]) -> list[Machine]:
    """Return the listed machines that are alive, but neither live in the store nor of an open launch."""
    known, opened = {machine.id for machine in live.machines}, {launch.id for launch in live.launches}
    return [each for each in listed if each.id not in known and each.state not in ENDING and each.launch not in opened]


def sort_strangers(
    strangers: Sequence[Machine], live: Live, ended: Mapping[str, KnownMachine], ours: Collection[str], now: float
) -> Strangers:
    """Sort the machines that `unknown` returned into spare and foreign ones.

    `ended` maps the ids of those machines that are stored as gone to their records. `ours` contains the ids of the
    launches that this store made.
    """
    claimed = {node.instance_id for node in live.nodes if node.verdict is None}
    found = Strangers()
    for each in strangers:
        if each.id in ended:
            # The machine is stored as gone, but this listing, which may be out of date, shows it alive. If its
            # node has no verdict, it is stored as alive again. Otherwise it must be terminated.
            again = observe(ended[each.id], each, now)
            found.spare.append(again if each.id in claimed else _unclaimed(again, now))
        elif each.launch in ours:
            fresh = KnownMachine(each.id, each.launch, each.offer, now)
            found.spare.append(_unclaimed(observe(fresh, each, now), now))
        else:
            found.foreign.append(each)
    return found


def to_terminate(machines: Iterable[KnownMachine], now: float) -> list[KnownMachine]:
    """Return the machines whose end is wanted, not under way, and not requested in the last ASK_AGAIN seconds."""
    return [
        machine
        for machine in wanted_and_alive(machines)
        if machine.end_asked_at is None or now >= machine.end_asked_at + ASK_AGAIN
    ]


def wanted_and_alive(machines: Iterable[KnownMachine]) -> list[KnownMachine]:
    """Return the machines whose end is wanted and not under way."""
    return [each for each in machines if each.end_wanted_at is not None and each.state not in ENDING]


def terminated(asked: Iterable[KnownMachine], refused: Collection[str], now: float) -> list[KnownMachine]:
    """Return the records of machines after a request to terminate them; EC2 refused it for the ids in `refused`."""
    return [
        replace(
            machine,
            end_asked_at=now,
            end_accepted_at=machine.end_accepted_at if machine.id in refused else machine.end_accepted_at or now,
        )
        for machine in asked
    ]


def _unclaimed(machine: KnownMachine, now: float) -> KnownMachine:
    return replace(machine, end_wanted_at=now, end_wanted_for="no run needs it")
