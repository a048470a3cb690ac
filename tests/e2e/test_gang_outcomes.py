"""The outcomes of runs with several machines, end to end: each row is a run, and its ranks give one verdict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Node, Run
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.rig import Rig, rig

#: Rank 0 accepts connections and holds them; the others connect, and exit with 1 when their connection ends.
TALK = """
import os, socket, sys, time
rank, address = int(os.environ["PROVISION_RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["PROVISION_ATTEMPT"] != "1":
    sys.exit(0)
if rank == 0:
    with socket.create_server(address) as server:
        held = [server.accept() for _ in range(int(os.environ["PROVISION_SCALE"]) - 1)]
        print("connected", flush=True)
        time.sleep(600)
for _ in range(600):
    try:
        with socket.create_connection(address) as peer:
            peer.recv(1)
        sys.exit(1)
    except ConnectionRefusedError:
        time.sleep(0.1)
"""


@dataclass(frozen=True)
class Gang:
    """A job with several machines and the expected end of its run."""

    name: str
    command: str
    outcome: Outcome
    exit_code: int | None
    #: Parts of the one-line reason.
    reasons: tuple[str, ...]
    scale: int = 2
    attempts: int = 1
    #: Number of machines on the receipt.
    billed: int = 2
    spec: dict[str, Any] = field(default_factory=dict)
    #: Makes EC2 show that the machine of rank 0 has ended. The machine ends earlier, so that its peers fail first.
    dies: Callable[[Rig, Node], None] | None = None


def taken(whole: Rig, node: Node) -> None:
    whole.double.interrupt(node.instance_id, notice=0.0)


def broken(whole: Rig, node: Node) -> None:
    whole.double.power_off(node.instance_id)


ONE_FAILS = "test $PROVISION_RANK = {} && exit {}; sleep 600"
ROWS = [
    Gang("all exit 0", "echo fine $PROVISION_RANK", Outcome.SUCCEEDED, 0, ("exited with 0",), scale=3, billed=3),
    Gang("rank 1 exits 7", ONE_FAILS.format(1, 7), Outcome.FAILED, 7, ("rank 1: ", "7")),
    Gang("rank 0 first", ONE_FAILS.format(0, 3), Outcome.FAILED, 3, ("rank 0: ", "3")),
    Gang(
        "two ranks at once",
        "test $PROVISION_RANK = 2 && sleep 600; exit 5",
        Outcome.FAILED,
        5,
        ("other ranks: rank ", ": 5"),
        scale=3,
        billed=3,
    ),
    Gang(
        "one rank ignores SIGTERM",
        "test $PROVISION_RANK = 1 && exit 7; trap '' TERM; while :; do sleep 1; done",
        Outcome.FAILED,
        7,
        ("rank 1: ",),
        spec={"limits": {"stop_grace": "2s"}},
    ),
    Gang(
        "one rank's setup fails",
        "echo never",
        Outcome.FAILED,
        9,
        ("rank 1: ", "start script"),
        spec={"start_script": "test $PROVISION_RANK = 0 || exit 9"},
    ),
    Gang(
        "no such repository",
        "echo never",
        Outcome.REFUSED,
        None,
        ("no-such-repository",),
        spec={"git_repositories": [{"url": "file:///no-such-repository"}]},
    ),
    Gang(
        "one rank never boots",
        "echo up",
        Outcome.SUCCEEDED,
        0,
        ("exited with 0",),
        attempts=2,
        billed=4,
        spec={"instance_type": "g6.2xlarge", "limits": {"boot": "20s"}},
    ),
    Gang(
        "one rank is never ready",
        "echo never",
        Outcome.TIMED_OUT,
        143,
        ("rank 1: ", "limits.setup of 6 s"),
        spec={"start_script": "test $PROVISION_RANK = 0 || sleep 600", "limits": {"setup": "6s"}},
    ),
    Gang(
        "capacity for three of four",
        "echo never",
        Outcome.TIMED_OUT,
        None,
        ("queue_time", "capacity"),
        scale=4,
        attempts=0,
        billed=0,
        spec={"instance_type": "g6.4xlarge", "limits": {"queue_time": "3s"}},
    ),
    Gang(
        "the leader decides",
        "test $PROVISION_RANK = 0 || sleep 600",
        Outcome.SUCCEEDED,
        0,
        ("rank 0: ", "exited with 0"),
        spec={"gang": {"success": "leader"}},
    ),
    Gang(
        "a worker's failure is ignored",
        "test $PROVISION_RANK = 1 && exit 4; sleep 4",
        Outcome.SUCCEEDED,
        0,
        ("rank 0: ", "exited with 0", "rank 1: 4"),
        spec={"gang": {"success": "leader", "workers": "ignore"}},
    ),
    Gang(
        "a machine breaks down",
        "TALK",
        Outcome.SUCCEEDED,
        0,
        ("exited with 0",),
        scale=3,
        attempts=2,
        billed=6,
        dies=broken,
    ),
    Gang(
        "a machine is taken away without a notice",
        "TALK",
        Outcome.SUCCEEDED,
        0,
        ("exited with 0",),
        scale=3,
        attempts=2,
        billed=4,
        spec={"use_spot_instance": True},
        dies=taken,
    ),
]


class Lazy(LightHost):
    """Does not boot the first machine of a type."""

    def __init__(self, folder: Path, instance_type: str, **more: Any) -> None:
        super().__init__(folder, **more)
        self._lazy = {instance_type}

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        if guest.instance_type in self._lazy:
            self._lazy.remove(guest.instance_type)
        else:
            super().boot(guest, powered_off)


@dataclass
class Played:
    whole: Rig
    runs: dict[str, Run]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Run all rows at once, to the end."""
    folder = tmp_path_factory.mktemp("gangs")
    (folder / "talk.py").write_text(TALK)
    host = Lazy(folder / "machines", "g6.2xlarge", environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "0.2"})
    capacity = [{"type": "g6.4xlarge", "machines": 3}]
    with pytest.MonkeyPatch.context() as patch, rig(folder / "rig", patch, host=host, capacity=capacity) as whole:
        runs = {
            row.name: whole.start(row.command.replace("TALK", f"python3 {folder}/talk.py"), scale=row.scale, **row.spec)
            for row in ROWS
        }
        store = whole.service.installation.store
        dying = {row.name: row for row in ROWS if row.dies}
        dead: dict[str, Node] = {}

        def failing() -> bool:
            """Cut the power of rank 0 once all are connected; return whether all its peers have failed."""
            for name in dying:
                nodes = store.nodes(runs[name].id)
                if name not in dead and b"connected" in whole.log(runs[name]):
                    dead[name] = nodes[0]
                    host.end(nodes[0].instance_id)
            failed = [node for name in dead for node in store.nodes(runs[name].id) if node.result]
            return len(failed) == sum(row.scale - 1 for row in dying.values())

        whole.pace = 0.2
        whole.until(failing)
        for name, node in dead.items():
            run = store.run(runs[name].id)
            assert run
            assert run.verdict is None, "the peers' failures are not the verdict"
            show = dying[name].dies
            assert show
            show(whole, node)
        yield Played(whole, dict(zip(runs, whole.done(*runs.values()), strict=True)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_run_ends_with_one_verdict(played: Played, row: Gang) -> None:
    run = played.runs[row.name]
    assert run.verdict is not None
    assert (run.verdict.outcome, run.verdict.exit_code) == (row.outcome, row.exit_code), run.verdict
    assert [part for part in row.reasons if part not in run.verdict.reason] == [], run.verdict.reason
    assert "\n" not in run.verdict.reason
    assert (run.attempt, run.retries_used) == (row.attempts, 0)
    receipt = played.whole.service.runs.receipt(run.id)
    assert len(receipt.machines) == row.billed
    assert len({bill.instance_id for bill in receipt.machines}) == row.billed


def test_no_machine_is_left(played: Played) -> None:
    assert played.whole.double.alive() == []


def _attempt(played: Played, name: str, attempt: int = 1) -> list[Node]:
    nodes = played.whole.service.installation.store.nodes(played.runs[name].id)
    return [node for node in nodes if node.attempt == attempt]


def _began(node: Node, step: Step) -> float:
    assert node.result
    return node.result.spans[step.value].began


def test_no_rank_executes_before_all_are_ready(played: Played) -> None:
    nodes = _attempt(played, "all exit 0")
    ready = max(_began(node, Step.BARRIER) for node in nodes)
    assert min(_began(node, Step.COMMAND) for node in nodes) >= ready


def test_no_rank_executes_if_one_is_never_ready(played: Played) -> None:
    for name in ("one rank's setup fails", "one rank is never ready"):
        assert all(node.result and Step.COMMAND.value not in node.result.spans for node in _attempt(played, name))


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("a machine breaks down", Outcome.LOST),
        ("a machine is taken away without a notice", Outcome.INTERRUPTED),
        ("one rank never boots", Outcome.LOST),
    ],
)
def test_dead_machine_is_the_verdict_on_its_attempt(played: Played, name: str, outcome: Outcome) -> None:
    """The attempt's event has the outcome of the dead machine, not that of its peers."""
    texts = [event.text for event in played.whole.service.installation.store.events(played.runs[name].id)]
    [ended] = [text for text in texts if text.startswith("stopping: ") and Outcome.SUCCEEDED not in text]
    assert ended.startswith(f"stopping: {outcome}, rank "), ended


def test_log_has_the_lines_of_all_ranks(played: Played) -> None:
    run = played.runs["all exit 0"]
    assert played.whole.log(run) == b"fine 0\nfine 1\nfine 2\n"
    assert played.whole.log(run, rank=2) == b"fine 2\n"


def test_receipt_has_the_barrier_of_each_rank(played: Played) -> None:
    phases = played.whole.service.runs.receipt(played.runs["all exit 0"].id).phases
    assert {phase.rank for phase in phases if phase.name == Step.BARRIER} == {0, 1, 2}
