"""An installation with runs in every state whose texts are hostile, for tests of every page.

Each text names the field that has it. The records are put into the store as they are: texts that `apply` or `start`
would refuse may come from an older version, or from a machine.
"""

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

from provisioner.core.access.callers import Audit, Token
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Market, Offer, Price
from provisioner.core.commands.blocks import CommandState
from provisioner.core.commands.records import Block, CommandList
from provisioner.core.logs.archive import KeptStream, Manifest, kept_chunk_key, manifest_key
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.messages import Notice, Report, Result, Span
from provisioner.core.protocol.messages import Stop as StopOrder
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.jobs import Job, Revision, Schedule
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.records import Event, KnownMachine, Node, Record, Run, Tried, Verdict
from provisioner.core.run.states import State, Waiting
from provisioner.core.usage.amounts import NANO, Amounts, MachineUsage, Part, PriceUsed, Use
from tests.api.served import Server
from tests.page.browser import ALARM
from tests.support import samples, stored

#: An element that no template has, so its presence proves that a text became markup.
MARK = "x-hostile"
#: Characters that would change what a reader sees: a terminal's title, a link, an override of the writing direction.
CONTROL = "\x1b]2;t\x07\x1b[31m\x1b]8;;https://evil.example/\x07x\x1b]8;;\x07\u202e\u2066\x9b\x08"


def hostile(field: str) -> str:
    """Return a text that executes, adds an element or hides text, if a page does not escape it in some context."""
    call = f"{ALARM}(`{field}`)"
    return (
        f"<{MARK}>&lt;b&gt;&#60;{MARK}&#62;</{MARK}><img src=x onerror={call}><svg/onload={call}>"
        f"\"'><script>{call}</script><a href=javascript:{call}>go</a>"
        f"--></style></textarea></title></template></script><script>{call}</script>"
        f"'-{call}-'\";{call};//\\`${{{call}}}{{{{7*7}}}}<iframe srcdoc='<script>parent.{call}</script>'>{CONTROL}"
    )


@dataclass(frozen=True)
class World:
    """What a test needs to know of the installation."""

    #: The owner of everything.
    owner: str
    #: The ids of runs by what they are, and the ids of jobs.
    runs: dict[str, str]
    jobs: dict[str, str]

    def parameters(self, route: str) -> dict[str, list[str]]:
        """Return the values of the parameters in the path of a route."""
        # The page of a run differs by the run; its other routes are the same for all.
        runs = list(self.runs.values())
        return {
            "run": runs if route == "/run/{run}" else [self.runs["list"], self.runs["running"]],
            "job": list(self.jobs.values()),
            # The numbers of revisions, attempts, ranks and commands.
            **{key: ["1"] for key in ("number", "revision", "attempt", "rank", "index")},
            "token": ["0" * 12],
            # Of a live part; the tests also open the parts that pages name.
            "name": ["now"],
            "topic": ["lists", "how-it-works"],
            "picture": ["map.svg"],
        }

    def token(self, server: Server) -> str:
        """Return an access token of the owner whose name is hostile: `create_token` would refuse the name."""
        made = server.service.tokens.create(["ann"], admin=False)
        store = server.service.installation.store
        stored = store.token(made.id)
        assert stored is not None
        store.save([replace(stored, owners=(self.owner,))])
        return made.token


def populate(server: Server) -> World:
    """Fill the server's installation."""
    made = _Maker(server)
    made.fill()
    return World(made.owner, made.runs, {"hostile": made.job.id, "unreadable": made.unreadable.id})


