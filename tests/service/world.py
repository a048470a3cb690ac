"""A whole installation in virtual time: the real services, the model of EC2, machines that follow scripts.

Everything runs in one thread and moves only when the control plane waits (or hangs), so a seed tells
the whole story. The control plane may be killed at any call of a port: its `Incarnation` is thrown
away, and a new one goes on with the same store.
"""

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from provisioner.adapters.connection import AsyncSsh
from provisioner.core import archive
from provisioner.core.access import Caller
from provisioner.core.errors import Misconfigured, NoAnswer, Throttled, Transient
from provisioner.core.launch import MachineState
from provisioner.core.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.phases import Source
from provisioner.core.receipt import MINIMUM_SECONDS, Receipt
from provisioner.core.recipe import Recipe
from provisioner.core.record import Node, Run
from provisioner.core.run import State
from provisioner.core.work import Engine, Outcome, decode, work_key
from provisioner.ports.bucket import Bucket
from provisioner.ports.cloud import Cloud
from provisioner.ports.store import RunFilter, Store
from provisioner.rehearsal.conditions import Conditions
from provisioner.rehearsal.fake import FakeCloud
from provisioner.rehearsal.instance import Booted, Noticed, Unplugged
from provisioner.rehearsal.memory import MemoryBucket
from provisioner.rehearsal.stepping import CountingIds, InlinePool, ListJournal, StepClock
from provisioner.service.control import Service
from provisioner.service.installation import Installation, Policy
from provisioner.service.loop import Intervals, Loop
from provisioner.service.reconciler import Reconciler
from provisioner.service.runs import Runs
from provisioner.service.site import Agent as AgentArchive
from provisioner.service.site import Sites
from provisioner.service.wayin.entrance import Entrance
from tests.service.agents import BOOT_FUSE, Agent, Executions, Script, Violation
from tests.service.memory_store import MemoryStore
from tests.service.trouble import Call, Crash, Fate, Fates, Spoiled, calm

#: Who sits at the control host.
TESTER = Caller("local:tester", ("tester",), admin=True, source="local")
#: No world needs longer, whatever befalls it: the longest recipe, all its attempts, all waits.
LONGEST = 3 * 24 * 3600.0

#: Limits that keep a world short; the last word on what a healthy machine is.
LIMITS = {"boot": "5m", "pull": "5m", "setup": "5m", "runtime": "20m", "stop_grace": "10s"}
BOOT_LIMIT = 300.0


@dataclass(eq=False)
class Incarnation:
    """One life of the control plane's process."""

    number: int
    dead: bool = False
    hanging: bool = False


