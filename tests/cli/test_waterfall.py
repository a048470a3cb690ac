"""`provision receipt --waterfall`: a run's phases drawn to scale."""

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cost.receipt import receipt
from provisioner.core.protocol.messages import Report, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment
from provisioner.core.views import from_records
from provisioner.core.views.receipt import Receipt
from provisioner.faces.cli.terminal.waterfall import BLOCKS, waterfall
from tests.cli.conftest import Provision
from tests.e2e.rig import Rig
from tests.support import samples
from tests.support.samples import NOW

SPANS = {"boot": Span(NOW, NOW + 40), "pull": Span(NOW + 40, NOW + 70), "clone": Span(NOW + 40, NOW + 45)}
REPORT = Report(1, NOW + 90, "p", Step.COMMAND, SPANS | {"command": Span(NOW + 80)})


def at_work(attempt: int = 1, **machine: object) -> Receipt:
    """Return the receipt of a run whose command still executes at NOW + 100."""
    node = {"report": REPORT, "reported_at": NOW + 90, "attempt": attempt}
    held = samples.held(node, running_at=NOW + 10, state=MachineState.RUNNING, **machine)
    return from_records.receipt(receipt(samples.at_work(), [held], {}, NOW + 100))


def test_a_line_a_phase_to_scale() -> None:
    """Each line has name, start since the trigger, duration and bar; concurrent phases have another character."""
    title, *lines = waterfall(at_work(), NOW + 100, 80)
    assert title == "run r1 (ann/train): 1 min 40 s from the trigger"
    assert [line.split()[:3] for line in lines] == [
        ["queued", "+0.0", "0.0"],
        ["pending", "+0.0", "10.0"],
        ["boot", "+10.0", "30.0"],
        ["pull", "+40.0", "40.0"],
        ["clone", "+40.0", "5.0"],
        ["command", "+80.0", "20.0"],
    ]
    # The first bar begins at the left edge, the last ends at the right edge.
    room = 80 - lines[0].index("#")
    bars = [line[80 - room :] for line in lines]
    assert bars[0] == bars[1][:1] == "#"
    assert bars[2] == " " * round(0.1 * room) + "#" * (round(0.4 * room) - round(0.1 * room))
    assert bars[4] == " " * round(0.4 * room) + "-" * (round(0.45 * room) - round(0.4 * room))
    assert [len(bar) for bar in bars][-1] == room
    assert "20.0 s+" in lines[-1]


def test_attempts_are_told_apart() -> None:
    """With several attempts, each phase is preceded by its attempt's number."""
    first = samples.held({"result": samples.result(Outcome.FAILED, 1)}, ending_at=NOW + 55, ended_at=NOW + 60)
    second = samples.held({"id": "r1.2.0", "attempt": 2, "launch": "l2"}, id="i-2", launch_time=NOW + 70)
    whole: list[Assignment] = [first, second]
    lines = list(waterfall(from_records.receipt(receipt(samples.at_work(), whole, {}, NOW + 100)), NOW + 100))
    assert [line[0] for line in lines[1:]] == sorted(line[0] for line in lines[1:])
    assert {line.split()[1] for line in lines if line.startswith("2")} == {"queued", "boot"}


@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_it_is_as_wide_as_the_terminal(width: int | None) -> None:
    """Without a terminal the width is 100 columns; blocks are used if they can be encoded."""
    lines = list(waterfall(at_work(), NOW + 100, width, BLOCKS))
    assert max(map(len, lines)) == max(width or 100, len(lines[0]))
    assert not any(mark in line for line in lines for mark in "#-")


def test_a_run_that_just_began_is_drawn_too() -> None:
    """The total time is zero, so there is no scale."""
    run = samples.run()
    assert len(list(waterfall(from_records.receipt(receipt(run, [], {}, NOW)), NOW))) == 2


def test_the_command_draws_a_real_run(whole: Rig, provision: Provision) -> None:
    """Without a terminal the drawing is ASCII; --json is refused with it."""
    [run] = whole.done(whole.start("true", name="drawn", use_spot_instance=True))
    done = provision("receipt", run.id, "--waterfall")
    lines = done.out.decode("ascii").splitlines()
    assert done.code == 0
    assert [line.split()[0] for line in lines[1:]][:3] == ["queued", "launching", "pending"]
    assert all(line.endswith(("#", "-")) for line in lines[1:])
    assert provision("receipt", run.id, "--waterfall", "--json").code == 64
