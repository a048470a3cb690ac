"""One pass: launch what waits, observe, record, plan, act. Any pass may be lost.

One run's error never stops the others; errors are gathered and told together. Launches come first,
from what is stored: a new trigger waits for no listing.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from provisioner.core.errors import CloudError, Retryable, Transient
from provisioner.core.protocol.messages import Outcome
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import clock_repair
from provisioner.core.run import progress as moves
from provisioner.core.run.records import Assignment, Launch, Node, Record, Run, TemplateHealth
from provisioner.core.run.silence import are_we_deaf, is_silent
from provisioner.core.run.states import TRANSITIONS, State
from provisioner.core.run.verdicts import HEARING
from provisioner.core.run.work_order import recipe_of, recipes_of
from provisioner.ports.store import Lease, Live, RunFilter
from provisioner.service.control_loop.archive import EMPTYING, Archive
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.launches import Launches
from provisioner.service.control_loop.machines import Endings
from provisioner.service.control_loop.mailboxes import Mailboxes, digest, failed_boot
from provisioner.service.control_loop.one_pass import Pass, PassError, PassResult
from provisioner.service.installation import Installation

T = TypeVar("T")
R = TypeVar("R")

#: Characters of a machine's console worth keeping in the store: its last screens.
CONSOLE_TAIL = 4000


class Reconciler:
    """Compares what is with what should be and acts on the difference, under a lease."""

    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites
        self._launches = Launches(installation, sites)
        self._mailboxes = Mailboxes(installation)
        self._endings = Endings(installation)
        self._archive = Archive(installation)
        #: When the inbox last was read, and when it last could not be.
        self._heard_at = self._reports_unreadable_at = 0.0
        #: When the last complete pass ended, and the ids of the runs that it read.
        self._passed_at: float | None = None
        self._known: frozenset[str] = frozenset()
        #: Whether a part of a long log was copied since the last pass, and whether a copy failed.
        self._copied = self._copy_failed = False

    def once(self, lease: Lease) -> PassResult:
        """Do one pass and return its result, with all errors except LeaseLost and ClockWrong, which are raised."""
        current = Pass(self._installation, lease.epoch)
        check = self._installation.check
        if check.hindrance():
            # Until the clock of the cloud agrees with ours, the pass decides nothing. It compares the two, and repeats
            # what was decided before: an idle machine must not cost money until somebody sets the clock.
            current.attempt(lambda: self._endings.insist(self._live().machines))
            try:
                check.measure(self._installation.cloud)
            except CloudError as error:
                # An error such as missing rights must not end the process: it acts again once the cloud answers.
                return PassResult(busy=True, errors=[PassError(error)])
            self._installation.now()
        compared = check.compared
        if compared:
            self._repair(current)
        planned = self._live()
        self._launch(current, planned)
        unheard = self._observe(current)
        if check.compared and not compared:
            # The first pass of a process launches before the clocks are compared; all other decisions come after this.
            self._repair(current)
        if self._advance(current, unheard):
            # A result that was just read is acted upon at once: an idle machine costs money.
            self._advance(current, unheard)
        # Nothing waits for these objects to go, but runs wait for what the reports in them have changed.
        current.attempt(self._mailboxes.delete_read)
        planned = self._launch_late(current, planned)
        over = self._act(current)
        planned = self._launch_late(current, planned)
        self._keep(current, over)
        planned = self._launch_late(current, planned)
        self._finish(current)
        self._sum_up(current, planned)
        return current.result

    def _repair(self, current: Pass) -> None:
        """Correct times in the future, and creation times of new runs that a slow clock put into the past."""
        live, now = self._live(), self._installation.now()

        def repaired(run: Run) -> Run:
            late = run.next_try_at > now + clock_repair.SLACK
            recipe = recipe_of(run) if late and run.verdict else None
            if self._passed_at is not None and run.id not in self._known:
                # The run was stored after the last pass, so it cannot have been created long before that.
                earliest = self._passed_at - clock_repair.SLACK
                run = replace(run, created_at=now) if run.created_at < earliest else run
            return clock_repair.run(run, now, recipe.spec.retry.backoff if recipe else 0.0)

        pairs: list[tuple[Record, Record]] = []
        pairs += [(run, repaired(run)) for run in live.runs]
        pairs += [(node, clock_repair.node(node, now)) for node in live.nodes]
        pairs += [(machine, clock_repair.machine(machine, now)) for machine in live.machines]
        pairs += [(launch, clock_repair.launch(launch, now)) for launch in live.launches]
        pairs += [(drought, clock_repair.dry(drought, now)) for drought in live.droughts]
        pairs += [(health, clock_repair.health(health, now)) for health in live.templates]
        current.save(((new,) for old, new in pairs if new is not old))

    def _launch(self, current: Pass, live: Live, *, again: bool = True) -> None:
        fresh = current.attempt(lambda: self._launches.plan(live, current.epoch)) or []
        old = {launch.id for launch in live.launches}

        def perform(launch: Launch) -> list[Node]:
            return self._launches.perform(launch, current.epoch, again=launch.id in old)

        now = self._installation.now()
        left = [launch for launch in live.launches if again and now >= launch.held_until]
        bound = current.each(perform, [*left, *fresh])
        if any(bound):
            self._put_work(current)

    def _launch_late(self, current: Pass, planned: Live) -> Live:
        """Launch a run that was stored since `planned` was read, and return a new reading; otherwise `planned`.

        A pass over many machines takes seconds, and a new run need not wait for its end. Several new runs are a burst:
        they wait for the next pass, which launches them together.
        """
        known = {run.id for run in planned.runs}
        newest = self._installation.store.runs(RunFilter(limit=2))
        if sum(run.state is State.QUEUED and run.id not in known for run in newest) != 1:
            return planned
        live = self._live()
        # Launches that this pass has made and could not finish wait for the next pass.
        self._launch(current, live, again=False)
        return live

    def _put_work(self, current: Pass) -> None:
        live = self._live()
        runs = {run.id: run for run in live.runs}
        waiting = [node for node in live.nodes if node.work_put_at is None and node.verdict is None]
        machines = {machine.id: machine for machine in live.machines}

        def put(node: Node) -> Sequence[Record]:
            run = runs[node.run]
            if run.stop or node.instance_id not in machines:
                return ()
            kind, recipe = machines[node.instance_id].offer.instance_type, Recipe.load(run.recipe)
            types = self._sites.catalog(recipe.spec.instance_types).types
            return self._mailboxes.put_work(run, recipe, node, types[kind].gpus)

        current.do(put, waiting)

    def _observe(self, current: Pass) -> set[str]:
        """Look and listen; the runs that could not be heard, of whose silence nothing may be presumed."""
        seen = current.attempt(lambda: self._endings.look(self._live(), current.epoch))
        current.result.foreign = seen.foreign if seen else None
        live = self._live()
        if not live.nodes:
            return set()
        asked_at = self._installation.now()
        unheard = current.attempt(lambda: self._mailboxes.receive(live, current.epoch))
        if unheard is None:
            self._reports_unreadable_at = self._installation.now()
            return {node.run for node in live.nodes}
        self._deaf_until(asked_at)
        self._heard_at = asked_at
        self._listen(current)
        return unheard

    def _deaf_until(self, now: float) -> None:
        """Who has just begun, was away or stood still, even within a pass, has heard nobody speak meanwhile."""
        if now > self._heard_at + HEARING:
            self._reports_unreadable_at = now

    def _listen(self, current: Pass) -> None:
        """Silence: of many machines at once it is ours, of a few the cloud is asked about them."""
        live, now = self._live(), self._installation.now()
        if are_we_deaf(live.nodes, now):
            self._reports_unreadable_at = now
            error = Transient("more than a fifth of the machines are silent: nothing is presumed of them")
            current.result.errors.append(PassError(error))
            return
        silent = {node.instance_id for node in live.nodes if is_silent(node, now)}
        machines = [machine for machine in live.machines if machine.id in silent]
        current.attempt(lambda: self._endings.examine(machines, current.epoch))

    def _advance(self, current: Pass, unheard: set[str]) -> bool:
        """Move every run as far as the records allow; whether a result was sought and so news may be."""
        live, now = self._live(), self._installation.now()
        self._deaf_until(now)
        held, health = self._hold(live), {known.id: known for known in live.templates}
        recipes, seeking = recipes_of(live.runs), list[Assignment]()

        def move(run: Run) -> Sequence[Record]:
            moved = moves.advance(run, held[run.id], recipes[run.revision], now, self._reports_unreadable_at)
            if moved.seek_result:
                seeking.extend(each for each in held[run.id] if each.node.attempt == run.attempt)
            return self._changes(run, moved, held[run.id], health, now)

        moving = [run for run in live.runs if run.id not in unheard]
        current.save(current.attempt(functools.partial(move, run), run) or () for run in moving)
        current.do(self._mailboxes.seek, seeking)
        return bool(seeking)

    def _changes(
        self, run: Run, moved: moves.Advance, held: Sequence[Assignment], health: dict[str, TemplateHealth], now: float
    ) -> list[Record]:
        """What a move changes; `health` is kept as it will be once all moves so far are saved."""
        records: list[Record] = []
        if moved.run != run:
            records.append(moved.run)
            if moved.run.state is not run.state:
                event = self._installation.event(moved.run, _story(run, moved.run))
                heard_at = next((each.node.reported_at for each in held if each.node.attempt == run.attempt), None)
                if moved.run.state in (State.PREPARING, State.RUNNING) and heard_at is not None:
                    # A report caused this change of state: it comes before the other events of the report in the story.
                    event = replace(event, at=math.nextafter(min(heard_at, event.at), 0.0))
                records.append(event)
        for each in held:
            node = moved.node if moved.node and moved.node.id == each.node.id else each.node
            if node is not each.node:
                records.append(node)
                if node.verdict and node.verdict.outcome is Outcome.LOST and node.report is None and not node.result:
                    failing = failed_boot(health.get(node.template), node, node.verdict.reason)
                    records.append(failing)
                    health[failing.id] = replace(failing, version=failing.version + 1)
            why = moves.wanted_end(moved.run, replace(each, node=node), now)
            if why and each.machine.end_wanted_at is None:
                records.append(replace(each.machine, end_wanted_at=now, end_wanted_for=why))
        return records

    def _act(self, current: Pass) -> list[tuple[Run, Assignment]]:
        """End machines, put work and orders, and keep consoles; return the runs' nodes that can be archived."""
        live = self._live()
        current.attempt(lambda: self._endings.ask(live.machines, current.epoch))
        self._put_work(current)
        runs, held = {run.id: run for run in live.runs}, self._hold(live)
        nodes = [each for several in held.values() for each in several]
        working = [each for each in nodes if each.node.verdict is None and each.node.work_put_at is not None]
        news = [each.node for each in working if digest(runs[each.node.run]) != each.node.orders]
        current.do(lambda node: self._mailboxes.put_orders(runs[node.run], node), news)
        mute = [each for each in nodes if each.node.verdict and not each.node.result and not each.machine.console]
        current.do(lambda each: self._keep_console(runs[each.node.run], each), mute)
        return [
            (runs[each.node.run], each)
            for each in nodes
            if each.node.verdict
            and each.node.archived_at is None
            # Without a result the last bytes may come until the end, and the console is kept with them.
            and (each.node.result or (each.machine.ended_at is not None and each.machine.console))
        ]

    def _keep(self, current: Pass, over: Sequence[tuple[Run, Assignment]]) -> None:
        """Archive these nodes. Of all long logs, one gets one step, unless there were steps since the last pass."""
        waiting = self._archive.unfinished({each.node.box for _, each in over})
        left = set(waiting if self._copied and not self._copy_failed else waiting[1:])
        self._copied = self._copy_failed = False

        def keep(pair: tuple[Run, Assignment]) -> Sequence[Record]:
            return self._archive.keep(*pair)

        current.do(keep, [(run, each) for run, each in over if each.node.box not in left])

    def copy_logs(self) -> bool:
        """Copy a part of a long log, in less than a second; return False if there is none, or it cannot be copied now.

        For the time between passes. Copying needs no lease: a copy that another process repeats changes nothing.
        """
        if self._copy_failed:
            return False
        try:
            copied = self._archive.proceed()
        except Exception:  # noqa: BLE001 - the next pass repeats the step and reports its error
            self._copy_failed = True
            return False
        self._copied = self._copied or copied
        return copied

    def _keep_console(self, run: Run, held: Assignment) -> Sequence[Record]:
        try:
            text = self._installation.cloud.console(held.machine.id)[-CONSOLE_TAIL:]
        except Retryable:
            raise
        except CloudError as error:
            text = f"(the console cannot be had: {error})"
        if not text and held.machine.ended_at is None:
            return ()
        machine = replace(held.machine, console=text or "(the cloud has no console output)")
        last = machine.console.strip().rsplit("\n", 1)[-1]
        event = self._installation.event(
            run,
            f"the machine left no result; its console ends: {last[:200]}",
            attempt=held.node.attempt,
            instance_id=machine.id,
        )
        return [machine, event]

    def _finish(self, current: Pass) -> None:
        live = self._live()
        held, until = self._hold(live), self._installation.clock.elapsed() + EMPTYING

        def finish(run: Run) -> Sequence[Record]:
            # The receipt is that of the finished run; mailboxes go last, and DONE is what ends it all.
            done = moves.finish(run, self._installation.now())
            if not self._archive.finish(done, held[run.id], until):
                return ()
            return [done, self._installation.event(run, _story(run, done))]

        current.do(finish, [run for run in live.runs if moves.may_finish(run, held[run.id])])

    def _sum_up(self, current: Pass, planned: Live) -> None:
        current.result.seen = self._installation.store.changes()
        live, known = self._live(), {run.id for run in planned.runs}
        # A stop that came too late for this pass needs another one soon.
        moving = any(run.state is not State.QUEUED or run.stop for run in live.runs)
        current.result.busy = bool(live.machines or live.launches) or moving
        queued = [run for run in live.runs if run.state is State.QUEUED]
        current.result.next_try_at = min((run.next_try_at for run in queued), default=None)
        current.result.outrun = sum(run.id not in known for run in queued)
        self._passed_at, self._known = self._installation.now(), frozenset(run.id for run in live.runs)

    def _live(self) -> Live:
        return self._installation.store.live()

    def _hold(self, live: Live) -> Mapping[str, list[Assignment]]:
        """The nodes of each run with their machines, ended ones too."""
        machines = {machine.id: machine for machine in live.machines}
        missing = [node.instance_id for node in live.nodes if node.instance_id not in machines]
        if missing:
            machines |= {machine.id: machine for machine in self._installation.store.machines(missing)}
        held: defaultdict[str, list[Assignment]] = defaultdict(list)
        for node in live.nodes:
            held[node.run].append(Assignment(node, machines[node.instance_id]))
        return held


def _story(old: Run, new: Run) -> str:
    text = f"{new.state}: {TRANSITIONS[old.state, new.state]}"
    if new.state is State.STOPPING and new.verdict:
        text = f"{new.state}: {new.verdict.outcome}, {new.verdict.reason}"
    return text
