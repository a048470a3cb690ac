"""One pass: launch, observe, settle, act, archive, finish.

Each step reads the records, plans (`core/run/plan.py`), carries out its part of the plan and saves the results. A pass
may be lost at any point. Launches come first and need only the stored records: a new run waits for no listing.
"""

from collections.abc import Sequence

from provisioner.core.errors import CloudError, Transient
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import clock_repair, progress, story
from provisioner.core.run.plan import Senses
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.silence import Hearing, are_we_deaf, is_silent
from provisioner.core.run.states import State
from provisioner.ports.store import Lease, RunFilter
from provisioner.service.control_loop.archive import EMPTYING, Archive
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.launches import Launches
from provisioner.service.control_loop.machines import Machines
from provisioner.service.control_loop.mailboxes import Mailboxes
from provisioner.service.control_loop.one_pass import Pass, PassError, PassResult
from provisioner.service.installation import Installation


class Reconciler:
    """Makes passes under a lease, and keeps state between passes in memory."""

    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites
        self._launches = Launches(installation, sites)
        self._mailboxes = Mailboxes(installation)
        self._machines = Machines(installation)
        self._archive = Archive(installation)
        self._hearing = Hearing()
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
            # Until this computer's clock agrees with the cloud's, the pass decides nothing. It compares the two, and
            # repeats earlier terminations: an idle machine must not cost money until the clock is set.
            current.attempt(lambda: self._machines.insist(current.live().machines))
            try:
                check.measure(self._installation.cloud)
            except CloudError as error:
                # An error such as missing rights must not end the process: it acts again once the cloud answers.
                return PassResult(busy=True, errors=[PassError(error)])
            self._installation.now()
        compared = check.compared
        if compared:
            self._repair(current)
        planned = self._launch(current)
        self._observe(current)
        if check.compared and not compared:
            # The first pass of a process launches before the clocks are compared; all other decisions come after this.
            self._repair(current)
        if self._settle(current):
            # Act at once on a result that was just read: an idle machine costs money.
            self._settle(current)
        # The reports are deleted only now, because runs wait for the steps above and nothing waits for the deletion.
        current.attempt(self._mailboxes.delete_read)
        planned = self._launch_late(current, planned)
        self._act(current)
        planned = self._launch_late(current, planned)
        self._keep(current)
        planned = self._launch_late(current, planned)
        self._finish(current)
        self._sum_up(current, planned)
        return current.result

    def _repair(self, current: Pass) -> None:
        """Correct times that a wrong clock wrote."""
        repaired = clock_repair.repaired(current.live(), self._installation.now(), self._passed_at, self._known)
        current.save((each,) for each in repaired)

    def _launch(self, current: Pass, *, repeat: bool = True) -> Live:
        """Store and make the launches of the runs that are due, and repeat open ones; return the records it read."""
        plan = current.plan()
        fresh = current.attempt(lambda: self._launches.store(plan, current.epoch)) or []
        fresh_ids = {launch.id for launch in fresh}

        def perform(launch: Launch) -> list[Node]:
            return self._launches.perform(launch, current.epoch, again=launch.id not in fresh_ids)

        bound = current.each(perform, [*(plan.repeats if repeat else ()), *fresh])
        if any(bound):
            self._put_work(current)
        return plan.live

    def _launch_late(self, current: Pass, planned: Live) -> Live:
        """Launch a run that was stored since `planned` was read, and return a new reading; otherwise `planned`.

        A pass over many machines takes seconds, and a new run need not wait for its end. Several new runs are a burst:
        they wait for the next pass, which launches them together.
        """
        known = {run.id for run in planned.runs}
        newest = self._installation.store.runs(RunFilter(limit=2))
        if sum(run.state is State.QUEUED and run.id not in known for run in newest) != 1:
            return planned
        # Launches that this pass has made and could not finish wait for the next pass.
        return self._launch(current, repeat=False)

    def _put_work(self, current: Pass) -> None:
        def put(item: tuple[Run, Node, KnownMachine]) -> Sequence[Record]:
            run, node, machine = item
            recipe = Recipe.load(run.recipe)
            types = self._sites.catalog(recipe.spec.instance_types).types
            return self._mailboxes.put_work(run, recipe, node, types[machine.offer.instance_type].gpus)

        current.do(put, current.plan().work)

    def _observe(self, current: Pass) -> None:
        """List the machines, read their reports, and ask the cloud about a few silent machines."""
        seen = current.attempt(lambda: self._machines.look(current.live(), current.epoch))
        current.result.foreign = seen.foreign if seen else None
        live = current.live()
        if not live.nodes:
            return
        asked_at = self._installation.now()
        unheard = current.attempt(lambda: self._mailboxes.receive(live, current.epoch))
        if unheard is None:
            self._hearing = self._hearing.failed(self._installation.now())
            current.unheard = frozenset(node.run for node in live.nodes)
            return
        current.unheard = frozenset(unheard)
        self._hearing = self._hearing.succeeded(asked_at)
        self._judge_silence(current)

    def _judge_silence(self, current: Pass) -> None:
        live, now = current.live(), self._installation.now()
        if are_we_deaf(live.nodes, now):
            self._hearing = self._hearing.failed(now)
            error = Transient("more than a fifth of the machines are silent: nothing is presumed of them")
            current.result.errors.append(PassError(error))
            return
        silent = {node.instance_id for node in live.nodes if is_silent(node, now)}
        machines = [machine for machine in live.machines if machine.id in silent]
        current.attempt(lambda: self._machines.examine(machines, current.epoch))

    def _settle(self, current: Pass) -> bool:
        """Move every run as far as the records allow; return whether it looked for results, which may allow more."""
        self._hearing = self._hearing.paused_until(self._installation.now())
        plan = current.plan(Senses(self._hearing.unreadable_at, current.unheard))
        current.report(plan.moves.errors)
        current.save(plan.moves.records)
        current.do(self._mailboxes.seek, plan.moves.seek)
        return bool(plan.moves.seek)

    def _act(self, current: Pass) -> None:
        """Terminate machines, put work orders and orders, and keep consoles."""
        plan = current.plan()
        current.attempt(lambda: self._machines.terminate(plan.terminations, current.epoch))
        self._put_work(current)
        current.do(lambda pair: self._mailboxes.put_orders(*pair), plan.orders)
        current.do(lambda pair: self._machines.keep_console(*pair), plan.consoles)

    def _keep(self, current: Pass) -> None:
        """Archive nodes. Of all long logs, one gets one step, unless there were steps since the last pass."""
        archives = current.plan().archives
        waiting = self._archive.unfinished({each.node.box for _, each in archives})
        left = set(waiting if self._copied and not self._copy_failed else waiting[1:])
        self._copied = self._copy_failed = False
        now = [(run, each) for run, each in archives if each.node.box not in left]
        current.do(lambda pair: self._archive.keep(*pair), now)

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

    def _finish(self, current: Pass) -> None:
        until = self._installation.clock.elapsed() + EMPTYING

        def finish(item: tuple[Run, list[Assignment]]) -> Sequence[Record]:
            # The receipt needs the finished run. DONE is stored last, so that a lost pass repeats the other steps.
            run, held = item
            now = self._installation.now()
            done = progress.finish(run, now)
            if not self._archive.finish(done, held, until):
                return ()
            return [done, story.moved(run, done, now)]

        current.do(finish, current.plan().finishes)

    def _sum_up(self, current: Pass, planned: Live) -> None:
        current.result.seen = self._installation.store.changes()
        plan, known = current.plan(), {run.id for run in planned.runs}
        current.result.busy = plan.busy
        current.result.next_try_at = plan.next_try_at
        current.result.outrun = sum(run.state is State.QUEUED and run.id not in known for run in plan.live.runs)
        self._passed_at, self._known = self._installation.now(), frozenset(run.id for run in plan.live.runs)
