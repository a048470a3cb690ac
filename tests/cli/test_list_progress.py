"""How far a list is: in `status`, `top`, `runs` and the live line, and its commands in 80 columns."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from provisioner.core.cost.receipt import receipt
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State
from provisioner.core.views import from_records
from provisioner.core.views.codec import Moment
from provisioner.core.views.commands import CommandState, Progress
from provisioner.core.views.overview import Live, Top
from provisioner.faces.cli.commands.top import COLUMNS, picture
from provisioner.faces.cli.terminal import lists, log, screen
from provisioner.faces.cli.terminal.excerpt import excerpt
from provisioner.faces.cli.terminal.story import story
from tests.support import samples
from tests.support.listed import MemoryCommands, command
from tests.support.samples import NOW

STARTED = Progress(total=10_000, open=10_000, succeeded=0, failed=0, lost=0, cancelled=0, not_run=0)
HALF = replace(
    STARTED, open=5_988, succeeded=4_009, failed=3, running=28, slots=32, rate=51.2, eta=Moment(NOW + 117), machines=1
)
ENDED = replace(STARTED, open=0, succeeded=9_990, failed=8, lost=2)
STOPPED = replace(STARTED, open=0, succeeded=400, failed=3, cancelled=2, not_run=9_595)


#: The beginning of most texts about HALF.
BEGIN = "4,012 of 10,000 ended (3 failed)"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (STARTED, "0 of 10,000 ended"),
        (replace(STARTED, slots=4, running=None), "0 of 10,000 ended, 0 of 4 slots in use"),
        (HALF, f"{BEGIN}, 28 of 32 slots in use, 51/s, done in about 2 min"),
        (replace(STARTED, open=9_996, failed=3, lost=1), "4 of 10,000 ended (3 failed, 1 lost)"),
        (
            replace(HALF, rate=2.04, eta=Moment(NOW + 7_260)),
            f"{BEGIN}, 28 of 32 slots in use, 2.0/s, done in about 2 h 1 min",
        ),
        (replace(HALF, rate=0.5, slots=None, eta=None), f"{BEGIN}, 30/min"),
        (replace(HALF, rate=0.002, slots=None, eta=Moment(NOW + 260_000)), f"{BEGIN}, 7.2/h, done in about 3 d 0 h"),
        (replace(HALF, rate=None, slots=None, eta=Moment(NOW - 5)), f"{BEGIN}, almost done"),
        (replace(HALF, rate=None, slots=None, eta=Moment(NOW + 9.2)), f"{BEGIN}, done in about 9 s"),
    ],
)
def test_progress_has_what_is_known(item: Progress, text: str) -> None:
    assert lists.progress(item, NOW) == text


def run(item: Progress, state: State = State.RUNNING, **fields: Any) -> Any:
    return replace(from_records.run(samples.at_work(state, **fields)), commands=item)


def told(item: Progress, state: State = State.RUNNING, **fields: Any) -> list[str]:
    """Return the lines of the run's status at 80 columns."""
    record = samples.at_work(state, **fields)
    held = samples.held({"report": samples.report(Step.COMMAND)}, running_at=NOW + 10)
    status = from_records.status(record, [held.node], [held.machine], [], NOW)
    bill = from_records.receipt(receipt(record, [held], {}, NOW))
    return list(story(replace(status, run=replace(status.run, commands=item)), bill, NOW, 80))


def test_status_of_a_running_list_does_not_name_the_step_of_a_machine_that_joins() -> None:
    record = samples.at_work(State.RUNNING)
    first = samples.held({"report": samples.report(Step.COMMAND)}, running_at=NOW + 10)
    second = samples.held({"id": "r1.1.1", "rank": 1, "bound_at": NOW + 60}, id="i-2", bound_at=NOW + 60)
    status = from_records.status(record, [first.node, second.node], [first.machine, second.machine], [], NOW)
    bill = from_records.receipt(receipt(record, [first, second], {}, NOW + 90))
    lines = list(story(replace(status, run=replace(status.run, commands=HALF)), bill, NOW + 90, 80))
    assert any(line.startswith("now        running, attempt 1: command for") for line in lines), lines


def test_status_says_how_far_a_list_is() -> None:
    lines = told(HALF)
    at = lines.index("commands   4,012 of 10,000 ended (3 failed), 28 of 32 slots in use, 51/s, done")
    assert lines[at + 1] == "           in about 2 min"
    assert max(map(len, lines)) <= 80