class _Clock:
    """The control plane's clock, which may be wrong; waiting is what lets the world go on."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def now(self) -> float:
        return self._world.clock.now() + self._world.skew

    def elapsed(self) -> float:
        return self._world.clock.now()

    def wait(self, seconds: float) -> None:
        self._world.advance(seconds)

    def wake(self) -> None:
        """Whoever stores something while it rests is seen by `changes`."""


class World:
    """One installation, its cloud, its machines and its users."""

    def __init__(
        self,
        conditions: Conditions | None = None,
        scripts: Callable[[int], Script] = lambda _: Script(),
        fates: Fates = calm,
        *,
        busy: float = 10.0,
        max_machines: int | None = None,
        store: Store | None = None,
        limits: OwnerLimits = UNLIMITED,
    ) -> None:
        """`scripts` says what the n-th machine to boot plays."""
        self.clock = StepClock()
        #: How far the control plane's clock is ahead, and the most it ever was, either way.
        self.skew, self.largest_skew = 0.0, 0.0
        self.began = self.clock.now()
        self.cloud = FakeCloud(self.clock, conditions)
        self.model = self.cloud.model
        self.bucket = MemoryBucket(self.clock.now)
        self.ids = CountingIds()
        self.store: Store = store or MemoryStore(self.ids)
        self.executions = Executions()
        self.agents: dict[str, Agent] = {}
        self.calls: list[Call] = []
        #: Told by every life of the control plane.
        self.journal = ListJournal()
        #: What went wrong by the control plane's own account.
        self.told: list[str] = []
        self.lives = 0
        #: From when until when nobody can reach the bucket.
        self.away: list[tuple[float, float]] = []
        self._awake: dict[str, Agent] = {}
        self._dying: dict[str, float] = {}
        self._scripts, self._fates = scripts, fates
        self._intervals = Intervals(busy=busy, idle=60.0, glance=busy)
        self._plans: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._policy = Policy(
            installation="test",
            image="ami-1",
            profile="machine",
            profiles={"rich": "richer"},
            security_groups=(),
            disk_gib=100,
            max_machines=max_machines,
            engine=Engine.CONTAINER,
            boot_fuse=BOOT_FUSE,
            reaper_grace=900.0,
            limits=limits,
        )
        #: The users' way in: nothing of it is spoiled.
        self.runs = Runs(self._installation(self.store, self.cloud, self.bucket), TESTER)

    # What users do

    def plan(self, after: float, deed: Callable[[], object]) -> None:
        """Let something happen so many seconds after the beginning."""
        heapq.heappush(self._plans, (self.began + after, next(self._numbers), deed))

    def start(self, name: str = "job", **spec: Any) -> Run:
        """A run of a job with this recipe."""
        limits = LIMITS | spec.pop("limits", {})
        whole = {"name": name, "image": "i", "instance_type": "g5.xlarge", "command": "true", "limits": limits, **spec}
        self.runs.apply(json.dumps({"type": "job", "spec": whole}), "the test's recipe")
        return self.runs.start(f"{spec.get('owner', 'tester')}/{name}", {})

    def turn_clock(self, ahead: float) -> None:
        """The control plane's clock is so far ahead of everybody else's from now on."""
        self.skew, self.largest_skew = ahead, max(abs(ahead), self.largest_skew)

    # Time

    def now(self) -> float:
        return self.clock.now()

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and all happen that is due, each at its own time."""
        end = self.now() + seconds
        while True:
            self._see_events()
            due = min((agent.due for agent in self._awake.values()), default=end)
            due = min(due, *self._dying.values(), end)
            due = min(due, self.model.next_due() or end, self._plans[0][0] if self._plans else end)
            if due >= end:
                break
            self.clock.step(max(0.0, due - self.now()))
            self.model.advance(self.now())
            self._see_events()
            for agent in list(self._awake.values()):
                if agent.due <= self.now() and agent.instance.id in self._awake:
                    agent.act()
            while self._plans and self._plans[0][0] <= self.now():
                heapq.heappop(self._plans)[2]()
        self.clock.step(end - self.now())
        self.model.advance(self.now())
        self._see_events()

    def _see_events(self) -> None:
        events, self.cloud.events = self.cloud.events + self.model.drain(), []
        for event in events:
            machine = event.instance.id
            match event:
                case Booted(instance):
                    script = self._scripts(len(self.agents))
                    mailbox = cast(Bucket, Spoiled(self.bucket, lambda m, deed: self._deal(None, "mailbox", m, deed)))
                    role = self.cloud.profile("machine").role_id
                    self.agents[machine] = self._awake[machine] = Agent(
                        instance, script, self.model, mailbox, self.now, self.ids.new, self.executions, role
                    )
                case Noticed(instance):
                    self.agents[machine].noticed(instance.taken_at or self.now())
                case Unplugged():
                    self.model.gone(machine, self.now())
                    # A machine that is asked to end takes its time, and what runs goes on for most of it.
                    told = self.agents[machine].notice is not None
                    asked = told or event.instance.now.reason_code.startswith("Client.User")
                    self._dying[machine] = self.now() + (0.8 * self.model.conditions.end_delay if asked else 0.0)
        for machine in [machine for machine, at in self._dying.items() if at <= self.now()]:
            del self._dying[machine]
            self._awake.pop(machine).unplugged()

    # The control plane

    def _installation(self, store: Store, cloud: Cloud, bucket: Bucket) -> Installation:
        return Installation(store, cloud, bucket, _Clock(self), InlinePool(), self.ids, self.journal, self._policy)

    def incarnate(self) -> tuple[Incarnation, Service]:
        """A new process of the control plane."""
        self.lives += 1
        life = Incarnation(self.lives)

        def port(name: str, real: object) -> Any:
            return Spoiled(real, lambda method, deed: self._deal(life, name, method, deed))

        installation = self._installation(
            port("store", self.store), port("cloud", self.cloud), port("bucket", self.bucket)
        )
        sites = Sites(installation, AgentArchive("1", lambda: b"agent"), lambda role, sha256: f"{role} {sha256}")
        holder = f"life {life.number}"
        loop = Loop(installation, Reconciler(installation, sites), holder, "daemon", self._intervals)
        return life, Service(installation, loop, TESTER, Entrance(installation, AsyncSsh(), ""), sites)

    def run(self, downtime: Callable[[], float] = lambda: 1.0) -> None:
        """Let it all happen, until nothing is left to do; what is killed comes back after `downtime`."""
        while not self.over():
            life, service = self.incarnate()
            try:
                service.drive(self.over, self.told.extend)
            except Crash:
                self._bury(life)
                self.advance(downtime())
        faults = [each for each in self.told if "fault of ours" in each]
        if faults:
            raise Violation(f"a fault of ours: {faults[0]}")

    def _bury(self, life: Incarnation) -> None:
        life.dead = True
        if isinstance(self.store, MemoryStore):
            self.store.dead.add(f"life {life.number}")

    def over(self) -> bool:
        """Whether nothing is left to do, for the control plane and for the world."""
        if self.now() > self.began + LONGEST:
            stuck = [f"{run.id[-4:]} {run.state} {run.waiting_for}" for run in self.store.live().runs]
            raise Violation(f"not over after {LONGEST / 3600:.0f} h: {stuck}, {self.model.alive(self.now())}")
        if self._plans or self.model.alive(self.now()):
            return False
        live = self.store.live()
        return not (live.runs or live.machines or live.launches)

    def _deal(self, life: Incarnation | None, port: str, method: str, deed: Callable[[], Any]) -> Any:
        if life and (life.dead or life.hanging):
            raise Crash
        call = Call(port, method, len(self.calls), self.now())
        self.calls.append(call)
        fate = self._fates(call)
        if life and fate is Fate.CRASH_BEFORE:
            raise self._crash(life)
        if life and fate is Fate.HANG and not life.hanging:
            self._hang(life)
        if port != "store" and fate is Fate.REFUSE:
            raise (Throttled if call.number % 2 else Transient)("spoiled", "SlowDown")
        if port == "cloud" and fate is Fate.DENY:
            raise Misconfigured("spoiled", "UnauthorizedOperation")
        if port == "cloud" and method == "terminate":
            self._judge_all()
        answer = deed()
        if port != "store" and fate is Fate.TWICE:
            answer = deed()
        self._see_events()
        if life and fate is Fate.CRASH_AFTER:
            raise self._crash(life)
        if port != "store" and fate is Fate.LOSE:
            raise NoAnswer("spoiled") if port == "cloud" else Transient("spoiled")
        return answer

    def _crash(self, life: Incarnation) -> Crash:
        life.dead = True
        return Crash()

    def _hang(self, life: Incarnation) -> None:
        """The process stands still for three minutes, and another one takes over meanwhile."""
        self.advance(self._intervals.lease + 1)
        other, service = self.incarnate()
        life.hanging = True
        try:
            for _ in range(5):
                self.told.extend(service.step())
                self.advance(self._intervals.busy)
        except Crash:
            pass
        finally:
            life.hanging = False
            self._bury(other)

    # What must hold

    def _judge_all(self) -> None:
        """I4: whoever's end is wanted has a verdict, and a healthy machine's is its user's wish."""
        live = self.store.live()
        nodes = {node.instance_id: node for node in live.nodes}
        for machine in live.machines:
            if machine.end_wanted_at is None:
                continue
            agent, node = self.agents.get(machine.id), nodes.get(machine.id)
            if node is None:
                if agent and agent.order:
                    raise Violation(f"{machine.id} has a work order and is ended: {machine.end_wanted_for}")
                continue
            if node.verdict is None:
                raise Violation(f"{machine.id} is ended without a verdict: {machine.end_wanted_for}")
            run = self.store.run(node.run)
            if agent and self._healthy(agent) and run and not run.stop:
                raise Violation(f"{machine.id} is healthy and ended: {node.verdict}")

    def _healthy(self, agent: Agent) -> bool:
        """Whether its machine would end the work by itself, in time, and says so as well as it can."""
        born, now = agent.instance.launch_time, self.now()
        if (
            agent.script.mute
            or agent.script.boot > BOOT_LIMIT
            or agent.silent
            or not agent.running
            or agent.result
            or agent.notice
        ):
            return False
        # It has nothing to say before its work order is there, however late that comes.
        _, order_at = self.bucket.objects.get(work_key(agent.box), (b"", now))
        heard_at = now if agent.heard_at is None else agent.heard_at
        in_time = self._elapsed(max(born, order_at), heard_at) < BOOT_LIMIT - 2 * self.largest_skew
        # Who cannot reach the bucket for as long as a limit's margin, while we can, is as good as silent.
        return in_time and (agent.heard_at is None or self._elapsed(agent.last_heard_at, now) < 60)

    def _elapsed(self, since: float, until: float) -> float:
        """The time in between in which the bucket was not away for everybody."""
        away = sum(max(0.0, min(until, ends) - max(since, begins)) for begins, ends in self.away)
        return until - since - away

    def check(self) -> None:
        """The invariants, once all is over; raises Violation."""
        for machine in self.model.every():
            if machine.state is not MachineState.TERMINATED:
                raise Violation(f"I1: {machine.id} is {machine.state}")
        told = Counter(each.target for each in self.store.audit(100_000) if each.what == "start")
        for run in self.store.runs(RunFilter(limit=1000)):
            if told[run.id] != 1:
                raise Violation(f"{run.id} was started {told[run.id]} times by the audit")
            if run.state is not State.DONE or run.verdict is None or run.done_at is None:
                raise Violation(f"I2: {run}")
            nodes = self.store.nodes(run.id)
            self._check_outcome(run, nodes)
            self._check_retries(run)
            for node in nodes:
                self._check_log(node)
            self._check_receipt(run, nodes)
        # Who hung may write to a machine that is long gone: a lifecycle rule takes that.
        late = ("/work", "/orders")
        left = [
            key for key in self.bucket.objects if key.startswith(("machines/", "inbox/")) and not key.endswith(late)
        ]
        bound = {node.box for run in self.store.runs(RunFilter(limit=1000)) for node in self.store.nodes(run.id)}
        if stale := [key for key in left if key.split("/")[1] in bound]:
            raise Violation(f"mailboxes are left: {stale}")

    def _check_outcome(self, run: Run, nodes: Sequence[Node]) -> None:
        """I6, and that a result is never passed over for a presumption."""
        assert run.verdict is not None
        last = self.agents.get(nodes[-1].instance_id) if nodes else None
        truth = last.result if last else None
        if run.verdict.outcome is Outcome.SUCCEEDED and (truth is None or truth.exit_code != 0):
            raise Violation(f"I6: run {run.id} succeeded, and {truth} is what its machine said")
        if run.verdict.exit_code is not None and (truth is None or truth.exit_code != run.verdict.exit_code):
            raise Violation(f"I6: exit code {run.verdict.exit_code}, and {truth} is what its machine said")
        seen = last is not None and last.result_at < run.verdict.at - 60
        if truth and seen and truth.outcome is Outcome.SUCCEEDED and run.verdict.outcome is Outcome.LOST:
            raise Violation(f"I6: {truth} was passed over for {run.verdict}")

    def _check_retries(self, run: Run) -> None:
        """A command begins as often as its recipe allows."""
        spec = Recipe.load(run.recipe).spec
        begun = sum(which[0] == run.id for which in self.executions.done)
        if spec.retry.rerun == "before_start" and begun > 1 + spec.retries:
            raise Violation(f"run {run.id} began {begun} times")
        results = [node.result for node in self.store.nodes(run.id)[:-1]]
        codes = [each.exit_code for each in results if each and each.outcome is Outcome.FAILED]
        if spec.retry.on and set(codes) - set(spec.retry.on):
            raise Violation(f"run {run.id} was tried again after {codes}")

    def _check_log(self, node: Node) -> None:
        """I5: what the bucket acknowledged is in the archive, and what is missing is said."""
        agent = self.agents.get(node.instance_id)
        data = self.bucket.objects.get(archive.manifest_key(node.run, node.attempt, node.rank))
        if data is None:
            raise Violation(f"I5: nothing was archived of {node.id}")
        manifest = decode(archive.Manifest, data[0])
        for stream, kept in manifest.streams.items():
            written = agent.acknowledged.get(stream, []) if agent else []
            for offset, piece in written:
                key = archive.kept_chunk_key(node.run, node.attempt, node.rank, stream, offset)
                if self.bucket.objects.get(key, (None,))[0] != piece:
                    raise Violation(f"I5: {stream} of {node.id} lacks {len(piece)} bytes from {offset}")
            whole = node.result is not None or (agent is not None and agent.result is not None)
            if kept.missing_from is None and not whole:
                raise Violation(f"I5: {stream} of {node.id} has no end, and nobody says so")
            if node.result and whole and kept.missing_from is not None:
                raise Violation(f"I5: {stream} of {node.id} is whole, and called incomplete: {kept}")

    def _check_receipt(self, run: Run, nodes: Sequence[Node]) -> None:
        """I8: the bounds contain the truth, but for how wrong our own clock was."""
        data = self.bucket.objects.get(archive.receipt_key(run.id))
        if data is None:
            raise Violation(f"I8: no receipt of {run.id}")
        told = decode(Receipt, data[0])
        if told.provisional or len(told.machines) != len(nodes):
            raise Violation(f"I8: {told}")
        for bill in told.machines:
            history = self.model.history(bill.instance_id)
            states = {change.state: change.at for change in history}
            # Terminated takes the place of shutting-down's reason, not of its time.
            ended = states.get(MachineState.SHUTTING_DOWN, states[MachineState.TERMINATED])
            truth = max(MINIMUM_SECONDS, ended - states[MachineState.RUNNING]) if MachineState.RUNNING in states else 0
            off = 2 * self.largest_skew + 1
            if not bill.seconds_at_least - off <= truth <= bill.seconds_at_most + off:
                raise Violation(f"I8: {truth} s are not within {bill}")

        # Who hung may have stored the archive's receipt, with its own idea of when all was done.
        self._check_line(told, run.created_at)
        now = self.runs.receipt(run.id)
        if self._check_line(now, run.created_at) != run.done_at:
            raise Violation(f"I8: the line does not end when the run is done: {now}")
        self._check_bounds(told, nodes)

    def _check_line(self, told: Receipt, created_at: float) -> float | None:
        """I8: no hole and no overlap; when the line ends."""
        line = [phase for phase in told.phases if not phase.beside]
        for before, after in pairwise(line):
            if before.ended is None or before.ended.at != after.began.at:
                raise Violation(f"I8: a hole or an overlap between {before} and {after}")
        if line[0].began.at != created_at or line[-1].ended is None:
            raise Violation(f"I8: {line}")
        return line[-1].ended.at

    def _check_bounds(self, told: Receipt, nodes: Sequence[Node]) -> None:
        """I8: what a listing or the cloud dated was so at that time, but for the bound's own error and our clock's."""
        names = {"boot": MachineState.RUNNING, "gone": MachineState.SHUTTING_DOWN, "pending": MachineState.PENDING}
        machines = {node.attempt: node.instance_id for node in nodes}
        for phase in told.phases:
            cloudy = phase.began.source in (Source.LISTING, Source.TRANSITION_REASON, Source.LAUNCH_TIME)
            if phase.name not in names or not cloudy or phase.beside:
                continue
            states = {change.state: change.at for change in self.model.history(machines[phase.attempt])}
            at = states.get(names[phase.name])
            off = 2 * self.largest_skew + phase.began.error + 1e-3
            if phase.name == "boot" and phase.began.source is Source.LAUNCH_TIME:
                at = states[MachineState.PENDING]
            if at is not None and abs(at - phase.began.at) > off:
                raise Violation(f"I8: {phase} began at {at}")

    def story(self) -> str:
        """What happened, for whoever reads a failing seed."""
        lines = []
        for run in reversed(self.store.runs(RunFilter(limit=1000))):
            lines.append(f"run {run.id[-4:]} {run.state} {run.verdict}")
            lines += [f"  {event.at - self.began:9.1f} {event.text}" for event in self.store.events(run.id)]
        for machine, agent in self.agents.items():
            states = ", ".join(f"{change.state} {change.at - self.began:.1f}" for change in self.model.history(machine))
            lines.append(f"machine {machine[-4:]}: {states}; {agent.script}")
        return "\n".join(lines)
