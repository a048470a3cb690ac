"""`stop` in every phase: outcome cancelled, the process's exit code, a complete log, no machine left."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.e2e.daemons import Daemons
from tests.e2e.rig import Rig, rig

#: Blocks without a child process: the shell would print a message about the child's end.
HOLD = "mkfifo hold; read line <> hold"


@dataclass(frozen=True)
class Row:
    """A job, the state in which it is stopped, and its expected result."""

    name: str
    when: State
    command: str = "echo never"
    #: The step in which the job is stopped, if `when` is PREPARING.
    step: Step | None = None
    #: Output that must be there before the stop.
    after: bytes = b""
    outcome: Outcome = Outcome.CANCELLED
    exit_code: int | None = None
    output: bytes = b""
    spec: dict[str, Any] = field(default_factory=dict)


ROWS = [
    Row("queued", State.QUEUED, spec={"instance_type": "p4d.24xlarge"}),
    Row("launching", State.LAUNCHING),
    Row("booting", State.BOOTING),
    Row(
        "cloning",
        State.PREPARING,
        step=Step.CLONE,
        spec={"git_repositories": [{"url": "http://127.0.0.1:PORT/never"}]},
    ),
    Row("setting-up", State.PREPARING, step=Step.SETUP, exit_code=143, spec={"start_script": "sleep 600"}),
    Row(
        "graceful",
        State.RUNNING,
        f"trap 'echo saved; exit 0' TERM; echo up; {HOLD}",
        after=b"up\n",
        exit_code=0,
        output=b"up\nsaved\n",
    ),
    Row(
        "own-code",
        State.RUNNING,
        f"trap 'exit 5' TERM; echo up; {HOLD}",
        after=b"up\n",
        exit_code=5,
        output=b"up\n",
    ),
    Row(
        "deaf",
        State.RUNNING,
        f"trap '' TERM; echo up; {HOLD}",
        after=b"up\n",
        exit_code=137,
        output=b"up\n",
        spec={"limits": {"stop_grace": "1s"}},
    ),
    Row("stopping", State.STOPPING, "echo over; exit 4", outcome=Outcome.FAILED, exit_code=4, output=b"over\n"),
    Row("done", State.DONE, "echo over", outcome=Outcome.SUCCEEDED, exit_code=0, output=b"over\n"),
]


def arrived(whole: Rig, run: Run, row: Row) -> bool:
    now = whole.service.runs.record(run.id)
    assert now.state is not State.DONE or row.when is State.DONE, f"{row.name} was never seen {row.when}"
    if now.state is not row.when:
        return False
    if row.step:
        [node] = whole.service.installation.store.nodes(run.id)
        return node.report is not None and node.report.step is row.step
    return not row.after or row.after in whole.log(run)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run all rows at once with a daemon, and stop each in its row's state."""
    conditions: dict[str, Any] = {
        "boot_delay": "1s",
        "end_delay": "2s",
        "capacity": [{"type": "p4d.24xlarge", "machines": 0}],
    }
    folder = tmp_path_factory.mktemp("stop")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(folder, patch, **conditions) as whole,
        Daemons() as daemons,
        # A server that accepts connections and never answers.
        socket.create_server(("127.0.0.1", 0)) as mute,
    ):
        whole.double.faults.add(Rule(Effect.DELAY, action="CreateFleet", seconds=3.0))
        daemons.start(whole.settings)
        waiting: list[tuple[Row, Run]] = []
        for row in ROWS:
            spec = dict(row.spec)
            for item in spec.get("git_repositories", ()):
                item["url"] = item["url"].replace("PORT", str(mute.getsockname()[1]))
            waiting.append((row, whole.start(row.command, name=row.name, **spec)))
        runs = {row.name: run for row, run in waiting}
        while waiting:
            for each in [each for each in waiting if arrived(whole, each[1], each[0])]:
                whole.service.runs.stop(each[1].id)
                waiting.remove(each)
            threading.Event().wait(0.02)
        while not all(whole.service.runs.record(run.id).done_at for run in runs.values()):
            threading.Event().wait(0.05)
        yield whole, {name: whole.service.runs.record(run.id) for name, run in runs.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_stop_in_any_phase_gives_the_expected_outcome(stopped: tuple[Rig, dict[str, Run]], row: Row) -> None:
    """The outcome is `cancelled`, or the job's own if it had ended before. Exit code and log are the process's own."""
    whole, runs = stopped
    run = runs[row.name]
    assert run.verdict is not None
    assert (run.verdict.outcome, run.verdict.exit_code) == (row.outcome, row.exit_code), run.verdict
    assert "\n" not in run.verdict.reason
    assert whole.log(run) == row.output
    assert run.attempt == (0 if row.when is State.QUEUED else 1)


def test_no_machine_is_left(stopped: tuple[Rig, dict[str, Run]]) -> None:
    """When all runs are done, no machine is alive and no machine's folder is left."""
    whole, _ = stopped
    assert whole.double.alive() == []
    assert list((whole.folder / "machines").glob("*")) == []
