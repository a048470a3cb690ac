"""`provision top`: its rows, their order, and how it fits the terminal."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from provisioner.core import units
from provisioner.core.cloud.offers import Price
from provisioner.core.run.machines.silence import SILENT
from provisioner.core.run.states import State, Waiting
from provisioner.core.views import from_records
from provisioner.core.views.codec import Moment, moment
from provisioner.core.views.overview import Budget, Live, Queue, Top
from provisioner.faces.cli.commands.top import picture
from tests.cli.conftest import Provision
from tests.e2e.rig import Rig
from tests.support import samples
from tests.support.samples import NOW

LATER = NOW + 600


def live(id: str, heard: float = 3.0, notice_at: float | None = None) -> Live:
    machine = from_records.machine(samples.machine(price=Price(0.45, "test", NOW)))
    heard_at = Moment(LATER - heard)
    silent_since = heard_at if heard > SILENT else None
    run, produced = from_records.run(samples.at_work(id=id)), {"output": 1_500_000}
    return Live(run, machine, "command", heard_at, silent_since, moment(notice_at), produced, 0.07, 0.0751)


SILENT_RUN = live("silent-r", SILENT + 20)
QUEUED = samples.run("waiting-", waiting=Waiting.CAPACITY, waiting_for="dry", job_name="x" * 60)
WAITS = Live(from_records.run(QUEUED), None, None, None, None, None, {}, 0.0, 0.0)
FOUND = Top(
    at=Moment(LATER),
    states={State.RUNNING: 2, State.QUEUED: 10_000},
    machines=3,
    dollars_an_hour=0.9,
    unpriced=1,
    waiting=(Queue("capacity", 9_000, Moment(LATER + 12)), Queue("limit", 1_000, Moment(LATER - 1))),
    foreign=("i-foreign",),
    hindrance="",
    runs=(SILENT_RUN, live("noticed-", notice_at=LATER + 60), WAITS),
    more=9_999,
)


def drawn(found: Top = FOUND, width: int = 120, height: int | None = None, **also: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(picture(found, width, height, **also))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_heading_counts_everything() -> None:
    """The heading has runs by state, machines and their price, queues by cause, and foreign machines."""
    lines = drawn(mode="a daemon acts, this only looks")
    assert lines[0].endswith("10,002 runs: 10,000 queued, 2 running")
    assert lines[1:6] == [
        "3 machines, 0.90 $/h and 1 of unknown price",
        "a daemon acts, this only looks",
        "9,000 runs waiting: capacity, next try in 12 s",
        "1,000 runs waiting: limit, trying now",
        "machines that this store did not launch; they end at their lifetime: i-foreign",
    ]
    assert lines[-1] == "+9,999 more"


@pytest.mark.parametrize(
    ("spent", "line"),
    [
        (41.2, "2026-11-30 UTC: $41.20 spent, $96.50 committed of $200.00; $62.30 left"),
        (110.0, "2026-11-30 UTC: $110.00 spent, $96.50 committed of $200.00; nothing left: launches wait"),
    ],
)
def test_the_heading_shows_the_day_of_an_installation_with_a_cap(spent: float, line: str) -> None:
    """`top` shows what machines have cost today, and what they may still cost."""
    assert drawn(replace(FOUND, budget=Budget("2026-11-30", spent, 96.5, 200.0)))[2] == line


def test_row_shows_silence_price_report_age_and_log_size() -> None:
    """A row has the state or the time of silence, the price so far, the age of the last report and the log's size."""
    rows = {line[:8]: line for line in drawn()}
    assert "silent 3m20s" in rows["silent-r"]
    assert " ".join(rows["noticed-"].split()) == "noticed- train running 1 spot g5.xlarge a 10m00s 0.0751 3s 1.5 MB"
    assert "queued: capacity" in rows["waiting-"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_it_fits_any_width(width: int) -> None:
    """No line is wider than the terminal; from 60 columns on the important columns are shown."""
    lines = drawn(width=width, errors=["an error " * 40])
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert any("silent 3m20s" in line and "0.0751" in line for line in lines)


@pytest.mark.parametrize("height", [10, 11, 24])
def test_it_fits_any_height(height: int) -> None:
    """Rows that do not fit are counted, so the live table never scrolls."""
    lines = drawn(height=height)
    assert len(lines) <= height
    shown = sum(line.startswith(("silent-r", "noticed-", "waiting-")) for line in lines)
    assert lines[-1] == f"+{9_999 + 3 - shown:,} more"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.4, "59s"), (60, "1m00s"), (7800, "2h10m"), (5.2 * 86400, "5d4h")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    """An age has at most two units."""
    assert units.short(seconds) == text


@pytest.fixture
def dry(whole: Rig) -> str:
    """Return the id of a run that waits for capacity."""
    run = whole.start("true", name="top-dry", instance_type="g6.xlarge")
    whole.until(lambda: whole.service.runs.record(run.id).waiting is not None)
    return run.id


def test_top_without_a_terminal_prints_once_without_escapes(provision: Provision, dry: str) -> None:
    """The command prints the table or one JSON object and ends, without escape sequences."""
    for words in (("top",), ("top", "--once")):
        done = provision(*words)
        assert done.code == 0
        assert dry[:12] in done.out.decode()
        assert "run waiting: capacity" in done.out.decode()
        assert b"\x1b" not in done.out
    told = json.loads(provision("top", "--json").out)
    assert set(told) == {
        *("at", "states", "machines", "dollars_an_hour", "unpriced", "waiting", "foreign", "more", "runs", "hindrance"),
        "budget",
    }
    [mine] = [each for each in told["runs"] if each["run"]["id"] == dry]
    assert set(mine) == {
        *("run", "machine", "step", "heard_at", "silent_since", "notice_at", "bytes_produced"),
        *("dollars_at_least", "dollars_at_most"),
    }
    assert (mine["machine"], mine["run"]["waiting"]["cause"]) == (None, "capacity")
    provision("stop", dry)
    provision("wait", dry)
