"""Rules that must hold in a world, checked while it runs and at its end.

Every rule compares the control plane's records with the truth: the model of EC2, the bucket, and the machines' actions.
A broken rule raises Violation, which the code under test cannot catch.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.tags import LAUNCH_TAG, LIFETIME_TAG
from provisioner.core.cost.phases import Source
from provisioner.core.cost.receipt import MINIMUM_SECONDS, MachineBill, Receipt
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import work_key
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import STREAMS, Outcome, Step
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.machine_listings import ASK_AGAIN
from provisioner.core.run.records import Assignment, KnownMachine, Node, Run
from provisioner.core.run.states import State
from provisioner.core.run.verdicts import LOST_AFTER_START, LOST_BEFORE_START, held_until
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.machines.scripted_agent import end_of
from provisioner.service.control_loop.archive import bill as receipt_of
from tests.service.agents import Agent, Violation
from tests.service.truth import Truth, covered

BOOT_LIMIT, SETUP_LIMIT, RUNTIME_LIMIT = 300.0, 300.0, 1200.0
#: Seconds after which a machine counts as silent if it cannot reach the bucket while the control plane can.
CUT_OFF = 60.0
#: Passes without a fault in which the end of an unclaimed machine may go unrequested.
PASSES = 2
ALL = RunFilter(limit=1000)


class Rules:
    """The rules for one world."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        #: The largest error of the control plane's clock so far, in either direction.
        self.largest_skew = 0.0
        #: Periods in which the control plane, and in which the machines, cannot reach the bucket.
        self.ours_away: list[tuple[float, float]] = []
        self.theirs_away: list[tuple[float, float]] = []
        #: Results that the bucket accepted, by mailbox, with their times.
        self.results: dict[str, tuple[Result, float]] = {}
        #: Machines that could not be counted: a listing by their launch's tag lacked them, or they were launched too
        #: late.
        self.overlooked: set[str] = set()
        self._listed: set[str] = set()
        self._asked: dict[str, float] = {}
        #: Machines whose end was judged. EC2 may ignore a request to end a machine; the control plane repeats the
        #: request, whatever the machine does meanwhile.
        self._judged: set[str] = set()
        self._idle: Counter[str] = Counter()

    # While it runs

    def before_call(self, port: str, method: str, args: Sequence[Any]) -> None:
        """Judge a call of the control plane before it is made, whatever its fate."""
        if (port, method) == ("cloud", "terminate"):
            self._judge_ends(args[0])

    def after_call(self, port: str, method: str, args: Sequence[Any], answer: Any, *, late: bool = False) -> None:
        """Judge the effect of a call, even if its answer is lost.

        `late`: the process that made the call hung until another process had taken over.
        """
        if port == "mailbox" and method == "put" and args[0].endswith("/result") and answer:
            self.results[args[0].split("/")[1]] = decode(Result, args[1]), self.truth.now()
        elif (port, method) == ("cloud", "machines"):
            self._listed = {machine.id for machine in answer.machines}
        elif (port, method) == ("cloud", "machines_of"):
            shown = {machine.id for machine in answer}
            made = (one.id for one in self.truth.cloud.model.every() if one.tags.get(LAUNCH_TAG) == args[0])
            self.overlooked |= set(made) - shown
        elif (port, method) == ("cloud", "launch"):
            if late:
                # The other process may have closed the launch meanwhile; a request under way cannot be recalled.
                self.overlooked |= {machine.instance_id for machine in answer.machines}
            self._judge_number()
        elif (port, method) == ("store", "save"):
            for record in answer:
                if isinstance(record, Run):
                    self._judge_run(record)

    def after_pass(self, now: float, *, clean: bool) -> None:
        """Judge a complete pass. `now` is by the control plane's clock; `clean` means that none of its calls failed."""
        if not clean:
            return
        lease = self.truth.store.lease()
        if lease is None or lease.expires_at + 2 * self.largest_skew <= now:
            raise Violation("the process that acts holds the lease", str(lease))
        self._judge_idle(now)

    def _judge_ends(self, ids: Collection[str]) -> None:
        """I4: ended machines have a verdict or outlived their time; a healthy one ends only on its user's request."""
        truth = self.truth
        for id in ids:
            self._asked[id] = truth.now()
        live = truth.store.live()
        nodes = {node.instance_id: node for node in truth.store.nodes(*(run.id for run in truth.store.runs(ALL)))}
        wanted = {one.id: one for one in (*live.machines, *truth.store.machines(ids)) if one.end_wanted_at is not None}
        opened = {launch.id for launch in live.launches}
        for id in ids:
            if self._outlived(id):
                continue
            if self._launch_of(id) in opened:
                raise Violation("I4 a machine of an open launch is ended", id)
            if id not in wanted:
                raise Violation("I4 a machine is ended that has neither a verdict nor outlived its time", id)
        for machine in wanted.values():
            if machine.id not in self._judged:
                self._judge_end(machine, nodes.get(machine.id))
                self._judged.add(machine.id)

    def _judge_end(self, machine: KnownMachine, node: Node | None) -> None:
        agent = self.truth.agents.get(machine.id)
        if node is None:
            if agent and agent.order:
                raise Violation("I4 a machine with a work order is ended", f"{machine.id}, {machine.end_wanted_for}")
            return
        if node.verdict is None:
            raise Violation("I4 a machine is ended without a verdict", f"{machine.id}, {machine.end_wanted_for}")
        run = self.truth.store.run(node.run)
        if agent and self._healthy(agent) and run and not run.stop:
            raise Violation("I4 a healthy machine is ended", f"{machine.id}, {node.verdict}")

    def _outlived(self, id: str) -> bool:
        one = next(one for one in self.truth.cloud.model.every() if one.id == id)
        return self.truth.now() > one.launch_time + float(one.tags[LIFETIME_TAG]) + self.truth.reaper_grace

    def _launch_of(self, id: str) -> str:
        return next((one.tags.get(LAUNCH_TAG, "") for one in self.truth.cloud.model.every() if one.id == id), "")

    def _healthy(self, agent: Agent) -> bool:
        """Return whether the machine would end its work by itself in time, and reports as well as it can."""
        born, now = agent.instance.launch_time, self.truth.now()
        if (
            agent.script.mute
            or agent.plays.boot > BOOT_LIMIT
            or agent.silent
            or not agent.running
            or agent.box in self.results
            or agent.notice
            # The fuse may be due, given the clock's error.
            or now + 2 * self.largest_skew > born + float(agent.instance.tags[LIFETIME_TAG])
        ):
            return False
        # A machine without a work order has nothing to report, however late the order comes.
        _, order_at = self.truth.bucket.objects.get(work_key(agent.box), (b"", now))
        since = max(born, order_at)
        if self._cut_off(since if agent.heard_at is None else agent.last_heard_at, now) >= CUT_OFF:
            return False
        heard_at = now if agent.heard_at is None else agent.heard_at
        in_time = self._fair(since, heard_at) < BOOT_LIMIT - 2 * self.largest_skew
        return in_time and (agent.heard_at is None or self._fair(agent.last_heard_at, now) < CUT_OFF)

    def _fair(self, since: float, until: float) -> float:
        """Return the seconds between the times, less those in which neither side could reach the bucket."""
        both = [(max(a, c), min(b, d)) for a, b in self.ours_away for c, d in self.theirs_away]
        return until - since - covered(both, since, until)

    def _cut_off(self, since: float, until: float) -> float:
        """Return the seconds between the times in which only the control plane could reach the bucket."""
        both = [(max(a, c), min(b, d)) for a, b in self.ours_away for c, d in self.theirs_away]
        return covered(self.theirs_away, since, until) - covered(both, since, until)

    def _judge_number(self) -> None:
        """No more machines are alive than the settings allow, apart from machines that no listing showed."""
        alive = [one.id for one in self.truth.cloud.model.alive(self.truth.now()) if one.id not in self.overlooked]
        if self.truth.max_machines is not None and len(alive) > self.truth.max_machines:
            raise Violation("no more machines live than max_machines", str(alive))

    def _judge_run(self, run: Run) -> None:
        """A run's times are ordered, it is done after its machines' end, and no limit ends it early."""
        times = [at for at in (run.created_at, run.ended_at, run.certain_at, run.done_at) if at is not None]
        if times != sorted(times):
            raise Violation("the times of a run follow each other", str(run))
        if run.state is State.DONE:
            for node in self.truth.store.nodes(run.id):
                if self.truth.cloud.model.history(node.instance_id)[-1].state is not MachineState.TERMINATED:
                    raise Violation("I2 a done run has a machine", f"{run.id}, {node.instance_id}")
        if run.verdict and run.verdict.outcome is Outcome.TIMED_OUT and not run.stop:
            self._judge_time_out(run)

    def _judge_time_out(self, run: Run) -> None:
        assert run.verdict is not None
        now, off = self.truth.now(), 2 * self.largest_skew
        if "queue_time" in run.verdict.reason:
            limit = Recipe.load(run.recipe).spec.limits.queue_time
            if limit is None or now + off < run.created_at + limit:
                raise Violation("no limit ends a run early", f"{run.verdict} of {run.created_at}")
            return
        nodes = self.truth.store.nodes(run.id)
        agent = self.truth.agents.get(nodes[-1].instance_id) if nodes else None
        limit = SETUP_LIMIT if run.verdict.step is Step.SETUP else RUNTIME_LIMIT
        began = agent.began_at.get(run.verdict.step) if agent else None
        made_up = agent is not None and agent.script.fails_as is Outcome.TIMED_OUT
        if not made_up and (began is None or now + off < began + limit):
            raise Violation("no limit ends a run early", f"{run.verdict}, begun at {began}")

    def _judge_idle(self, now: float) -> None:
        """The end of a listed, unclaimed machine is requested again and again until it has ended."""
        truth, live = self.truth, self.truth.store.live()
        nodes = {node.instance_id: node for node in live.nodes}
        machines = {machine.id: machine for machine in live.machines}
        opened = {launch.id for launch in live.launches}
        idle: Counter[str] = Counter()
        for one in truth.cloud.model.alive(truth.now()):
            if one.state in ENDING or one.id not in self._listed or one.tags.get(LAUNCH_TAG) in opened:
                continue
            node, machine = nodes.get(one.id), machines.get(one.id)
            if node and (node.verdict is None or (machine and held_until(node, machine) > now)):
                continue
            asked = self._asked.get(one.id)
            if asked is None or truth.now() > asked + ASK_AGAIN + truth.busy + 2 * self.largest_skew:
                idle[one.id] = self._idle[one.id] + 1
                if idle[one.id] > PASSES:
                    raise Violation("an unclaimed machine's end is asked for until it comes", f"{one.id}, {asked}")
        self._idle = idle

    # When it is over

    def check(self) -> None:
        """Check the invariants at the end of the world."""
        truth = self.truth
        for machine in truth.cloud.model.every():
            if machine.state is not MachineState.TERMINATED:
                raise Violation("I1 a machine is left", f"{machine.id} is {machine.state}")
        told = Counter(each.target for each in truth.store.audit(100_000) if each.what == "start")
        bound: set[str] = set()
        boxes: set[str] = set()
        for run in truth.store.runs(ALL):
            if told[run.id] != 1:
                raise Violation("the audit has one start of each run", f"{run.id}: {told[run.id]}")
            if run.state is not State.DONE or run.verdict is None or run.done_at is None:
                raise Violation("I2 a run is not done", str(run))
            nodes = truth.store.nodes(run.id)
            self._check_outcome(run, nodes)
            self._check_retries(run, nodes)
            for node in nodes:
                self._check_log(node)
            self._check_receipt(run, nodes)
            bound |= {node.instance_id for node in nodes}
            boxes |= {node.box for node in nodes}
        spare = {one.id for one in truth.cloud.model.every()} - bound - self.overlooked
        if spare:
            raise Violation("every machine that is launched is a run's", str(sorted(spare)))
        # A process that hung may write to the mailbox of a machine that has ended; a lifecycle rule deletes the object.
        late = ("/work", "/orders")
        left = [
            key for key in truth.bucket.objects if key.startswith(("machines/", "inbox/")) and not key.endswith(late)
        ]
        if stale := [key for key in left if key.split("/")[1] in boxes]:
            raise Violation("mailboxes are left", str(stale))

    def _check_outcome(self, run: Run, nodes: Sequence[Node]) -> None:
        """I6: success and exit code come from a result, and a result is never ignored in favour of a presumption."""
        assert run.verdict is not None
        last, last_at = self.results.get(nodes[-1].box, (None, 0.0)) if nodes else (None, 0.0)
        if run.verdict.outcome is Outcome.SUCCEEDED and (last is None or last.exit_code != 0):
            raise Violation("I6 succeeded without a result that says so", f"{run.id}: {last}")
        if run.verdict.exit_code is not None and (last is None or last.exit_code != run.verdict.exit_code):
            raise Violation("I6 the exit code is not the process's own", f"{run.verdict}, {last}")
        seen = last_at < run.verdict.at - 60
        if last and seen and last.outcome is Outcome.SUCCEEDED and run.verdict.outcome is Outcome.LOST:
            raise Violation("I6 a result was passed over", f"{last} for {run.verdict}")

    def _check_retries(self, run: Run, nodes: Sequence[Node]) -> None:
        """A command begins as often as its recipe allows; infrastructure may end a limited number of attempts."""
        assert run.verdict is not None
        spec = Recipe.load(run.recipe).spec
        begun = sum(which[0] == run.id for which in self.truth.executions.done)
        if spec.retry.rerun == "before_start" and begun > 1 + spec.retries:
            raise Violation("a command begins too often", f"{run.id} began {begun} times")
        codes = [each.result.exit_code for each in nodes[:-1] if each.result and each.result.outcome is Outcome.FAILED]
        if spec.retry.on and set(codes) - set(spec.retry.on):
            raise Violation("an exit code that retry.on lacks is retried", f"{run.id} after {codes}")
        outcomes = Counter(node.verdict.outcome for node in nodes if node.verdict)
        if outcomes[Outcome.FAILED] > 1 + spec.retries:
            raise Violation("a failed command is retried too often", f"{run.id}: {outcomes}")
        lost = outcomes[Outcome.LOST] + outcomes[Outcome.INTERRUPTED]
        most = LOST_AFTER_START + LOST_BEFORE_START - 1 if begun else LOST_BEFORE_START
        if lost > most:
            raise Violation("infrastructure ends an attempt too often", f"{run.id}: {outcomes}")
        given_up = run.verdict.outcome in (Outcome.LOST, Outcome.INTERRUPTED) and not run.stop
        if given_up and spec.retry.rerun == "always" and lost < LOST_BEFORE_START:
            raise Violation("a run is given up too early", f"{run.id}: {outcomes}")

    def _check_log(self, node: Node) -> None:
        """I5: acknowledged bytes are in the archive byte by byte, and missing bytes are recorded."""
        agent = self.truth.agents.get(node.instance_id)
        objects = self.truth.bucket.objects
        data = objects.get(archive.manifest_key(node.run, node.attempt, node.rank))
        if data is None:
            raise Violation("I5 nothing is archived", node.id)
        manifest = decode(archive.Manifest, data[0])
        if set(manifest.streams) != set(STREAMS):
            raise Violation("I5 a stream is missing", f"{node.id}: {sorted(manifest.streams)}")
        result, _ = self.results.get(node.box, (None, 0.0))
        for stream, kept in manifest.streams.items():
            about, written = f"{stream} of {node.id}", agent.acknowledged.get(stream, []) if agent else []
            prefix = (node.run, node.attempt, node.rank, stream)
            for offset, piece in written:
                if objects.get(archive.kept_chunk_key(*prefix, offset), (None,))[0] != piece:
                    raise Violation("I5 bytes are missing", f"{about} lacks {len(piece)} bytes from {offset}")
            bytes_kept = b"".join(objects[archive.kept_chunk_key(*prefix, offset)][0] for offset, *_ in kept.chunks)
            if kept.length > len(bytes_kept):
                raise Violation("I5 the manifest counts bytes that are not kept", f"{about}: {kept}")
            if node.result:
                truth = end_of(written)
                if result and result.streams[stream] != truth:
                    raise Violation("I5 the end mark is not the stream's", f"{about}: {result.streams[stream]}")
                if kept.missing_from is not None:
                    raise Violation("I5 a whole log is called cut", f"{about}: {kept}")
                if (kept.length, kept.sha256) != (truth.length, truth.sha256):
                    raise Violation("I5 the archive does not end at the end mark", f"{about}: {kept}")
            elif kept.missing_from is None and result is None:
                raise Violation("I5 a cut log is called whole", about)
            elif kept.missing_at_least and kept.length + kept.missing_at_least > (
                agent.produced(stream) if agent else 0
            ):
                raise Violation("I5 more is called missing than was written", f"{about}: {kept}")

    def _check_receipt(self, run: Run, nodes: Sequence[Node]) -> None:
        """I8: the bounds contain the truth, within the error of the control plane's clock."""
        data = self.truth.bucket.objects.get(archive.receipt_key(run.id))
        if data is None:
            raise Violation("I8 no receipt", run.id)
        told = decode(Receipt, data[0])
        if told.provisional or len(told.machines) != len(nodes):
            raise Violation("I8 a receipt lacks machines or is provisional", str(told))
        for bill in told.machines:
            self._check_bill(bill)
        # A process that hung may have stored the archived receipt, with another time of the end.
        self._check_line(told, run.created_at)
        held = [
            Assignment(node, machine) for node in nodes for machine in self.truth.store.machines([node.instance_id])
        ]
        now = receipt_of(self.truth.store, run, held, self.truth.now())
        if self._check_line(now, run.created_at) != run.done_at:
            raise Violation("I8 the line of phases does not end when the run is done", str(now))
        self._check_bounds(told, nodes)

    def _check_bill(self, bill: MachineBill) -> None:
        states = {change.state: change.at for change in self.truth.cloud.model.history(bill.instance_id)}
        # `terminated` replaces the reason of `shutting-down`, but not its time.
        ended = states.get(MachineState.SHUTTING_DOWN, states[MachineState.TERMINATED])
        ran = max(MINIMUM_SECONDS, ended - states[MachineState.RUNNING]) if MachineState.RUNNING in states else 0
        off = 2 * self.largest_skew + 1
        if not bill.seconds_at_least - off <= ran <= bill.seconds_at_most + off:
            raise Violation("I8 the billed seconds are not within the bounds", f"{ran} s, {bill}")
        # A disk is billed for at least a minute (Amazon EBS pricing).
        lived = max(MINIMUM_SECONDS, states[MachineState.TERMINATED] - states[MachineState.PENDING])
        least, most, gib = bill.disk_gib_seconds_at_least, bill.disk_gib_seconds_at_most, bill.disk_gib
        if least is None or most is None or gib is None or not least - gib * off <= gib * lived <= most + gib * off:
            raise Violation("I8 the disk's seconds are not within the bounds", f"{lived} s, {bill}")
        one = next(one for one in self.truth.cloud.model.every() if one.id == bill.instance_id)
        price = self.truth.cloud.model.price(one.offer, one.launch_time)
        if bill.price and bill.price.dollars != price:
            raise Violation("I8 a price is a guess", f"{price}, {bill}")

    def _check_line(self, told: Receipt, created_at: float) -> float | None:
        """I8: the phases have no hole and no overlap. Return the end of the line."""
        line = [phase for phase in told.phases if not phase.beside]
        for before, after in pairwise(line):
            if before.ended is None or before.ended.at != after.began.at:
                raise Violation("I8 a hole or an overlap between phases", f"{before} and {after}")
        if line[0].began.at != created_at or line[-1].ended is None:
            raise Violation("I8 the line of phases does not begin with the run", str(line))
        return line[-1].ended.at

    def _check_bounds(self, told: Receipt, nodes: Sequence[Node]) -> None:
        """I8: times from a listing or the cloud are right, within the bound's error and the clock's."""
        names = {"boot": MachineState.RUNNING, "gone": MachineState.SHUTTING_DOWN, "pending": MachineState.PENDING}
        machines = {node.attempt: node.instance_id for node in nodes}
        for phase in told.phases:
            cloudy = phase.began.source in (Source.LISTING, Source.TRANSITION_REASON, Source.LAUNCH_TIME)
            if phase.name not in names or not cloudy or phase.beside:
                continue
            states = {change.state: change.at for change in self.truth.cloud.model.history(machines[phase.attempt])}
            at = states.get(names[phase.name])
            off = 2 * self.largest_skew + phase.began.error + 1e-3
            if phase.name == "boot" and phase.began.source is Source.LAUNCH_TIME:
                at = states[MachineState.PENDING]
            if at is not None and abs(at - phase.began.at) > off:
                raise Violation("I8 a phase's bound lacks the truth", f"{phase} began at {at}")