def test_status_counts_only_bytes_of_the_log() -> None:
    """The stream with the records of commands is not a part of the log."""
    sizes = {"output": 1_500, "records": 90}
    held = samples.held({"report": samples.report(Step.COMMAND, produced=sizes, shipped={"output": 1_500})})
    record = samples.at_work(commands=10_000)
    status = from_records.status(record, [held.node], [held.machine], [], NOW)
    lines = list(story(status, from_records.receipt(receipt(record, [held], {}, NOW)), NOW, None))
    assert "           log: output 1.5 kB; all in the bucket" in lines


def test_status_of_an_ended_list_says_what_its_reason_does_not() -> None:
    """The reason of a list that was worked through has the numbers; that of a stopped one has not."""
    verdict = Verdict(Outcome.FAILED, "9,990 of 10,000 commands succeeded; 8 failed, 2 lost", NOW, 1)
    over = {"ended_at": NOW, "certain_at": NOW, "done_at": NOW}
    assert not [line for line in told(ENDED, State.DONE, verdict=verdict, **over) if line.startswith("commands")]
    cancelled = Verdict(Outcome.CANCELLED, "stop requested", NOW)
    lines = told(STOPPED, State.DONE, verdict=cancelled, **over)
    assert "commands   10,000: 400 succeeded, 3 failed, 2 cancelled, 9,595 not run" in lines


def test_line_about_a_run_has_the_progress_of_its_list() -> None:
    """Without a clock it has not: a log of lines would get one for each command."""
    assert screen.phase(run(HALF), NOW) == "running, 4,012 of 10,000 commands ended, 3 failed"
    assert screen.phase(run(HALF), None) == "running"
    assert screen.phase(run(HALF, State.BOOTING), NOW) == "booting"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (STARTED, "running 0 %"),
        (HALF, "40 %, 3 failed"),
        (replace(STARTED, open=1, succeeded=9_999), "running 99 %"),
        (replace(STARTED, open=1, lost=9_999), "99 %, 9999 failed"),
    ],
)
def test_top_shows_the_share_of_ended_commands(item: Progress, text: str) -> None:
    live = Live(run(item), None, "command", None, None, None, {}, 0.0, 0.0)
    found = Top(Moment(NOW), {State.RUNNING: 1}, 1, 0.0, 0, (), (), "", 0, (live,))
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(picture(found, 80))
    assert isinstance(console.file, io.StringIO)
    room = next(most for name, most, _ in COLUMNS if name == "STATE")
    shown = text if len(text) <= room else f"{text[: room - 1]}…"
    assert shown in console.file.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_commands_fit_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    long = "python infer.py --shard 17 --out s3://bucket/results/shard-17.jsonl --batch-size 64"
    screen.commands(
        [
            command(0, exit_code=0, seconds=0.04, text=long),
            command(9_999, CommandState.FAILED, exit_code=137, why="limit", seconds=7_260.0, text=long),
            command(10_000, CommandState.NOT_RUN, rank=None, text="a\nb"),
        ]
    )
    assert terminal.getvalue().splitlines() == [
        "INDEX  STATE      TRY  CODE       TOOK   RANK  COMMAND",
        "0      succeeded  1    0          0.0s   0     python infer.py --shard 17 --out…",
        "9999   failed     1    137 limit  2h01m  0     python infer.py --shard 17 --out…",
        "10000  not_run    1    -          -      -     a\\x0ab",
    ]


def test_failed_list_says_how_to_find_its_failed_commands() -> None:
    """The last lines of a list's log are those of commands that may have succeeded."""
    service: Any = None
    verdict = Verdict(Outcome.FAILED, "9,990 of 10,000 commands succeeded; 8 failed, 2 lost", NOW, 1)
    found = run(ENDED, State.DONE, verdict=verdict, ended_at=NOW)
    assert list(excerpt(service, found)) == [
        "the commands that failed: provision commands r1 --failed",
        "the output of one of them: provision logs r1 --command INDEX",
    ]


class RawTerminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("raw", "shown"), [(False, b"a\x1b[31mred\n\x1b[0m"), (True, b"a\x1b]0;title\x07\x1b[31mred\n")]
)
def test_output_of_a_command_does_not_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, raw: bool, shown: bytes
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := RawTerminal())
    outputs = MemoryCommands([command(0)], {0: b"a\x1b]0;title\x07\x1b[31mred\n"})
    service: Any = SimpleNamespace(commands=outputs)
    log.show_command(service, "r1", 0, raw=raw)
    assert isinstance(terminal.buffer, io.BytesIO)
    assert terminal.buffer.getvalue() == shown
