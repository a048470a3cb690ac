"""Decide everything that a pass does, from the stored records and the time.

A pass carries out one field of a plan, saves the results, and makes the next plan from the store. So a plan may be
lost or repeated, and every plan is made from saved records only.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.messages import Orders, Peers
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import progress, story, survivors
from provisioner.core.run.launching import LARGEST_LAUNCH, machines_left
from provisioner.core.run.lists import advancing, joining, repeating
from provisioner.core.run.machines import costs
from provisioner.core.run.machines.listings import to_terminate
from provisioner.core.run.progress import Advance
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import (
    Assignment,
    Event,
    KnownMachine,
    Launch,
    Live,
    Node,
    Record,
    Run,
    TemplateHealth,
)
from provisioner.core.run.states import State
from provisioner.core.run.work_order import recipe_of, recipes_of


@dataclass(frozen=True)
class Senses:
    """Which reports a pass could not read: the silence of their machines proves nothing."""

    #: When reports last could not be read, as Unix seconds.
    reports_unreadable_at: float = 0.0
    #: Runs with a machine whose reports this pass did not read.
    unheard: frozenset[str] = frozenset()


ALL_HEARD = Senses()


@dataclass(frozen=True)
class Moves:
    """The changes of runs that follow from the stored records."""

    #: For each run that changes, the records that are saved together.
    records: list[list[Record]] = field(default_factory=list)
    #: Nodes whose mailbox is searched for a result before a verdict is presumed.
    seek: list[Assignment] = field(default_factory=list)
    #: Runs whose change could not be decided, each with the error.
    errors: list[tuple[Run, Exception]] = field(default_factory=list)


@dataclass(frozen=True)
class Due:
    """Queued runs whose next try is due."""

    runs: list[tuple[Run, Recipe]] = field(default_factory=list)
    #: Runs whose recipe this version cannot read; they are ended as refused, and only need to be stored.
    refused: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Everything that a pass does. Each field is computed at its first use, always from the same records."""

    live: Live
    #: Unix seconds.
    now: float
    #: Machines of `live.nodes` that have ended.
    ended: Collection[KnownMachine] = ()
    senses: Senses = ALL_HEARD
    #: Maximum number of machines that may be alive; None: any number.
    max_machines: int | None = None

    # Launch

    @cached_property
    def repeats(self) -> list[Launch]:
        """Open launches whose call is repeated, or whose machines are looked up."""
        return [launch for launch in self.live.launches if self.now >= launch.held_until]

    @cached_property
    def due(self) -> Due:
        """Runs for which machines are launched, if the limit on machines and the capacity allow it."""
        due = Due()
        for run in self.live.runs:
            if run.state is State.QUEUED and run.next_try_at <= self.now and not run.stop:
                recipe = recipe_of(run)
                if recipe is None:
                    reason = (
                        "this version cannot read the run's recipe, which another version stored: apply the recipe "
                        "again, then start the job"
                    )
                    due.refused.append(progress.refuse(run, reason, self.now))
                else:
                    due.runs.append((run, recipe))
        return due

    @cached_property
    def joins(self) -> list[tuple[Run, Recipe, tuple[int, ...]]]:
        """List runs that get further machines, with the ranks of these."""
        found: list[tuple[Run, Recipe, tuple[int, ...]]] = []
        most = LARGEST_LAUNCH if self.room is None else min(LARGEST_LAUNCH, self.room)
        for run in self.live.runs:
            if not run.commands or run.scale == 1:
                continue
            if not repeating.goes_on(run, self._lists[run.id], repeating.options_of(run)):
                continue
            ranks = joining.missing(
                run, self._lists[run.id], self._workers, self._batches[run.id], self.assignments[run.id], self.now
            )
            # Without room for one, a launch is planned all the same, and waits for room.
            ranks = ranks[: max(1, most)]
            if ranks and (recipe := recipe_of(run)):
                found.append((run, recipe, ranks))
        return found

    @cached_property
    def kept(self) -> Mapping[str, list[Assignment]]:
        """By due run, the nodes of its last attempt whose machines the next attempt uses again."""
        return {
            run.id: survivors.kept(run, self.assignments[run.id], recipe, self.now)
            for run, recipe in self.due.runs
            if run.kept_until is not None
        }

    @cached_property
    def room(self) -> int | None:
        """How many more machines may be alive; None: any number."""
        return machines_left(self.live, self.max_machines)

    @cached_property
    def work(self) -> list[tuple[Run, Node, KnownMachine]]:
        """Nodes that get their work order."""
        machines = {machine.id: machine for machine in self.live.machines}
        return [
            (self._runs[node.run], node, machines[node.instance_id])
            for node in self.live.nodes
            if node.work_put_at is None
            and node.verdict is None
            and not stop_of(self._runs[node.run])
            and node.instance_id in machines
        ]

    @cached_property
    def peers(self) -> list[tuple[Node, Peers]]:
        """Nodes that get the addresses of all ranks of their attempt, as soon as all addresses are known."""
        found: list[tuple[Node, Peers]] = []
        for run in self.live.runs:
            if run.together == 1:
                continue
            current = [each for each in self.assignments.get(run.id, ()) if each.node.attempt == run.attempt]
            addresses = tuple(each.machine.address for each in sorted(current, key=lambda each: each.node.rank))
            if len(current) == run.together and all(addresses):
                message = Peers(run.id, run.attempt, addresses)
                waiting = [each.node for each in current if each.node.peers_put_at is None and not each.node.verdict]
                found += [(node, message) for node in waiting]
        return found

    # Settle

    @cached_property
    def moves(self) -> Moves:
        """Runs that change their state, get a verdict, or no longer need a machine."""
        moves = Moves()
        recipes, health = recipes_of(self.live.runs), {known.id: known for known in self.live.templates}
        for run in self.live.runs:
            if run.id in self.senses.unheard:
                continue
            try:
                self._move(run, recipes[run.variant], health, moves)
            except Exception as error:  # noqa: BLE001 - an error of one run must not stop the others
                moves.errors.append((run, error))
        return moves

    def _move(self, run: Run, recipe: Recipe | None, health: dict[str, TemplateHealth], moves: Moves) -> None:
        """Add the changes of one run to `moves`. `health` is updated as if all moves so far were already saved."""
        assignments = self.assignments[run.id]
        advance = self._advance(run, recipe)
        settled = {node.id: node for node in advance.nodes}
        records: list[Record] = []
        if advance.run != run:
            records.append(advance.run)
            if advance.run.stop and not run.stop:
                records.append(story.stopped_for_cost(advance.run, self.now))
            if advance.run.state is not run.state:
                records.append(self._event(run, advance.run))
        latest = [each.node for each in assignments if each.node.attempt == run.attempt] if settled else []
        # The machines of one attempt share a fault, which counts once.
        counted = any(map(progress.counts_against_template, latest))
        for each in assignments:
            node = settled.get(each.node.id, each.node)
            if node is not each.node:
                records.append(node)
                if progress.counts_against_template(node) and not counted:
                    counted = True
                    failing = progress.failed_boot(health.get(node.template), node, self.now)
                    records.append(failing)
                    health[failing.id] = replace(failing, version=failing.version + 1)
            if each.machine.end_wanted_at is not None or _works_again(each, assignments):
                continue
            if why := progress.wanted_end(advance.run, replace(each, node=node), recipe, self.now):
                records.append(replace(each.machine, end_wanted_at=self.now, end_wanted_for=why))
        if records:
            moves.records.append(records)
        sought = {node.id for node in advance.seek}
        moves.seek.extend(each for each in assignments if each.node.id in sought or _may_have_written(each, self.now))

    def _advance(self, run: Run, recipe: Recipe | None) -> Advance:
        held, unreadable_at = self.assignments[run.id], self.senses.reports_unreadable_at
        run = costs.limited(run, held, recipe, self.now)
        if not run.commands:
            return progress.advance(run, held, recipe, self.now, unreadable_at)
        return advancing.advance(run, self._lists[run.id], self._workers, held, recipe, self.now, unreadable_at)

    def _event(self, old: Run, new: Run) -> Event:
        nodes = [each.node for each in self.assignments[old.id] if each.node.attempt == old.attempt]
        heard_at = nodes[0].reported_at if nodes else None
        if new.state in (State.PREPARING, State.RUNNING) and heard_at is not None:
            return story.moved_by_report(old, new, heard_at, self.now)
        return story.moved(old, new, self.now)

    # Act

    @cached_property
    def terminations(self) -> list[KnownMachine]:
        """Machines whose termination is requested."""
        return to_terminate(self.live.machines, self.now)

    @cached_property
    def orders(self) -> list[tuple[Run, Node, Orders]]:
        """Nodes at work whose orders have changed, with the orders."""
        several = {run.id: progress.orders(run) for run in self.live.runs}
        digests = {id: progress.orders_digest(wanted) for id, wanted in several.items()}
        found: list[tuple[Run, Node, Orders]] = []
        for run, each in self._assigned:
            node, wanted, digest = each.node, several[run.id], digests[run.id]
            if node.verdict is not None or node.work_put_at is None:
                continue
            if run.commands:
                worker, options = self._workers.get(node.id), repeating.options_of(run)
                wanted = advancing.orders(run, self._lists[run.id], worker, self._batches[run.id], options)
                digest = progress.orders_digest(wanted)
            if digest != node.orders:
                found.append((run, node, wanted))
        return found

    @cached_property
    def consoles(self) -> list[tuple[Run, Assignment]]:
        """Nodes without a result whose machine's console output is still to be saved."""
        return [
            (run, each)
            for run, each in self._assigned
            if each.node.verdict and not each.node.result and not each.machine.console
        ]

    @cached_property
    def last_words(self) -> list[tuple[Run, Assignment]]:
        """Nodes whose machine has ended without a report: its console is saved first, since the verdict quotes it."""
        return [
            (run, each)
            for run, each in self._assigned
            if each.machine.ended_at is not None
            and not each.node.verdict
            and not each.node.report
            and not each.node.result
            and not each.machine.console
        ]

    @cached_property
    def archives(self) -> list[tuple[Run, Assignment]]:
        """Nodes whose log and result are copied to the archive."""
        return [
            (run, each)
            for run, each in self._assigned
            if each.node.verdict
            and each.node.archived_at is None
            # If there is no result, wait for the machine's end: log bytes and the result may arrive until then. The
            # machine's console output must be saved before the archive is made.
            and (each.node.result or (_is_heard_out(each, self.now) and each.machine.console))
        ]

    # Finish

    @cached_property
    def finishes(self) -> list[tuple[Run, list[Assignment]]]:
        """Runs that are ready for the last step: to write the receipt and empty the mailboxes."""
        return [
            (run, self.assignments[run.id])
            for run in self.live.runs
            if progress.may_finish(run, self.assignments[run.id]) and (not run.commands or self._sealed(run))
        ]

    # The next pass

    @cached_property
    def busy(self) -> bool:
        """Whether another pass is needed soon, also for a stop that was requested too late for this pass."""
        moving = any(run.state is not State.QUEUED or run.stop for run in self.live.runs)
        return bool(self.live.machines or self.live.launches) or moving

    @cached_property
    def next_try_at(self) -> float | None:
        """The earliest time at which a queued run is tried again."""
        return min((run.next_try_at for run in self.live.runs if run.state is State.QUEUED), default=None)

    # Index

    @cached_property
    def assignments(self) -> Mapping[str, list[Assignment]]:
        """The nodes of all attempts with their machines, by run."""
        machines = {machine.id: machine for machine in (*self.ended, *self.live.machines)}
        found: defaultdict[str, list[Assignment]] = defaultdict(list)
        for node in self.live.nodes:
            found[node.run].append(Assignment(node, machines[node.instance_id]))
        return found

    def _sealed(self, run: Run) -> bool:
        """Whether every command of a list run has its final state."""
        return self._lists[run.id].sealed_at is not None

    @cached_property
    def _lists(self) -> Mapping[str, CommandList]:
        """The lists of commands, by run."""
        return {each.id: each for each in self.live.lists}

    @cached_property
    def _workers(self) -> Mapping[str, Worker]:
        """The workers of all lists, by node id."""
        return {each.id: each for each in self.live.workers}

    @cached_property
    def _batches(self) -> Mapping[str, list[Batch]]:
        """The open batches of all lists, by run."""
        found: defaultdict[str, list[Batch]] = defaultdict(list)
        for batch in self.live.batches:
            found[batch.run].append(batch)
        return found

    @cached_property
    def _runs(self) -> Mapping[str, Run]:
        return {run.id: run for run in self.live.runs}

    @cached_property
    def _assigned(self) -> list[tuple[Run, Assignment]]:
        return [(self._runs[id], each) for id, several in self.assignments.items() for each in several]


def _may_have_written(held: Assignment, now: float) -> bool:
    """Return whether the machine may have written a result after the last look at its mailbox and before its end."""
    node, over = held.node, held.machine.ended_at is not None and not _is_heard_out(held, now)
    return over and node.verdict is not None and node.result is None and node.archived_at is None


def _is_heard_out(held: Assignment, now: float) -> bool:
    """Return whether the log may be archived without a result.

    If the clock was set back, the machine's end may be in the future. Then any search for the result counts: the run
    must not wait until that time.
    """
    ended, sought = held.machine.ended_at, held.node.result_sought_at
    return progress.heard_out(held) or (ended is not None and ended > now and sought is not None)


def _works_again(held: Assignment, assignments: Iterable[Assignment]) -> bool:
    """Return whether the node's machine works for a later attempt of the run."""
    return held.node.attempt < max(each.node.attempt for each in assignments if each.machine.id == held.machine.id)
