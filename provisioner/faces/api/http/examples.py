"""Examples for the OpenAPI document: records as they may be, in the shapes that all have."""

import json

from provisioner.core.access.callers import Audit, Token
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import InstanceType, Market, Offer, Price
from provisioner.core.cost.receipt import receipt as bill
from provisioner.core.protocol.messages import Outcome
from provisioner.core.recipe.jobs import Job, Schedule
from provisioner.core.run.records import Assignment, Event, KnownMachine, Node, Run, Verdict
from provisioner.core.run.states import State
from provisioner.faces.views import shaped, shapes
from provisioner.ports.control.jobs import Size
from provisioner.ports.control.logs import LogPiece
from provisioner.ports.control.operator import ServerStatus
from provisioner.ports.control.runs import LiveRun, Overview, Status
from provisioner.ports.control.schedules import Scheduled

AT = 1767225600.0
_SPEC = {"name": "gpu-inference", "image": "any", "instance_type": "g5.xlarge", "command": "python run_inference.py"}
JOB = Job(
    "5d41402abc4b2a76b9719d911017c592",
    "ann",
    "gpu-inference",
    json.dumps({"schema_version": "2025.10.01", "type": "job", "spec": _SPEC}),
    revision=1,
    created_at=AT,
    applied_at=AT,
    schedule=Schedule("0 2 * * *", "Europe/Berlin"),
)
RUN = Run(
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


def job() -> shapes.Job:
    return shaped.job(JOB)


def schedule() -> shapes.Schedule:
    return shaped.scheduled(Scheduled(JOB, (AT + 3600,), None))


def run() -> shapes.Run:
    return shaped.run(RUN)


def status() -> shapes.Status:
    return shaped.status(Status(RUN, (NODE,), (_MACHINE,), (Event("e", RUN.id, AT, "queued: triggered"),)))


def receipt() -> shapes.Receipt:
    return shaped.receipt(bill(RUN, [Assignment(NODE, _MACHINE)], {}, AT + 99))


def top() -> shapes.Top:
    live = LiveRun(RUN, Assignment(NODE, _MACHINE), 0.01, 0.01)
    return shaped.alive(Overview(AT, {State.RUNNING: 1}, 1, 0.4, 0, (), (live,), 0), ())


def server() -> shapes.Server:
    return shaped.server(ServerStatus(AT, served=True, unfinished=True, foreign=()))


def log() -> shapes.Log:
    return shaped.log(LogPiece(1, "output", 0, b"epoch 1\n"))


def token() -> shapes.Token:
    return shaped.token(Token("0123456789ab", "", ("ann", "lab/ann"), False, "CI", AT, "local:root"), AT)


def audit() -> shapes.Audit:
    return shaped.audit(Audit("e", AT, "0123456789ab", "192.0.2.1", "start", "ann", RUN.id))


def size() -> Size:
    kind = InstanceType("g5.xlarge", "x86_64", 1, 4, 16384, ("us-east-1a",), spot=True)
    return Size(kind, None, Price(0.4, "EC2's spot price history", AT))
