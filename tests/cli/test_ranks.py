"""The line about the steps of a run's ranks; and the merged log, whose lines have the rank."""

import io

import pytest

from provisioner.core.protocol.words import Step
from provisioner.core.views import from_records
from provisioner.core.views.run import Attempt
from provisioner.faces.cli.terminal.log import Printer
from provisioner.faces.cli.terminal.ranks import preparing
from provisioner.ports.control.logs import LogGap, LogPiece
from tests.support.samples import NOW, node, report, run


def attempts(*steps: str | None, number: int = 1) -> list[Attempt]:
    """Return the view of each rank, in this step."""
    nodes = [
        node(attempt=number, rank=rank, report=report(Step(step)) if step else None) for rank, step in enumerate(steps)
    ]
    return list(from_records.attempts(run(), nodes, (), NOW))


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (("pull",), ": pull"),
        (("command",), ""),
        ((), ""),
        (("pull", "pull"), ": ranks 0, 1: pull"),
        (("barrier", "pull", "barrier"), ": waiting for rank 1: pull"),
        (("barrier", "pull", None, "pull"), ": waiting for ranks 1, 3: pull; rank 2: boot"),
        (("barrier", *["setup"] * 7), ": waiting for ranks 1, 2, 3, 4 and 3 more: setup"),
        (("barrier", "barrier"), ": all ranks are ready"),
    ],
)
def test_line_names_the_ranks_that_the_others_wait_for(steps: tuple[str | None, ...], text: str) -> None:
    earlier = attempts("boot", "boot", number=1)
    assert preparing([*earlier, *attempts(*steps, number=2)], 2) == text


class Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    @property
    def text(self) -> bytes:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


def piece(rank: int, data: bytes, attempt: int = 1) -> LogPiece:
    return LogPiece(attempt, "output", 0, data, rank)


def test_lines_of_several_ranks_are_whole_and_have_their_rank() -> None:
    output = Output()
    printer = Printer(output, several=True)
    for each in (piece(0, b"epo"), piece(3, b"loss 1\nlo"), piece(0, b"ch 1\n"), piece(3, b"ss 2")):
        printer.put(each)
    printer.end()
    assert output.text == b"[3] loss 1\n[0] epoch 1\n[3] loss 2\n"


def test_log_of_one_rank_is_unchanged() -> None:
    output = Output()
    printer = Printer(output)
    for each in (piece(0, b"epo"), piece(0, b"ch 1")):
        printer.put(each)
    printer.end()
    assert output.text == b"epoch 1"


def test_gap_names_its_rank(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(Output(), several=True).put(LogGap(1, "output", 7, None, 2))
    assert "attempt 1, output of rank 2, from byte 7" in capsys.readouterr().err
