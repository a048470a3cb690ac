"""Tables and colours on a terminal."""

import io
import os
import sys

import pytest

from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State, Waiting
from provisioner.core.views import from_records
from provisioner.faces.cli.terminal import colours, screen, streams
from provisioner.faces.cli.terminal.colours import When
from tests.support import samples
from tests.support.samples import NOW

REASON = "the command exited with 1: the kernel killed a process (python, 4242) because the machine has no memory left"
FAILED = samples.run(
    state=State.DONE,
    verdict=Verdict(Outcome.FAILED, REASON, NOW + 3725, 1),
    ended_at=NOW + 3725,
    done_at=NOW + 3730,
    offer=Offer(Market.SPOT, "g6e.12xlarge", "us-east-1a"),
    dollars_at_least=1.2,
    dollars_at_most=1.234,
)
QUEUED = samples.run(waiting=Waiting.CAPACITY, waiting_for=REASON, next_try_at=NOW + 4000)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(colours, "_chosen", When.AUTO)
    return made


def _runs(terminal: Terminal, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    # pytest replaces standard output after the fixtures have run, so the terminal is set here.
    monkeypatch.setattr(sys, "stdout", terminal)
    screen.runs([from_records.run(FAILED), from_records.run(QUEUED)], NOW + 3800)
    return terminal.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_runs_fit_the_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Ids, states, times, types and costs are whole; reasons are cut."""
    monkeypatch.setenv("NO_COLOR", "1")
    lines = _runs(terminal, width, monkeypatch)
    assert max(map(len, lines)) <= width
    assert lines[1].split()[:7] == [
        FAILED.id[:12],
        FAILED.job_name,
        "failed",
        "1h03m",
        "1h02m",
        "g6e.12xlarge",
        "$1.23",
    ]
    assert lines[2].split()[2] == "queued"
    assert all(line.endswith("…") for line in lines[1:])


def test_output_that_is_no_terminal_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    screen.runs([from_records.run(FAILED)], NOW + 3800)
    out = capsys.readouterr().out
    assert REASON in out
    assert "\x1b" not in out


def test_states_and_outcomes_are_coloured(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _runs(terminal, 120, monkeypatch)
    assert "\x1b[31mfailed" in lines[1]
    assert "\x1b[2mqueued" in lines[2]


@pytest.mark.parametrize(
    ("when", "environment", "used"),
    [
        (When.AUTO, {}, True),
        (When.AUTO, {"NO_COLOR": "1"}, False),
        (When.AUTO, {"TERM": "dumb"}, False),
        (When.NEVER, {}, False),
        (When.ALWAYS, {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_obey_the_option_and_the_environment(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, when: When, environment: dict[str, str], used: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    colours.choose(when)
    assert colours.used(terminal) is used


def test_a_cell_of_a_job_brings_no_colour(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whole cells that are a state or an outcome are coloured."""
    monkeypatch.setattr(sys, "stdout", terminal)
    streams.table(("A", "B"), [("failed early", "\x1b[31mx")])
    assert "\x1b" not in terminal.getvalue()


def test_a_table_without_room_keeps_its_first_columns(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "10")
    streams.table(("RUN", "REASON"), [("0123456789ab", "because of this")])
    assert os.linesep.join(terminal.getvalue().splitlines()[1:]).startswith("0123456789ab")
