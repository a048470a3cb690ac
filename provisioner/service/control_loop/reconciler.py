"""One pass: launch, observe, settle, act, archive, finish.

Each step reads the records, makes a plan (`core/run/plan.py`), carries out its part of the plan and saves the results.
The process may die at any point of a pass. Launches come first and need only the stored records: a new run waits for no
listing.
"""

from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.errors import CloudError, NeedsOperator, Transient
from provisioner.core.protocol.keys import log_folder
from provisioner.core.run import clock_repair, progress, story
from provisioner.core.run.machines import costs
from provisioner.core.run.machines.silence import Hearing, are_we_deaf, is_silent
from provisioner.core.run.plan import Senses
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.states import State
from provisioner.core.run.work_order import loaded
from provisioner.ports.store import Lease, RunFilter
from provisioner.service.collectors.launch_templates import TemplateCollector
from provisioner.service.collectors.placement_groups import GroupCollector
from provisioner.service.collectors.uploads import UploadCollector
from provisioner.service.control_loop.archive import EMPTYING, Archive
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.launches import Launches
from provisioner.service.control_loop.lists.step import Lists
from provisioner.service.control_loop.machines import Machines
from provisioner.service.control_loop.mailboxes import Mailboxes
from provisioner.service.control_loop.one_pass import Pass, PassError, PassResult
from provisioner.service.installation import Installation
from provisioner.service.usage.accounting import Accounting, run_usage


