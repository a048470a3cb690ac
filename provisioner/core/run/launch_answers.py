"""Apply the answer to a launch: each of its runs gets a machine, waits for its next try, or ends."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from provisioner.core.cloud.launches import Refusal
from provisioner.core.cloud.machine_images import raised_disk
from provisioner.core.cloud.offers import Market
from provisioner.core.errors import CloudError, Misconfigured, NeedsOperator, NoCapacity, QuotaExceeded
from provisioner.core.protocol.keys import mailbox
from provisioner.core.protocol.words import Outcome
from provisioner.core.run import capacity, story
from provisioner.core.run.progress import refuse
from provisioner.core.run.records import Assignment, Drought, KnownMachine, Launch, Node, Record, Run, Tried, Verdict
from provisioner.core.run.states import State, Waiting, transition
from provisioner.core.run.work_order import recipe_of

#: Seconds of the first wait, by cause, after errors that would recur with other offers. The wait doubles up to LONGEST.
FIRST = {Waiting.CAPACITY: 30.0, Waiting.QUOTA: 60.0, Waiting.THROTTLE: 2.0, Waiting.OPERATOR: 60.0}
LONGEST = 600.0
#: Errors that make the refused offer dry, so that the next launch requests others.
DRYING = (NoCapacity, Misconfigured)
#: Maximum number of refusals that are kept to be shown for a run.
REMEMBERED = 20


def answered(
    launch: Launch,
    runs: Sequence[Run],
    machines: Sequence[KnownMachine],
    refusals: Sequence[Refusal],
    droughts: Mapping[str, Drought],
    epoch: int,
    now: float,
    kept: Sequence[Assignment] = (),
    vcpus: Mapping[str, int] = MappingProxyType({}),
) -> list[Record]:
    """Return the records to save, in one transaction, after the answer to a launch.

    `runs` are the runs of the launch. Those that are still launching get a machine each, in order, or the only run of a
    launch of machines that work together gets all of them. Surplus machines are to be terminated, and surplus runs wait
    or are refused. `droughts` are by id. `kept` are the nodes whose machines the only run of a launch for some of its
    ranks uses again. `vcpus` is as in `unfilled`.
    """
    waiting = [run for run in runs if run.launch == launch.id and run.state is State.LAUNCHING]
    each = launch.request.count if launch.request.together else 1
    served = min(len(waiting), len(machines) // each)
    why = (
        "no run needs it" if served == len(waiting) else f"the run needs {each} machines, but got only {len(machines)}"
    )
    if launch.ranks and waiting and len(kept) + each != waiting[0].together:
        # Another machine was lost during the launch, so the launch lacks a rank.
        served, why = 0, "another machine of its run was lost meanwhile"
    records: list[Record] = []
    for place, run in enumerate(waiting[:served]):
        records += _bound(launch, run, machines[place * each : (place + 1) * each], kept, epoch, now)
    for spare in machines[served * each :]:
        records.append(replace(spare, end_wanted_at=now, end_wanted_for=why))
    for run in waiting[served:]:
        recipe = recipe_of(run)
        waits = unfilled(run, refusals, len(recipe.spec.markets) if recipe else 1, now, vcpus)
        records += [waits, story.no_machine(waits, launch.id, now)]
    return [*records, *closed(launch, machines, refusals, droughts, now)]


def closed(
    launch: Launch,
    machines: Sequence[KnownMachine],
    refusals: Sequence[Refusal],
    droughts: Mapping[str, Drought],
    now: float,
) -> list[Record]:
    """Return the launch, closed, and the droughts that its answer begins or ends."""
    refused = [(each.offer, each.error.code) for each in refusals if each.offer and _dries(each)]
    given = [machine.offer for machine in machines]
    dry = capacity.after_refusals(refused, given, droughts, set(launch.request.subnets), now)
    result = f"{len(machines)} of {launch.request.count} machines"
    return [*dry, replace(launch, closed_at=now, result=result)]


def new_node(launch: Launch, run: Run, attempt: int, rank: int, machine: KnownMachine, epoch: int, now: float) -> Node:
    """Return the node of a rank on a machine of the launch."""
    template = launch.request.template
    return Node(
        id=f"{run.id}.{attempt}.{rank}",
        run=run.id,
        attempt=attempt,
        rank=rank,
        launch=launch.id,
        template=template.name,
        instance_id=machine.id,
        box=mailbox(template.role_id, machine.id),
        bound_at=now,
        epoch=epoch,
    )


def _bound(
    launch: Launch, run: Run, machines: Sequence[KnownMachine], kept: Sequence[Assignment], epoch: int, now: float
) -> list[Record]:
    attempt, ranks = run.attempt + 1, launch.ranks or range(len(machines))
    nodes = [
        new_node(launch, run, attempt, rank, machine, epoch, now) for rank, machine in zip(ranks, machines, strict=True)
    ]
    nodes += [_again(each.node, attempt, epoch, now) for each in kept]
    state = transition(run.state, State.BOOTING)
    bound = replace(
        run,
        state=state,
        attempt=attempt,
        offer=machines[0].offer,
        ranks_stop=None,
        kept_until=None,
        dry_launches=0,
        hopeless_launches=0,
        tier=0,
        waiting=None,
        waiting_for="",
    )
    return [*nodes, bound, *machines, story.bound(bound, machines, len(kept), now, _disk_note(run, launch))]


def _disk_note(run: Run, launch: Launch) -> str:
    """Return a note if the machines have a larger disk than the recipe asks for, else ""."""
    template = launch.request.template
    if template.disk_gib != template.image.disk_gib:
        return ""
    recipe = recipe_of(run)
    return raised_disk(recipe.spec.placement.disk_gib, template.image) if recipe else ""


def _again(node: Node, attempt: int, epoch: int, now: float) -> Node:
    """Return the node of a later attempt on the same machine."""
    return Node(
        id=f"{node.run}.{attempt}.{node.rank}",
        run=node.run,
        attempt=attempt,
        rank=node.rank,
        launch=node.launch,
        template=node.template,
        instance_id=node.instance_id,
        box=node.box,
        bound_at=now,
        epoch=epoch,
        reused=True,
    )


#: By state of a run in a store that was restored from a backup: the states up to `booting`, for a machine that was
#: launched after the backup.
_TO_MACHINE = {
    State.QUEUED: (State.LAUNCHING, State.BOOTING),
    State.LAUNCHING: (State.BOOTING,),
    State.BOOTING: (State.STOPPING, State.QUEUED, State.LAUNCHING, State.BOOTING),
    State.PREPARING: (State.STOPPING, State.QUEUED, State.LAUNCHING, State.BOOTING),
    State.RUNNING: (State.STOPPING, State.QUEUED, State.LAUNCHING, State.BOOTING),
    State.STOPPING: (State.QUEUED, State.LAUNCHING, State.BOOTING),
}


@dataclass(frozen=True)
class Found:
    """A living machine whose mailbox has the work order of a rank, and this mailbox."""

    rank: int
    machine: KnownMachine
    box: str
    #: Whether the machine has worked for an earlier attempt of the run.
    reused: bool = False


def adopted(
    run: Run, nodes: Sequence[Node], attempt: int, found: Sequence[Found], epoch: int, now: float
) -> list[Record]:
    """Return the records to save for the machines that carry out an attempt which the store does not know.

    `nodes` are the run's nodes. Their attempts are over, because a later attempt has begun: nodes without a verdict get
    the verdict `lost`. Returns no records if the run has ended, or already has this attempt.
    """
    if run.ended_at is not None or attempt <= run.attempt:
        return []
    state = run.state
    for following in _TO_MACHINE[state]:
        state = transition(state, following)
    reason = "the store was restored from a backup made before the attempt ended"
    over = [
        replace(node, verdict=Verdict(Outcome.LOST, reason, now), result_sought_at=now)
        for node in nodes
        if node.verdict is None
    ]
    taken = [
        Node(
            id=f"{run.id}.{attempt}.{each.rank}",
            run=run.id,
            attempt=attempt,
            rank=each.rank,
            launch=each.machine.launch,
            template="",
            instance_id=each.machine.id,
            box=each.box,
            bound_at=now,
            epoch=epoch,
            work_put_at=now,
            reused=each.reused,
        )
        for each in found
    ]
    run = replace(
        run,
        state=state,
        attempt=attempt,
        launch=found[0].machine.launch,
        offer=found[0].machine.offer,
        ranks_stop=None,
        kept_until=None,
        waiting=None,
        waiting_for="",
    )
    machines = [each.machine for each in found]
    return [*over, *taken, run, *machines, *(story.adopted(run, machine, now) for machine in machines)]


def unfilled(
    run: Run,
    refusals: Sequence[Refusal],
    tiers: int,
    now: float,
    vcpus: Mapping[str, int] = MappingProxyType({}),
) -> Run:
    """Return the run, queued again with the cause and the time of the next try, or refused if no try can succeed.

    Refused offers without capacity are dry now, so the next try may follow at once with other offers. After an error
    that would recur in the next try, the run tries its next market, or waits. `vcpus` has the vCPUs of the instance
    types that the launch requested, as far as they are known: a quota that is too small for all of them is permanent.
    """
    tried = tuple(Tried(_subject(refusal), _code(refusal.error), now) for refusal in refusals)
    errors = [refusal.error for refusal in refusals]
    # A quota does not belong to an offer: another zone has the same quota, so no offer becomes dry.
    whole = [refusal.error for refusal in refusals if not _dries(refusal)]
    cause = _cause(whole or errors)
    text = "; ".join(dict.fromkeys(map(str, errors))) or "EC2 launched too few machines and returned no error"
    never = _never(run, refusals, vcpus)
    run = replace(
        run,
        launch="",
        tried=(run.tried + tried)[-REMEMBERED:],
        hopeless_launches=run.hopeless_launches + 1 if never else 0,
    )
    if errors and all(isinstance(error, Misconfigured) for error in errors):
        return refuse(run, str(errors[0]), now)
    if run.hopeless_launches >= tiers:
        return refuse(run, f"{text}; {never}", now)
    run = replace(run, state=transition(run.state, State.QUEUED))
    if cause is Waiting.OPERATOR:
        # Such a try says nothing about capacity.
        wait = min(LONGEST, FIRST[cause] * 2 ** (_last_tries(run.tried, {_code(error) for error in errors}) - 1))
        return replace(run, waiting=cause, waiting_for=text, next_try_at=now + wait)
    run = replace(run, dry_launches=run.dry_launches + 1)
    # Within a round through all markets, try the next market at once. Wait after a round that gave no machine.
    rounds, within = divmod(run.dry_launches, tiers)
    at_once = errors and (not whole or within > 0) and cause is not Waiting.THROTTLE
    wait = 0.0 if at_once else min(LONGEST, FIRST[cause] * 2 ** min(max(rounds - 1, 0), 10))
    tier = (run.tier + 1) % tiers if whole and cause is not Waiting.THROTTLE else run.tier
    return replace(run, waiting=cause, waiting_for=text, next_try_at=now + wait, tier=tier)


def _dries(refusal: Refusal) -> bool:
    """Return whether the refusal is about one offer: the next launch may succeed with another offer.

    A run has one reservation, and another reservation of the same type may have room, so no reserved offer becomes dry.
    """
    offer = refusal.offer
    return offer is not None and offer.market is not Market.RESERVED and isinstance(refusal.error, DRYING)


def _cause(errors: Sequence[CloudError]) -> Waiting:
    if any(isinstance(error, NeedsOperator) for error in errors):
        return Waiting.OPERATOR
    if any(isinstance(error, QuotaExceeded) for error in errors):
        return Waiting.QUOTA
    if not errors or any(isinstance(error, NoCapacity | Misconfigured) for error in errors):
        return Waiting.CAPACITY
    return Waiting.THROTTLE


def _last_tries(tried: Sequence[Tried], codes: Collection[str]) -> int:
    """Return the number of the latest tries in a row that failed with these codes; a try may have several entries."""
    last = itertools.takewhile(lambda each: each.code in codes, reversed(tried))
    return len({each.at for each in last})


def _never(run: Run, refusals: Sequence[Refusal], vcpus: Mapping[str, int]) -> str:
    """Return why the quotas can never be enough for the run, with any type of the launch; else ""."""
    reasons, types, hopeless = dict[str, None](), set(vcpus), set[str]()
    for refusal in refusals:
        concerned = {refusal.offer.instance_type} if refusal.offer else set(vcpus) or {"a machine"}
        types |= concerned
        if isinstance(refusal.error, Misconfigured):
            hopeless |= concerned
        elif too_much := _too_much(run.together, concerned, refusal.error, vcpus):
            reasons[too_much] = None
            hopeless |= concerned
    return "; ".join(reasons) if types == hopeless else ""


def _too_much(machines: int, types: Collection[str], error: CloudError, vcpus: Mapping[str, int]) -> str:
    """Return how much the machines, of one of these types, need, if it is more than the quota; else ""."""
    if not isinstance(error, QuotaExceeded):
        return ""
    if error.machines is not None and machines > error.machines:
        return f"the run needs {machines} machine{'' if machines == 1 else 's'}"
    least = machines * min((vcpus[name] for name in types if name in vcpus), default=0)
    if error.vcpus is None or (least <= error.vcpus and error.vcpus > 0):
        return ""
    named = " or ".join(sorted(types))
    each = f"{machines} machines of {named} need" if machines > 1 else f"{named} needs"
    return f"{each} {least or 'some'} vCPUs"


def _subject(refusal: Refusal) -> str:
    return str(refusal.offer) if refusal.offer else "all offers"


def _code(error: CloudError) -> str:
    return error.code or type(error).__name__
