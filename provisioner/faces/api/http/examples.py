"""Examples for the OpenAPI document: views of invented records."""

import json

from provisioner.core.access import callers
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import InstanceType, Market, Offer, Price, Size
from provisioner.core.cost.receipt import receipt as bill
from provisioner.core.history import runs
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe import jobs
from provisioner.core.run import records
from provisioner.core.run.records import Assignment, Event, KnownMachine, Node, Verdict
from provisioner.core.run.states import State
from provisioner.core.views import from_records
from provisioner.core.views.codec import moment
from provisioner.core.views.commands import Command, CommandState
from provisioner.core.views.costs.usage import Amounts, PriceUsed, Usage, UsageRow
from provisioner.core.views.history import shaped
from provisioner.core.views.history.shapes import JobLines, Past, Revision, RevisionRecipe
from provisioner.core.views.job import Job, Schedule
from provisioner.core.views.log import Hit, Hits, Line, LinePage, Log, piece
from provisioner.core.views.overview import Alive, Live, Machines, Server, Top
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Attempt, Run, RunRecipe, Status
from provisioner.core.views.token import Audit, Token

AT = 1767225600.0
_SPEC = {"name": "gpu-inference", "image": "any", "instance_type": "g5.xlarge", "command": "python run_inference.py"}
JOB = jobs.Job(
    "5d41402abc4b2a76b9719d911017c592",
    "ann",
    "gpu-inference",
    json.dumps({"schema_version": "2025.10.01", "type": "job", "spec": _SPEC}),
    revision=1,
    created_at=AT,
    applied_at=AT,
    schedule=jobs.Schedule("0 2 * * *", "Europe/Berlin"),
)
RUN = records.Run(
    "1f9cb11a918f4d3e8f1f0e8b5b1b2c3d",
    JOB.id,
    JOB.name,
    JOB.revision,
    JOB.owner,
    JOB.recipe,
    AT,
    State.DONE,
    attempt=1,
    verdict=Verdict(Outcome.SUCCEEDED, "the command exited 0", AT + 95, 0),
    ended_at=AT + 95,
    done_at=AT + 99,
)
NODE = Node(
    f"{RUN.id}/1/0", RUN.id, 1, 0, "launch", "template", "i-0123456789abcdef0", "box", AT + 2, 1, verdict=RUN.verdict
)
_MACHINE = KnownMachine(
    NODE.instance_id,
    NODE.launch,
    Offer(Market.SPOT, "g5.xlarge", "us-east-1a"),
    AT + 2,
    MachineState.TERMINATED,
    launch_time=AT + 1,
    running_at=AT + 10,
    ending_at=AT + 96,
    ended_at=AT + 99,
    price=Price(0.4, "EC2's spot price history", AT),
)


def job() -> Job:
    return from_records.job(JOB)


_PAST = runs.PastRun(
    RUN.id, JOB.id, JOB.revision, RUN.state, Outcome.SUCCEEDED, AT, NODE.bound_at, RUN.ended_at, 0.01, 0.01
)


def past() -> Past:
    return shaped.past((_PAST,))


def job_lines() -> JobLines:
    return JobLines(moment(AT + 600), (shaped.job_line(JOB, AT + 3600, {}, (_PAST,)),), None)


def revision() -> Revision:
    return shaped.revision(jobs.revision_of(JOB, "0123456789ab"), None)


def revision_recipe() -> RevisionRecipe:
    return shaped.revision_recipe(JOB.revision, JOB.recipe)


def schedule() -> Schedule:
    return from_records.schedule(JOB, (AT + 3600,), None)


def run() -> Run:
    return from_records.run(RUN)


def attempt() -> Attempt:
    return from_records.attempts(RUN, (NODE,), (_MACHINE,), AT + 99)[0]


def status() -> Status:
    return from_records.status(RUN, (NODE,), (_MACHINE,), (Event("e", RUN.id, AT, "queued: triggered"),), AT + 99)


def run_recipe() -> RunRecipe:
    return from_records.run_recipe(RUN)


def receipt() -> Receipt:
    return from_records.receipt(bill(RUN, [Assignment(NODE, _MACHINE)], {}, AT + 99))


def usage() -> Usage:
    hours, cost = 90 / 3600, 90 * 0.4 / 3600
    final = Amounts(hours, hours, hours, cost, cost, cost, 0.0003, 0.0003, 0.0004, 0.0, 0.0, 0.0)
    nothing = Amounts(*[0.0] * 12)
    price = PriceUsed("machine", "g5.xlarge", "spot", "EC2's spot price history", 0.4, 0.4, moment(AT), moment(AT))
    row = UsageRow(("ann",), final, nothing)
    return Usage(
        moment(AT), "2026-01-01", "2026-01-31", ("owner",), (row,), final, nothing, (price,), 0, ("S3: storage",)
    )


def top() -> Top:
    live = Live(
        run(), from_records.machine(_MACHINE), "command", moment(AT + 90), None, None, {"output": 8}, 0.01, 0.01
    )
    return Top(moment(AT), {State.RUNNING: 1}, 1, 0.4, 0, (), (), "", 0, (live,))


def machines() -> Machines:
    alive = Alive(
        machine=from_records.machine(_MACHINE),
        bound_at=moment(AT),
        lifetime_ends_at=moment(AT + 86400),
        run=RUN.id,
        job=RUN.job_name,
        owner=RUN.owner,
        attempt=1,
        rank=0,
        state=State.RUNNING,
        waits=False,
        step="command",
        heard_at=moment(AT + 90),
        silent_since=None,
        notice_at=None,
        dollars_at_least=0.01,
        dollars_at_most=0.01,
        disk_dollars_at_most=0.001,
    )
    return Machines(moment(AT), (alive,), 0)


def server() -> Server:
    return Server(moment(AT), served=True, unfinished=True, foreign=(), owners=("ann",), hindrance="")


def log() -> Log:
    return piece(1, "output", 0, b"epoch 1\n")


def line_page() -> LinePage:
    line = Line(1, 0, 7, "epoch 1")
    return LinePage(1, 0, "output", 1, (line,), (), 1, open=False, over=True, size=8, read=8)


def hits() -> Hits:
    return Hits(1, 0, "output", (Hit(1, 6, "epoch ", "1", ""),), None, 8, 8)


def command() -> Command:
    return Command(
        index=0,
        state=CommandState.SUCCEEDED,
        generation=1,
        exit_code=0,
        why=None,
        began_at=moment(AT + 20),
        seconds=1.5,
        attempt=1,
        rank=0,
        output_bytes=8,
        text="python infer.py --shard 0",
    )


def token() -> Token:
    return from_records.token(callers.Token("0123456789ab", "", ("ann", "lab/ann"), False, "CI", AT, "local:root"), AT)


def audit() -> Audit:
    return from_records.audit(callers.Audit("e", AT, "0123456789ab", "192.0.2.1", "start", "ann", RUN.id))


def size() -> Size:
    kind = InstanceType("g5.xlarge", "x86_64", 1, 4, 16384, ("us-east-1a",), spot=True)
    return Size(kind, None, Price(0.4, "EC2's spot price history", AT))