class Reconciler:
    """Makes passes under a lease. State that is needed between passes is kept in memory, and may be lost."""

    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites
        self._launches = Launches(installation, sites)
        self._mailboxes = Mailboxes(installation)
        self._machines = Machines(installation)
        self._archive = Archive(installation)
        self._groups = GroupCollector(installation)
        self._uploads = UploadCollector(installation)
        self._templates = TemplateCollector(installation)
        self._lists = Lists(installation)
        self._accounting = Accounting(installation)
        self._hearing = Hearing()
        #: When the last complete pass ended, and the ids of the runs that it read.
        self._passed_at: float | None = None
        self._known: frozenset[str] = frozenset()
        #: Whether a part of a long log was copied since the last pass, and the error of a copy that failed.
        self._copied = False
        self._copy_error: Exception | None = None

    def once(self, lease: Lease) -> PassResult:
        """Do one pass and return its result, with all errors except LeaseLost and ClockWrong, which are raised."""
        current = Pass(self._installation, lease.epoch)
        check = self._installation.check
        if check.hindrance():
            # While this computer's clock differs from the cloud's, the pass decides nothing. It compares the
            # clocks and repeats earlier terminations: an idle machine must not cost money until the clock is corrected.
            current.attempt(lambda: self._machines.insist(current.live().machines))
            try:
                check.measure(self._installation.cloud)
            except CloudError as error:
                # An error such as missing rights must not end the process, so return it: the next pass tries again.
                return PassResult(busy=True, errors=[PassError(error)])
            self._installation.now()
        compared = check.compared
        if compared:
            self._repair(current)
        planned = self._launch(current)
        self._observe(current)
        if check.compared and not compared:
            # The first pass of a process launches before the clocks are compared, and decides all else afterwards.
            self._repair(current)
        if self._settle(current):
            # Settle again, to act at once on results that were just read: an idle machine costs money.
            self._settle(current)
        self._tell_ranks(current)
        # Delete the reports only now: runs wait for the steps above, but not for the deletion.
        current.attempt(lambda: self._mailboxes.delete_read(self._lists.done))
        planned = self._launch_late(current, planned)
        self._act(current)
        planned = self._launch_late(current, planned)
        self._keep(current)
        planned = self._launch_late(current, planned)
        self._collect_groups(current)
        self._finish(current)
        current.attempt(lambda: self._accounting.proceed(current.live(), current.epoch))
        current.attempt(self._uploads.collect)
        current.attempt(lambda: self._templates.collect(current.live))
        self._sum_up(current, planned)
        return current.result

    def hold(self, lease: Lease, error: NeedsOperator) -> None:
        """Store that the due runs wait for the operator: no pass can be made because of this error."""
        current = Pass(self._installation, lease.epoch)
        self._launches.hold(current.plan(), error, lease.epoch)

    def _repair(self, current: Pass) -> None:
        """Correct stored times that a wrong clock set."""
        repaired = clock_repair.repaired(current.live(), self._installation.now(), self._passed_at, self._known)
        current.save((each,) for each in repaired)

    def _launch(self, current: Pass, *, repeat: bool = True) -> Live:
        """Make launches for due runs, and with `repeat` repeat the open launches; return the records of the plan."""
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
        """Launch a run that was stored after `planned` was read; return the records read last.

        A pass over many machines takes seconds, and a single new run should not wait for its end. Several new runs are
        a burst: the next pass launches them together.
        """
        known = {run.id for run in planned.runs}
        newest = self._installation.store.runs(RunFilter(limit=2))
        if sum(run.state is State.QUEUED and run.id not in known for run in newest) != 1:
            return planned
        # The next pass repeats the launches that this pass could not finish.
        return self._launch(current, repeat=False)

    def _put_work(self, current: Pass) -> None:
        plan = current.plan()

        def put(item: tuple[Run, Node, KnownMachine]) -> Sequence[Record]:
            run, node, machine = item
            recipe = loaded(run.recipe)
            types = self._sites.catalog(recipe.spec.instance_types).types
            gpus = types[machine.offer.instance_type].gpus
            paid_for = costs.paid_for(plan.assignments[run.id], machine, recipe, plan.now)
            return self._mailboxes.put_work(run, recipe, Assignment(node, machine), gpus, paid_for)

        current.do(put, plan.work)

    def _observe(self, current: Pass) -> None:
        """List the machines, read their reports, and read EC2's status checks of silent machines, if these are few."""
        seen = current.attempt(lambda: self._machines.look(current.live(), current.epoch))
        current.result.foreign = seen.foreign if seen else None
        plan = current.plan()
        if not plan.live.nodes:
            return
        asked_at = self._installation.now()
        received = current.attempt(lambda: self._mailboxes.receive(plan.live, current.epoch))
        if received is None:
            self._hearing = self._hearing.failed(self._installation.now())
            current.unheard = frozenset(node.run for node in plan.live.nodes)
            return
        current.unheard = received.unheard
        self._hearing = self._hearing.succeeded(asked_at)
        current.attempt(lambda: self._lists.receive(current, plan, received))
        self._judge_silence(current)

    def _judge_silence(self, current: Pass) -> None:
        live, now = current.live(), self._installation.now()
        if are_we_deaf(live.nodes, now):
            self._hearing = self._hearing.failed(now)
            error = Transient(
                "over a fifth of the runs are silent: probably a fault here, so no machine counts as lost"
            )
            current.result.errors.append(PassError(error))
            return
        silent = {node.instance_id for node in live.nodes if is_silent(node, now)}
        machines = [machine for machine in live.machines if machine.id in silent]
        current.attempt(lambda: self._machines.examine(machines, current.epoch))

    def _settle(self, current: Pass) -> bool:
        """Change every run as the records require; return whether results were read, which may require more changes."""
        self._hearing = self._hearing.paused_until(self._installation.now())
        plan = current.plan(Senses(self._hearing.unreadable_at, current.unheard))
        current.report(plan.moves.errors)
        current.save(plan.moves.records)
        current.do(self._mailboxes.seek, plan.moves.seek)
        if plan.last_words:
            # The moves have changed the machines' records.
            current.do(lambda pair: self._machines.keep_console(*pair), current.plan().last_words)
        current.attempt(lambda: self._lists.close(current))
        return bool(plan.moves.seek)

    def _tell_ranks(self, current: Pass) -> None:
        """Write the orders and the addresses of runs with several machines: their ranks start and stop together."""
        if any(run.together > 1 for run in current.live().runs):
            together = [each for each in current.plan().orders if each[0].together > 1]
            current.do(lambda told: self._mailboxes.put_orders(*told[1:]), together)
            current.do(lambda pair: self._mailboxes.put_peers(*pair), current.plan().peers)

    def _act(self, current: Pass) -> None:
        """Terminate machines, write work orders and orders, and store consoles."""
        plan = current.plan()
        current.attempt(lambda: self._machines.terminate(plan.terminations, current.epoch))
        self._put_work(current)
        if plan.live.lists:
            # The orders name the batches that are in the mailboxes.
            current.attempt(lambda: self._lists.hand_out(current))
            plan = current.plan()
        alone = [each for each in plan.orders if each[0].together == 1]
        current.do(lambda told: self._mailboxes.put_orders(*told[1:]), alone)
        if plan.consoles:
            # The terminations have changed the machines' records.
            current.do(lambda pair: self._machines.keep_console(*pair), current.plan().consoles)

    def _keep(self, current: Pass) -> None:
        """Archive nodes. Continue one unfinished copy, or none if copies were continued since the last pass."""
        archives = current.plan().archives
        waiting = self._archive.unfinished({log_folder(each.node.box, each.node.later) for _, each in archives})
        left = set(waiting if self._copied and not self._copy_error else waiting[1:])
        current.report([(None, self._copy_error)] if self._copy_error else ())
        self._copied, self._copy_error = False, None
        now = [pair for pair in archives if log_folder(pair[1].node.box, pair[1].node.later) not in left]
        current.do(lambda pair: self._archive.keep(*pair), now)

    def copy_logs(self) -> bool:
        """Copy a part of a long log, in less than a second; return False if there is none, or a copy has failed.

        For use between passes. Copying needs no lease: if another process repeats a copy, nothing changes.
        """
        if self._copy_error:
            return False
        try:
            copied = self._archive.proceed()
        except Exception as error:  # noqa: BLE001 - the next pass reports it
            self._copy_error = error
            return False
        self._copied = self._copied or copied
        return copied

    def use_spare_time(self) -> bool:
        """Copy a part of a long log, or else index a part of an archived one; return False if there is nothing to do.

        For use between the passes of a daemon.
        """
        if self.copy_logs():
            return True
        try:
            return self._archive.index()
        except CloudError:
            # The stream's first reader makes its index, and sees the error.
            return False
        except Exception as error:  # noqa: BLE001 - a fault of the index must not end the daemon
            self._installation.journal.complain(f"a log was not indexed: {error!r}", self._installation.clock.now())
            return False

    def _collect_groups(self, current: Pass) -> None:
        """Delete spare placement groups, if this pass has listed the machines.

        This is done before runs become done: a process that waits for its run may end then.
        """
        foreign = current.result.foreign
        if foreign is not None:
            current.attempt(lambda: self._groups.collect(current.live, foreign))

    def _finish(self, current: Pass) -> None:
        until = self._installation.clock.elapsed() + EMPTYING

        def finish(item: tuple[Run, list[Assignment]]) -> Sequence[Record]:
            # The receipt needs the finished run. Store DONE last: the next pass repeats the steps of a lost pass.
            run, held = item
            now = self._installation.now()
            done = progress.finish(run, now)
            told = self._archive.finish(done, held, until)
            if told is None:
                return ()
            billed = replace(done, dollars_at_least=told.dollars_at_least, dollars_at_most=told.dollars_at_most)
            usage = run_usage(self._installation.store, billed, held, now)
            return [billed, story.moved(run, done, now), *usage]

        current.do(finish, current.plan().finishes)

    def _sum_up(self, current: Pass, planned: Live) -> None:
        current.result.seen = self._installation.store.changes()
        # Before the records are read: a run may be stored while this process hangs.
        self._passed_at = self._installation.now()
        plan, known = current.plan(), {run.id for run in planned.runs}
        current.result.busy = plan.busy
        current.result.next_try_at = plan.next_try_at
        current.result.outrun = sum(run.state is State.QUEUED and run.id not in known for run in plan.live.runs)
        self._known = frozenset(run.id for run in plan.live.runs)
