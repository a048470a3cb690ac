"""A complete installation in virtual time: the real services, the model of EC2, scripted machines.

Everything runs in one thread and moves only when the control plane waits or hangs, so a seed determines the whole
world. The control plane may be killed at any call of a port: its Incarnation is discarded, and a new one continues with
the same store.
"""

import heapq
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from provisioner.adapters.ssh.asyncssh import AsyncSsh
from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.cloud.caps.budget import NO_CAPS, Caps
from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import Misconfigured, NeedsOperator, NoAnswer, Throttled, Transient
from provisioner.core.protocol.words import Engine
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.records import Run
from provisioner.core.run.work_order import loaded
from provisioner.ports.bucket import Bucket
from provisioner.ports.cloud import Cloud
from provisioner.ports.store import RunFilter, Store
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Booted, Noticed, Unplugged
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, ListJournal, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.service.control import OnBehalf, Parts, Service
from provisioner.service.control_loop.launch_sites import Agent as AgentArchive
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.lists.texts import Texts
from provisioner.service.control_loop.loop import Intervals, Loop
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.installation import Installation, Policy
from provisioner.service.ssh_entry.entrance import Entrance
from tests.service.agents import BOOT_FUSE, Agent, Executions, Script
from tests.service.list_truth import ListTruth
from tests.service.memory_store import MemoryStore
from tests.service.process_ports import Clock, Meter
from tests.service.rules import Rules
from tests.service.trouble import FALLS, Call, Crash, Fate, Fates, Fault, Outage, Spoiled, calm
from tests.service.truth import LIMITS, Truth
from tests.service.violation import Violation

#: The user of the control host.
TESTER = Caller("local:tester", ("tester",), admin=True, source="local")
#: Number of commands in a block of a list.
BLOCK_SIZE = 5
#: Maximum number of processes that hang at the same time: each of them uses a part of the test's stack.
HANGING_MOST = 8
#: No world needs longer: the longest recipe with all its attempts and waits.
LONGEST = 3 * 24 * 3600.0

