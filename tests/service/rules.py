"""Rules that must hold in a world, checked while it runs and at its end.

Every rule compares the control plane's records with the truth: the model of EC2, the bucket, and the machines' actions.
A broken rule raises Violation, which the code under test cannot catch.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from provisioner.core.cloud.caps.budget import Use
from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.tags import LAUNCH_TAG, LIFETIME_TAG
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import work_key
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.machines.listings import ASK_AGAIN
from provisioner.core.run.records import Assignment, KnownMachine, Node, Run
from provisioner.core.run.states import State
from provisioner.core.run.survivors import LONGEST, may_wait
from provisioner.core.run.verdicts import held_until
from tests.service.agents import Agent
from tests.service.end_rules import ALL, EndRules
from tests.service.list_rules import ListRules
from tests.service.truth import Truth, covered
from tests.service.violation import Violation

BOOT_LIMIT, SETUP_LIMIT, RUNTIME_LIMIT = 300.0, 300.0, 1200.0
#: Seconds after which a machine counts as silent if it cannot reach the bucket while the control plane can.
CUT_OFF = 60.0
#: Passes without a fault in which the end of an unclaimed machine may go unrequested.
PASSES = 2
#: The key of a result: its mailbox, and the attempt if it is not the machine's first one.
RESULT = re.compile(r"machines/([^/]+)/result(?:/([0-9]+))?")


class Rules(EndRules):
    """The rules for one world."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.lists = ListRules(truth)
        #: Periods in which the control plane, and in which the machines, cannot reach the bucket.
        self.ours_away: list[tuple[float, float]] = []
        self.theirs_away: list[tuple[float, float]] = []
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
        self.lists.after_call(port, method, args, answer)
        if port == "mailbox" and method == "put" and (key := RESULT.fullmatch(args[0])) and answer:
            self.results[key[1], int(key[2] or 0)] = decode(Result, args[1]), self.truth.now()
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
            self._judge_cost()
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
        self._judge_told()

    def _judge_told(self) -> None:
        """I11: if a rank's end ends the attempt, the same pass orders the other ranks to stop."""
        live = self.truth.store.live()
        runs = {run.id: run for run in live.runs if run.state in (State.BOOTING, State.PREPARING, State.RUNNING)}
        for node in live.nodes:
            run = runs.get(node.run)
            if run and run.commands:
                continue  # The next machine takes over.
            ended = node.verdict and node.attempt == run.attempt if run else False
            if run and ended and self._ends_all(run, node) and not (run.stop or run.ranks_stop):
                raise Violation("I11 the other ranks are not told that one has ended", node.id)

    @staticmethod
    def _ends_all(run: Run, node: Node) -> bool:
        gang = Recipe.load(run.recipe).spec.gang
        if gang.success == "leader" and (not node.rank or gang.workers == "ignore"):
            return not node.rank
        return node.verdict is not None and node.verdict.outcome is not Outcome.SUCCEEDED

    def _judge_ends(self, ids: Collection[str]) -> None:
        """I4: ended machines have a verdict or outlived their time; a healthy one ends only on its user's request."""
        truth = self.truth
        for id in ids:
            self._asked[id] = truth.now()
        live = truth.store.live()
        nodes = _newest(truth.store.nodes(*(run.id for run in truth.store.runs(ALL))))
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
        released = [worker.id for worker in self.truth.store.workers(node.run) if worker.released_at is not None]
        told = run and (run.stop or run.ranks_stop or run.attempt > node.attempt or node.id in released)
        if agent and self._healthy(agent) and run and not told:
            raise Violation("I4 a healthy machine is ended", f"{machine.id}, {node.verdict}")

    def _outlived(self, id: str) -> bool:
        one = next(one for one in self.truth.cloud.model.every() if one.id == id)
        return self.truth.now() > one.launch_time + float(one.tags[LIFETIME_TAG]) + self.truth.policy.reaper_grace

    def _healthy(self, agent: Agent) -> bool:
        """Return whether the machine would end its work by itself in time, and reports as well as it can."""
        born, now = agent.instance.launch_time, self.truth.now()
        if (
            agent.script.mute
            or agent.plays.boot > BOOT_LIMIT
            or agent.silent
            or not agent.running
            or (agent.box, agent.later) in self.results
            or agent.notice
            # The fuse may be due, given the clock's error.
            or now + 2 * self.largest_skew > born + float(agent.instance.tags[LIFETIME_TAG])
        ):
            return False
        # A machine without a work order has nothing to report, however late the order comes.
        _, order_at = self.truth.bucket.objects.get(work_key(agent.box, agent.later), (b"", now))
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
        most = self.truth.policy.max_machines
        if most is not None and len(alive) > most:
            raise Violation("no more machines live than max_machines", str(alive))

    def _judge_cost(self) -> None:
        """I12: what all machines have cost and may still cost fits into the cap of each day.

        Machines in a reservation are paid for already.
        """
        most, model, found = self.truth.policy.caps.dollars_a_day, self.truth.cloud.model, Counter[int]()
        if most is None:
            return
        for one in model.every():
            if one.id not in self.overlooked and not one.reservation:
                over = next((each.at for each in one.history if each.state in ENDING), None)
                ends = over or one.launch_time + float(one.tags[LIFETIME_TAG])
                use = Use(one.launch_time, ends, model.price(one.offer, one.launch_time) or 0.0)
                # Our clock may be wrong by this much.
                use = use.until(ends - 2 * self.largest_skew)
                found += {day: use.on(day) for day in use.days}  # type: ignore[misc]
        if beyond := {day: dollars for day, dollars in found.items() if dollars > most * (1 + 1e-6)}:
            raise Violation("I12 no day costs more than max_dollars_a_day", f"{beyond} of {most}")

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
        # The limit of a list counts from its first command, whatever machine ran it.
        nodes = self.truth.store.nodes(run.id)
        last = [node for node in nodes if run.commands or node.attempt == run.attempt]
        agents = [agent for node in last if (agent := self.truth.agents.get(node.instance_id))]
        limit = SETUP_LIMIT if run.verdict.step is Step.SETUP else RUNTIME_LIMIT
        # The limit of a list may end while another machine boots.
        step = Step.COMMAND if run.commands and run.verdict.step is not Step.SETUP else run.verdict.step
        began = min((agent.began_at[step] for agent in agents if step in agent.began_at), default=now)
        made_up = any(agent.script.fails_as is Outcome.TIMED_OUT for agent in agents)
        if not made_up and now + off < began + limit:
            raise Violation("no limit ends a run early", f"{run.verdict}, begun at {began}")

    def _judge_idle(self, now: float) -> None:
        """The end of a listed, unclaimed machine is requested again and again until it has ended."""
        truth, live = self.truth, self.truth.store.live()
        nodes, runs = _newest(live.nodes), {run.id: run for run in live.runs}
        machines = {machine.id: machine for machine in live.machines}
        opened = {launch.id for launch in live.launches}
        idle: Counter[str] = Counter()
        for one in truth.cloud.model.alive(truth.now()):
            if one.state in ENDING or one.id not in self._listed or one.tags.get(LAUNCH_TAG) in opened:
                continue
            node, machine = nodes.get(one.id), machines.get(one.id)
            if node and (node.verdict is None or (machine and held_until(node, machine) > now)):
                continue
            if node and machine and self._may_wait(runs[node.run], Assignment(node, machine), now):
                continue
            asked = self._asked.get(one.id)
            if asked is None or truth.now() > asked + ASK_AGAIN + truth.busy + 2 * self.largest_skew:
                idle[one.id] = self._idle[one.id] + 1
                if idle[one.id] > PASSES:
                    raise Violation("an unclaimed machine's end is asked for until it comes", f"{one.id}, {asked}")
        self._idle = idle

    def _may_wait(self, run: Run, each: Assignment, now: float) -> bool:
        """Return whether a machine is kept for the run's next attempt, which is allowed for a limited time."""
        agent = self.truth.agents.get(each.machine.id)
        if not may_wait(run, each, Recipe.load(run.recipe), now) or agent is None:
            return False
        if agent.waits_since is not None and self.truth.now() > agent.waits_since + LONGEST + BOOT_LIMIT:
            raise Violation("a machine is kept too long", f"{each.node.id} since {agent.waits_since}")
        return True


def _newest(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the node of the newest attempt by machine."""
    return {node.instance_id: node for node in sorted(nodes, key=lambda node: node.attempt)}
