"""The line that shows what runs are doing while a command waits for them."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State
from provisioner.core.views import from_records
from provisioner.faces.cli.terminal import colours
from provisioner.faces.cli.terminal.waiting import LiveLine
from tests.support.samples import NOW, node, run

TAKEN = Verdict(Outcome.INTERRUPTED, "EC2 interrupted the spot machine", NOW + 60)
AGAIN = run(state=State.QUEUED, attempt=1, verdict=TAKEN)


def line() -> LiveLine:
    """Return the line of a control plane that has only the run AGAIN and its interrupted attempt."""
    status = from_records.status(AGAIN, [node(verdict=TAKEN)], [], [], NOW)
    service: Any = SimpleNamespace(
        operator=SimpleNamespace(now=lambda: NOW), runs=SimpleNamespace(status=lambda _: status)
    )
    return LiveLine(service)


def test_run_that_is_queued_again_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, each change is a line; a run that waits for its second attempt names the end of its first."""
    shown = line()
    for _ in range(2):
        shown.show([from_records.run(AGAIN)])
    assert capsys.readouterr().err == "r1 queued again after attempt 1, interrupted: EC2 interrupted the spot machine\n"


def test_live_line_colours_the_state(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal, the state has the colour that it has in tables; the rest of the line has none."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(colours, "_chosen", colours.When.ALWAYS)
    line().show([from_records.run(AGAIN)])
    assert f"r1 \x1b[{colours.DIM}mqueued\x1b[0m again after attempt 1, interrupted: EC2" in capsys.readouterr().err
