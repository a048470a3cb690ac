"""Save the usage of machines that have ended: of runs from earlier versions, and of machines that worked for no run.

The usage of a run's machines is saved together with its end. This step accounts for all other machines, some of them
in each pass. It may be repeated: a machine's usage replaces the stored one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.cost.receipt import bills_of
from provisioner.core.cost.usage import unattributed, usage_of
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Live, Run
from provisioner.core.run.work_order import recipe_of
from provisioner.core.usage.amounts import MachineUsage
from provisioner.ports.store import Store
from provisioner.service.installation import Installation

#: Maximum number of machines of one pass: each needs some milliseconds.
STEP = 20
#: Seconds until the next look for such machines, if the last one found none.
LOOK_EVERY = 60.0


class Accounting:
    """Accounts for machines whose usage is not saved."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Monotonic time of the next look.
        self._next_at = -math.inf

    def proceed(self, live: Live, epoch: int) -> None:
        """Save the usage of at most STEP machines, and of the other machines of their runs."""
        clock, store = self._installation.clock, self._installation.store
        if clock.elapsed() < self._next_at:
            return
        # The machines of unfinished runs are accounted for when their run is done.
        held = {node.instance_id for node in live.nodes}
        found = store.unaccounted(STEP, held)
        if len(found) < STEP:
            self._next_at = clock.elapsed() + LOOK_EVERY
        if not found:
            return
        self._installation.save(_versioned(store, self._usages(store.machines(found))), epoch=epoch)

    def _usages(self, machines: Sequence[KnownMachine]) -> list[MachineUsage]:
        store, items = self._installation.store, dict[str, MachineUsage]()
        launches = {id: store.launch(id) for id in {each.launch for each in machines}}
        for machine in machines:
            if machine.id in items:
                continue
            launch = launches[machine.launch]
            run = _run_of(store, machine, launch)
            if run is None:
                priced = _with_price(store, machine, launch)
                items[machine.id] = unattributed(priced, launch, machine.ended_at or 0.0)
            elif run.done_at is not None:
                items |= {each.id: each for each in run_usage(store, run, held_by(store, run), run.done_at)}
        return list(items.values())


def run_usage(store: Store, run: Run, held: Sequence[Assignment], now: float) -> tuple[MachineUsage, ...]:
    """Return the usage of the machines of a run that is done, to be saved."""
    ids = {each.node.launch for each in held}
    launches = {id: launch for id in sorted(ids) if (launch := store.launch(id))}
    recipe = recipe_of(run)
    tags = (recipe.spec.tags if recipe else None) or {}
    return _versioned(store, usage_of(run, held, bills_of(held, launches, now), tags, now))


def _versioned(store: Store, items: Sequence[MachineUsage]) -> tuple[MachineUsage, ...]:
    """Return the usage with the versions of the stored records, so that saving it replaces them."""
    known = {each.id: each.version for each in store.usages([each.id for each in items])}
    return tuple(replace(each, version=known.get(each.id, 0)) for each in items)


def held_by(store: Store, run: Run) -> list[Assignment]:
    """Return the run's nodes with their machines."""
    nodes = store.nodes(run.id)
    machines = {machine.id: machine for machine in store.machines({node.instance_id for node in nodes})}
    return [Assignment(node, machines[node.instance_id]) for node in nodes if node.instance_id in machines]


def _run_of(store: Store, machine: KnownMachine, launch: Launch | None) -> Run | None:
    """Return the run that the machine worked for, or None."""
    if launch is None:
        return None
    nodes = store.nodes(*launch.runs)
    owner = next((node.run for node in nodes if node.instance_id == machine.id), None)
    return store.run(owner) if owner else None


def _with_price(store: Store, machine: KnownMachine, launch: Launch | None) -> KnownMachine:
    """Return the machine with the price of another one of the same launch and offer, if its own is unknown."""
    if machine.price or launch is None:
        return machine
    ids = {node.instance_id for node in store.nodes(*launch.runs) if node.launch == launch.id}
    for each in store.machines(ids):
        if each.offer == machine.offer and each.price:
            return replace(machine, price=each.price, disk_price=each.disk_price, reservation=each.reservation)
    return machine