class _Maker:
    def __init__(self, server: Server) -> None:
        self.installation = server.service.installation
        self.now = self.installation.clock.now()
        self.owner = hostile("owner")
        self.recipe = _recipe()
        self.job = Job(
            _id("j", 1),
            self.owner,
            hostile("job.name"),
            self.recipe,
            3,
            self.now - 90 * 86400,
            self.now - 86400,
            schedule=Schedule("0 3 * * *", "Europe/Berlin"),
            scheduled_at=self.now - 86400,
            tick=self.now - 3600,
            tick_without=f"failed: {hostile('job.tick_without')}",
        )
        self.unreadable = replace(self.job, id=_id("j", 2), name="unreadable", recipe=_unreadable(self.recipe))
        self.runs: dict[str, str] = {}
        self.records: list[Record] = [self.job, self.unreadable]

    def fill(self) -> None:
        self._succeeded()
        self._failed()
        self._waiting()
        self._running()
        self._gang()
        self._list()
        self._others()
        self._used()
        for record in self.records:
            self.installation.store.save([record])

    def _used(self) -> None:
        """Add the usage of a machine, with texts that recipes and price lists could have."""
        amounts = Amounts(3_600_000, 3_600_000, 3_600_000, NANO, NANO, NANO)
        day = int(self.now // 86400)
        self.records.append(
            MachineUsage(
                "i-used", "r1", self.job.id, self.job.name, self.owner, hostile("run.started_by"),
                ((hostile("tag.name"), hostile("tag.value")), ("team", hostile("tag.value"))),
                hostile("usage.instance_type"), hostile("usage.market"),
                (Part(day, Use.SUCCEEDED, amounts), Part(day, Use.FAILED, amounts)),
                (PriceUsed(False, 1.006, hostile("usage.source"), self.now - 60),),
            )
        )  # fmt: skip

    def _run(self, name: str, state: State, **fields: Any) -> Run:
        number = len(self.runs) + 1
        made = Run(
            _id("r", number),
            self.job.id,
            self.job.name,
            3,
            self.owner,
            self.recipe,
            self.now - 7200 + number,
            state,
            idempotency_key=hostile("run.idempotency_key"),
            next_try_at=self.now,
        )
        made = replace(made, **fields)
        self.runs[name] = made.id
        self.records.append(made)
        self._events(made)
        return made

    def _over(self, name: str, outcome: Outcome, code: int | None, **fields: Any) -> Run:
        verdict = Verdict(outcome, hostile(f"{name}.reason"), self.now - 3600, code, Step.COMMAND)
        ended = self.now - 3600
        times = {"ended_at": ended, "certain_at": ended, "done_at": ended + 5}
        money = {"dollars_at_least": 0.41, "dollars_at_most": 0.43}
        return self._run(name, State.DONE, verdict=verdict, **{"ever_started": True, **times, **money, **fields})

    def _events(self, run: Run) -> None:
        for number in range(3):
            text = hostile(f"event{number}")
            self.records.append(
                Event(f"{run.id}.{number}", run.id, run.created_at + number, text, run.job_name, run.owner)
            )

    def _node(self, run: Run, attempt: int = 1, rank: int = 0, **fields: Any) -> Node:
        id = f"{run.id}.{attempt}.{rank}"
        machine = f"i-{zlib.crc32(id.encode()):017x}"
        began = run.created_at + 600 * (attempt - 1)
        over = run.done_at is not None or attempt < run.attempt
        spans = {
            Step.BOOT.value: Span(began + 20, began + 50),
            Step.PULL.value: Span(began + 50, began + 90),
            Step.COMMAND.value: Span(began + 90, began + 500 if over else None),
        }
        report = Report(
            3, self.now - 5, "p", Step.COMMAND, spans, {"output": 9000}, {"output": 8000}, Notice(self.now + 60, began)
        )
        node = Node(id, run.id, attempt, rank, "l1", "t", machine, f"A:{machine}", began, 1, began + 15, report=report)
        node = replace(node, reported_at=self.now - 4, **fields)
        if over:
            result = Result(
                run.id, attempt, rank, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, hostile("result.reason"), began + 500,
                spans,
            )  # fmt: skip
            verdict = Verdict(Outcome.INTERRUPTED, hostile("node.reason"), began + 500, None, Step.COMMAND)
            verdict = verdict if attempt < run.attempt else run.verdict or verdict
            node = replace(node, result=result, verdict=verdict, archived_at=began + 505)
        self.records += [node, self._machine(node, over)]
        self._log(node, archived=over)
        return node

    def _machine(self, node: Node, over: bool) -> KnownMachine:
        price = Price(1.006, hostile("price.source"), self.now - 60)
        began = node.bound_at
        made = KnownMachine(
            node.instance_id, "l1", Offer(Market.SPOT, "g5.xlarge", "us-east-1a"), began, MachineState.RUNNING, began,
            hostile("machine.address"), self.now - 1, running_at=began + 10, alive_at=self.now - 1, price=price,
            disk_price=price, console=hostile("machine.console"), lifetime=90000.0, hourly_at_most=1.006,
            reservation=hostile("machine.reservation"),
        )  # fmt: skip
        if not over:
            return made
        end = began + 510
        return replace(
            made, state=MachineState.TERMINATED, reason_code=hostile("machine.reason_code"),
            reason=hostile("machine.reason"), ending=Ending.ASKED, ending_at=end, ended_at=end + 30, alive_at=end - 5,
            transition_at=end, end_wanted_at=end, end_wanted_for=hostile("machine.end_wanted_for"), end_asked_at=end,
            end_accepted_at=end,
        )  # fmt: skip

    def _log(self, node: Node, *, archived: bool) -> None:
        lines = [hostile(f"log.line{number}") + "\n" for number in range(40)]
        data = (
            "\x1b[1;32mgreen\x1b[0m \x1b[38;5;196mred\x1b[0m\rbar\rdone\n" + "".join(lines)
        ).encode() + b"\xff\xfe\n"
        bucket = self.installation.bucket
        kept = {}
        for stream in ("system", "setup", "output"):
            if archived:
                bucket.put(kept_chunk_key(node.run, node.attempt, node.rank, stream, 0), data)
                kept[stream] = KeptStream(len(data), ((0, len(data)),))
            else:
                bucket.put(f"machines/{node.box}/log/{stream}/{0:015d}", data)
        if archived:
            manifest = Manifest(node.run, node.attempt, node.rank, kept)
            bucket.put(manifest_key(node.run, node.attempt, node.rank), encode(manifest))

    def _succeeded(self) -> None:
        """A run that was interrupted once and then succeeded."""
        run = self._over("succeeded", Outcome.SUCCEEDED, 0, attempt=2, launch="l1", lost_after_start=1)
        self._node(run)
        self._node(run, attempt=2)

    def _failed(self) -> None:
        run = self._over("failed", Outcome.FAILED, 3, attempt=1, launch="l1")
        self._node(run)
        self._over("refused", Outcome.REFUSED, None, ever_started=False, dollars_at_least=None, dollars_at_most=None)

    def _waiting(self) -> None:
        for cause in (Waiting.CAPACITY, Waiting.OPERATOR):
            tried = tuple(Tried(hostile("tried.what"), hostile("tried.code"), self.now - each) for each in (90, 30))
            text = hostile(f"waiting_for.{cause}")
            self._run(f"waiting-{cause}", State.QUEUED, waiting=cause, waiting_for=text, tried=tried)

    def _running(self) -> None:
        stop = StopOrder(Outcome.CANCELLED, hostile("stop.reason"), self.now - 10)
        run = self._run("running", State.RUNNING, attempt=1, launch="l1", ever_started=True, stop=stop)
        self._node(run, stop_put_at=self.now - 9)

    def _gang(self) -> None:
        run = self._run("gang", State.RUNNING, attempt=1, launch="l1", scale=3, start_order=1, ever_started=True)
        for rank in range(3):
            self._node(run, rank=rank)

    def _list(self) -> None:
        states = [CommandState.SUCCEEDED, CommandState.FAILED, CommandState.LOST, CommandState.NOT_RUN]
        commands = [hostile(f"command{index}") for index in range(len(states))]
        recipe = json.loads(self.recipe)
        recipe["spec"]["command"] = commands
        run = self._over(
            "list", Outcome.FAILED, 1, attempt=1, launch="l1", commands=len(states), recipe=json.dumps(recipe)
        )
        self._node(run)
        self.records += [
            replace(CommandList(run.id, 4, 4), succeeded=1, failed=1, lost=1, not_run=1, sealed_at=self.now - 3600),
            Block(f"{run.id}.{0:06d}", run.id, 0, zlib.compress(bytes(states)), zlib.compress(bytes([1, 1, 1, 0])), 0),
        ]

    def _others(self) -> None:
        launch = replace(stored.launch("l1"), result=hostile("launch.result"), closed_at=self.now - 7000)
        token = Token("0" * 12, "5e", (hostile("token.owner"),), False, hostile("token.note"), self.now, "local:root")
        self.records += [
            launch,
            replace(token, created_by=hostile("token.created_by")),
            *(
                Audit(
                    f"a{number}", self.now - number, hostile("audit.who"), hostile("audit.source"),
                    hostile("audit.what"), self.owner, hostile("audit.target"),
                )
                for number in range(3)
            ),
            *(
                Revision(
                    f"{self.job.id}-{number}", self.job.id, number, _recipe(number), self.now - 86400 * (4 - number),
                    hostile("revision.applied_by"),
                )
                for number in (1, 2, 3)
            ),
        ]  # fmt: skip


def _id(kind: str, number: int) -> str:
    return f"{'a' if kind == 'j' else 'b'}{number:031x}"


def _recipe(number: int = 3) -> str:
    """Return a stored recipe whose texts are hostile, as far as the rules for recipes allow it."""
    recipe = json.loads(samples.recipe().dump())
    url = f'https://example.com/"><{MARK}><svg/onload={ALARM}(`git.url`)>/a.git'
    recipe["spec"] |= {
        "description": hostile(f"recipe.description{number}"),
        "tags": {hostile("tag.key"): hostile("tag.value")},
        "command": hostile("recipe.command"),
        "start_script": hostile("recipe.start_script"),
        "working_directory": f"/<{MARK}>",
        "environment_variables": {"PLAIN": hostile("env.value")},
        "git_repositories": [{"url": url, "reference": f"<{MARK}>"}],
    }
    return Recipe.load(json.dumps(recipe)).dump()


def _unreadable(recipe: str) -> str:
    """Return a recipe that this version cannot run, with hostile texts everywhere."""

    def changed(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {hostile(f"key.{key}") if name else key: changed(each, key) for key, each in value.items()}
        return hostile(f"unreadable.{name}") if isinstance(value, str) else value

    whole = json.loads(recipe)
    spec = {name: changed(value, name) for name, value in whole["spec"].items()}
    spec["git_repositories"] = [{"url": f"javascript:{ALARM}(`git.url`)", "reference": "main"}]
    return json.dumps({**whole, "spec": spec})
