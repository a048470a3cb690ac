"""Rules at the end of a world: what may be left, and that records, archive and receipts are true."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.cost.phases import Source
from provisioner.core.cost.receipt import MINIMUM_SECONDS, MachineBill, Receipt
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import STREAMS, Outcome
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.lists.joining import NEEDLESS
from provisioner.core.run.records import Assignment, Node, Run
from provisioner.core.run.states import State
from provisioner.core.run.verdicts import LOST_AFTER_START, LOST_BEFORE_START
from provisioner.core.usage.amounts import total
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.machines.scripted_agent import end_of
from provisioner.service.control_loop.archive import bill as receipt_of
from tests.service.truth import Truth
from tests.service.violation import Violation

ALL = RunFilter(limit=1000)


class EndRules:
    """The rules for the end of one world."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        #: The largest error of the control plane's clock so far, in either direction.
        self.largest_skew = 0.0
        #: Results that the bucket accepted, by mailbox and the attempt in the key, with their times.
        self.results: dict[tuple[str, int], tuple[Result, float]] = {}
        #: Machines that could not be counted: a listing by their launch's tag lacked them, or they were launched too
        #: late.
        self.overlooked: set[str] = set()

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
        # If a machine of a run with several machines was overlooked, the others of its launch were ended, too.
        launches = {self._launch_of(id) for id in self.overlooked}
        released = {one.id for one in truth.cloud.model.every() if one.tags.get(LAUNCH_TAG) in launches}
        # A machine that was to join a list may arrive when the list has ended.
        known = truth.store.machines([one.id for one in truth.cloud.model.every()])
        released |= {machine.id for machine in known if machine.end_wanted_for == NEEDLESS}
        spare = {one.id for one in truth.cloud.model.every()} - bound - released
        if spare:
            raise Violation("every machine that is launched is a run's", str(sorted(spare)))
        # A process that hung may write to the mailbox of a machine that has ended; a lifecycle rule deletes the object.
        late = re.compile(r"machines/[^/]+/(work(/[0-9]+)?|orders|peers|chunks/[0-9]+)")
        left = [
            key for key in truth.bucket.objects if key.startswith(("machines/", "inbox/")) and not late.fullmatch(key)
        ]
        if stale := [key for key in left if key.split("/")[1] in boxes]:
            raise Violation("mailboxes are left", str(stale))

    def _check_outcome(self, run: Run, nodes: Sequence[Node]) -> None:
        """I6: success and exit code come from a result, and a result is never ignored in favour of a presumption."""
        assert run.verdict is not None
        if run.commands:
            return  # Its outcome follows from its commands (list_rules).
        ranks = [node for node in nodes if node.attempt == run.attempt]
        found = [self.results.get((node.box, node.later), (None, 0.0)) for node in ranks]
        codes = [last.exit_code if last else None for last, _ in found]
        gang = Recipe.load(run.recipe).spec.gang
        deciding = codes[:1] if gang.success == "leader" else codes
        if run.verdict.outcome is Outcome.SUCCEEDED and (not codes or any(code != 0 for code in deciding)):
            raise Violation("I6 succeeded without results that say so", f"{run.id}: {codes}")
        if run.verdict.exit_code is not None and run.verdict.exit_code not in codes:
            raise Violation("I6 the exit code is not a process's own", f"{run.verdict}, {codes}")
        for last, last_at in found if run.scale == 1 else ():
            seen = last_at < run.verdict.at - 60
            if last and seen and last.outcome is Outcome.SUCCEEDED and run.verdict.outcome is Outcome.LOST:
                raise Violation("I6 a result was passed over", f"{last} for {run.verdict}")

    def _check_retries(self, run: Run, nodes: Sequence[Node]) -> None:
        """A command begins as often as its recipe allows; infrastructure may end a limited number of attempts."""
        assert run.verdict is not None
        if run.commands:
            return
        spec = Recipe.load(run.recipe).spec
        begun = len({attempt for of, attempt, _ in self.truth.executions.done if of == run.id})
        if spec.retry.rerun == "before_start" and begun > 1 + spec.retries:
            raise Violation("a command begins too often", f"{run.id} began {begun} times")
        if run.scale > 1:
            # Each attempt has several outcomes, of which only one counts.
            if run.attempt > 1 + spec.retries + LOST_AFTER_START + LOST_BEFORE_START:
                raise Violation("a run has too many attempts", f"{run.id}: {run.attempt}")
            return
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
        result, _ = self.results.get((node.box, node.later), (None, 0.0))
        for stream, kept in manifest.streams.items():
            about, written = f"{stream} of {node.id}", agent.logs.get(node.later, {}).get(stream, []) if agent else []
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
        if told.provisional or len(told.machines) != len({node.instance_id for node in nodes}):
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
        self._check_usage(nodes)

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
        if bill.price and bill.dollars_at_least is not None and bill.dollars_at_most is not None:
            # EC2 User Guide, "Billing for interrupted Spot Instances".
            taken = one.offer.market is Market.SPOT and one.now.reason_code == "Server.SpotInstanceTermination"
            second = bill.price.dollars / 3600
            cost, slack = 0.0 if taken and ran < 3600 else ran * second, off * second
            if not bill.dollars_at_least - slack <= cost <= bill.dollars_at_most + slack:
                raise Violation("I8 the dollars are not within the bounds", f"{cost}, {bill}")

    def _check_usage(self, nodes: Sequence[Node]) -> None:
        """Every machine of a run that is done is in the usage, with amounts within their bounds."""
        ids = {node.instance_id for node in nodes}
        used = self.truth.store.usages(ids)
        if {each.id for each in used} != ids:
            raise Violation("the usage lacks machines", f"{ids}, {used}")
        for each in used:
            sums = total(part.amounts for part in each.parts)
            if not sums.seconds_at_least <= sums.seconds <= sums.seconds_at_most:
                raise Violation("the expected usage is not within its bounds", str(each))
            if not sums.dollars_at_least <= sums.dollars <= sums.dollars_at_most:
                raise Violation("the expected dollars are not within their bounds", str(each))

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
        machines = {(node.attempt, node.rank): node.instance_id for node in nodes}
        for phase in told.phases:
            cloudy = phase.began.source in (Source.LISTING, Source.TRANSITION_REASON, Source.LAUNCH_TIME)
            if phase.name not in names or not cloudy or phase.beside:
                continue
            history = self.truth.cloud.model.history(machines[phase.attempt, phase.rank])
            states = {change.state: change.at for change in history}
            at = states.get(names[phase.name])
            off = 2 * self.largest_skew + phase.began.error + 1e-3
            if phase.name == "boot" and phase.began.source is Source.LAUNCH_TIME:
                at = states[MachineState.PENDING]
            if at is not None and abs(at - phase.began.at) > off:
                raise Violation("I8 a phase's bound lacks the truth", f"{phase} began at {at}")

    def _launch_of(self, id: str) -> str:
        return next((one.tags.get(LAUNCH_TAG, "") for one in self.truth.cloud.model.every() if one.id == id), "")