#: Names of machines' mailboxes, and ids of runs.
_ID = re.compile(r"[A-Z0-9]+:(i-[0-9a-f]{17})|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(eq=False)
class Incarnation:
    """One process of the control plane."""

    number: int
    dead: bool = False
    hanging: bool = False


def parts(installation: Installation, holder: str, intervals: Intervals) -> Parts:
    """Return the parts of a process of the control plane; `holder` is its name in the lease."""
    return Parts(
        installation,
        lambda: LaunchSites(installation, AgentArchive("1", lambda: b"agent"), lambda role, sha256: f"{role} {sha256}"),
        lambda sites: Loop(installation, Reconciler(installation, sites), holder, "daemon", intervals),
        lambda: Entrance(installation, AsyncSsh(), ""),
    )


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
        reservation: str = "",
        outages: Sequence[Outage] = (),
        caps: Caps = NO_CAPS,
    ) -> None:
        """`scripts` returns the script of the n-th machine to boot."""
        self.clock = StepClock()
        #: Seconds by which the control plane's clock is ahead.
        self.skew = 0.0
        self.began = self.clock.now()
        self.cloud = FakeCloud(self.clock, conditions)
        self.model = self.cloud.model
        self.bucket = MemoryBucket(self.clock.now)
        self.ids = CountingIds()
        self.store: Store = store or MemoryStore(self.ids)
        self.executions = Executions()
        self.lists = ListTruth(self._is_over, self._commands_of, self._options_of)
        self.agents: dict[str, Agent] = {}
        self.calls: list[Call] = []
        #: The journal of all processes of the control plane.
        self.journal = ListJournal()
        #: Errors that the control plane reported.
        self.told: list[str] = []
        self.lives = 0
        #: Number of processes that hang now, each while the next one acts.
        self._hanging = 0
        #: Whether a call of the control plane failed since its last pass.
        self._spoiled = False
        #: Faults that calls have met so far, without outages.
        self.met: list[Fault] = []
        self._aims, self._names = Counter[tuple[str, str, str]](), dict[str, str]()
        self._awake: dict[str, Agent] = {}
        self._dying: dict[str, float] = {}
        self._scripts, self.fates = scripts, fates
        self._intervals = Intervals(busy=busy, idle=60.0, glance=busy)
        self._plans: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._policy = Policy(
            installation="test",
            image="ami-1",
            profile="machine",
            profiles={"rich": "richer"},
            profile_groups={"richer": ("sg-richer",)},
            security_groups=(),
            disk_gib=100,
            max_machines=max_machines,
            terms=RecipeDefaults(max_machines=max_machines, reservation=reservation),
            engine=Engine.CONTAINER,
            boot_fuse=BOOT_FUSE,
            reaper_grace=900.0,
            limits=limits,
            caps=caps,
        )
        #: The services for users, whose calls never fail.
        self.installation = self.installed(self.store, self.cloud, self.bucket)
        self.users = OnBehalf(parts(self.installation, "users", self._intervals), TESTER)
        self.jobs, self.runs = self.users.jobs, self.users.runs
        truth = Truth(
            self.store,
            self.cloud,
            self.bucket,
            self.executions,
            self.agents,
            self.lists,
            self.now,
            self.began,
            busy,
            self._policy,
        )
        self.rules = Rules(truth)
        self.rules.lists.control = self.users.commands
        self._outages = outages
        for each in outages:
            spans = {"bucket": self.rules.ours_away, "mailbox": self.rules.theirs_away}.get(each.port)
            if spans is not None:
                spans.append((self.began + each.begins, self.began + each.ends))

    # What users do

    def plan(self, after: float, deed: Callable[[], object]) -> None:
        """Plan an action this many seconds after the world's start."""
        heapq.heappush(self._plans, (self.began + after, next(self._numbers), deed))

    def start(self, name: str = "job", upload: str = "", **spec: Any) -> Run:
        """Apply a job with this recipe, start it, with an upload if one is given, and return the run."""
        limits = LIMITS | spec.pop("limits", {})
        whole = {"name": name, "image": "i", "instance_type": "g5.xlarge", "command": "true", "limits": limits, **spec}
        self.jobs.apply(json.dumps({"type": "job", "spec": whole}), "the test's recipe")
        run = self.runs.record(self.runs.start(f"{spec.get('owner', 'tester')}/{name}", {}, upload=upload).id)
        if commands := self.store.command_list(run.id):
            # With small blocks, a short list has several.
            self.store.save([replace(commands, block_size=BLOCK_SIZE)])
        return run

    def turn_clock(self, ahead: float) -> None:
        """From now on the control plane's clock is this far ahead of all others."""
        self.skew, self.rules.largest_skew = ahead, max(abs(ahead), self.rules.largest_skew)

    # Time

    def now(self) -> float:
        return self.clock.now()

    def advance(self, seconds: float) -> None:
        """Let this time pass, with every due event at its own time."""
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
                    mailbox = cast(Bucket, Spoiled(self.bucket, lambda *call: self._deal(None, "mailbox", *call)))
                    role = self.cloud.profile("machine").role_id
                    self.agents[machine] = self._awake[machine] = Agent(
                        instance, script, self.model, mailbox, self.now, self.ids.new, self.executions, self.lists, role
                    )
                case Noticed(instance):
                    self.agents[machine].noticed(instance.taken_at or self.now())
                case Unplugged():
                    self.model.gone(machine, self.now())
                    # A machine that is ordered to end takes time to end, and its job runs for most of that time.
                    told = self.agents[machine].notice is not None
                    asked = told or event.instance.now.reason_code.startswith("Client.User")
                    self._dying[machine] = self.now() + (0.8 * self.model.conditions.end_delay if asked else 0.0)
        for machine in [machine for machine, at in self._dying.items() if at <= self.now()]:
            del self._dying[machine]
            self._awake.pop(machine).unplugged()

    # The control plane

    def installed(self, store: Store, cloud: Cloud, bucket: Bucket) -> Installation:
        pool, meter = InlinePool(), Meter(self._pass_ended)
        clock = Clock(self.now, lambda: self.skew, self.advance)
        return Installation(store, cloud, bucket, clock, pool, self.ids, self.journal, self._policy, meter=meter)

    def _pass_ended(self, seconds: float, at: float) -> None:
        # A process that hung within its pass has not seen the events that happened meanwhile.
        self.rules.after_pass(at, clean=not self._spoiled and seconds < 1.0)
        self._spoiled = False

    def incarnate(self) -> tuple[Incarnation, Service]:
        """Start a new process of the control plane."""
        self._spoiled = False
        self.lives += 1
        life = Incarnation(self.lives)

        def port(name: str, real: object) -> Any:
            return Spoiled(real, lambda *call: self._deal(life, name, *call))

        installation = self.installed(port("store", self.store), port("cloud", self.cloud), port("bucket", self.bucket))
        return life, Service(parts(installation, f"life {life.number}", self._intervals), TESTER)

    def run(self, downtime: Callable[[], float] = lambda: 1.0) -> None:
        """Run the world to its end; a killed control plane restarts after `downtime`."""
        while not self.over():
            life, service = self.incarnate()
            try:
                service.operator.drive(self.over, self.told.extend)
            except Crash:
                self._bury(life)
                self.advance(downtime())
        if faults := [each for each in self.told if "internal error: " in each]:
            raise Violation("an internal error", faults[0])

    def _bury(self, life: Incarnation) -> None:
        life.dead = True
        if isinstance(self.store, MemoryStore):
            self.store.dead.add(f"life {life.number}")

    def over(self) -> bool:
        """Return whether control plane and world have nothing left to do."""
        if self.now() > self.began + LONGEST:
            stuck = [f"{run.id[-4:]} {run.state} {run.waiting_for}" for run in self.store.live().runs]
            groups = [group.name for group in self.model.groups.shown()]
            raise Violation("I2 the world never ends", f"{stuck}, {self.model.alive(self.now())}, {groups}")
        if self._plans or self.model.alive(self.now()) or self.model.groups.shown():
            return False
        live = self.store.live()
        return not (live.runs or live.machines or live.launches)

    def _deal(
        self, life: Incarnation | None, port: str, method: str, deed: Callable[[], Any], args: Sequence[Any]
    ) -> Any:
        if life and (life.dead or life.hanging):
            raise Crash
        call = Call(port, method, len(self.calls), self.now(), self._about(args))
        self.calls.append(call)
        fate = self._fate(call)
        lapsed = port in ("cloud", "bucket") and self.model.conditions.lapsed(self.began, self.now())
        self._spoiled = self._spoiled or lapsed or (life is not None and fate is not Fate.NONE)
        if life and fate is Fate.CRASH_BEFORE:
            raise self._crash(life)
        if life and fate is Fate.HANG and not life.hanging and self._hanging < HANGING_MOST:
            self._hang(life)
        if lapsed or (port != "store" and fate is Fate.REFUSE):
            raise (Throttled, Transient, NeedsOperator)[2 if lapsed else call.number % 3]("spoiled: log in", "SlowDown")
        if port == "cloud" and fate is Fate.DENY:
            raise Misconfigured("spoiled", "UnauthorizedOperation")
        self.rules.before_call(port, method, args)
        answer = deed()
        self.rules.after_call(port, method, args, answer, late=fate is Fate.HANG)
        if port != "store" and fate is Fate.TWICE:
            answer = deed()
        self._see_events()
        if life and fate is Fate.CRASH_AFTER:
            raise self._crash(life)
        if port != "store" and fate is Fate.LOSE:
            raise NoAnswer("spoiled") if port == "cloud" else Transient("spoiled")
        return answer

    def _fate(self, call: Call) -> Fate:
        aim = (call.port, call.method, call.about)
        if any(each.port == call.port and each.begins <= call.at - self.began < each.ends for each in self._outages):
            return Fate.REFUSE
        self._aims[aim] += 1
        fate = self.fates(call)
        if call.port in FALLS[fate]:
            self.met.append(Fault(fate, *aim, self._aims[aim]))
        return fate

    def _about(self, args: Sequence[Any]) -> str:
        """Return the subject of a call, with names that do not depend on generated ids."""
        first = args[0] if args else None
        if isinstance(first, str):
            return _ID.sub(self._named, first)
        if isinstance(first, list | tuple):
            return " ".join(sorted({type(each).__name__ for each in first if not isinstance(each, str)}))
        return ""

    def _named(self, found: re.Match[str]) -> str:
        kind = "machine" if found[1] else "run"
        return self._names.setdefault(found[0], f"{kind}-{sum(kind in name for name in self._names.values()) + 1}")

    def _crash(self, life: Incarnation) -> Crash:
        life.dead = True
        return Crash()

    def _hang(self, life: Incarnation) -> None:
        """Let the process hang past its lease, while another process takes over."""
        self.advance(self._intervals.lease + 1)
        other, service = self.incarnate()
        life.hanging = True
        self._hanging += 1
        try:
            for _ in range(5):
                self.told.extend(service.operator.step())
                self.advance(self._intervals.busy)
        except Crash:
            pass
        finally:
            life.hanging, self._spoiled = False, True
            self._hanging -= 1
            self._bury(other)

    def check(self) -> None:
        """Check the ended world; raises Violation."""
        self.rules.check()
        self.rules.lists.check()

    def _is_over(self, box: str) -> bool:
        """Return whether the mailbox's machine is terminated, or its result is in the bucket."""
        machine = box.split(":")[1]
        gone = self.model.history(machine)[-1].state is MachineState.TERMINATED
        return gone or (box, 0) in self.rules.results

    def _commands_of(self, run: str) -> Sequence[str]:
        found = self.store.run(run)
        return list(Texts(self.store, self.bucket).texts(found, range(found.commands))) if found else ()

    def _options_of(self, run: str) -> ListOptions:
        found = self.store.run(run)
        return loaded(found.recipe).spec.list if found else ListOptions()

    def story(self) -> str:
        """Return what happened, to investigate a failing seed."""
        lines = []
        for run in reversed(self.store.runs(RunFilter(limit=1000))):
            lines.append(f"run {run.id[-4:]} {run.state} {run.verdict}")
            lines += [f"  {event.at - self.began:9.1f} {event.text}" for event in self.store.events(run.id)]
        for machine, agent in self.agents.items():
            states = ", ".join(f"{change.state} {change.at - self.began:.1f}" for change in self.model.history(machine))
            lines.append(f"machine {machine[-4:]}: {states}; {agent.script}")
        return "\n".join(lines)
