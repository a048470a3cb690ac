"""The commands of lists over HTTP, against a server with prepared answers."""

import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from provisioner.core.errors import Conflict, NotFound, Transient
from provisioner.core.views.commands import CommandPage, CommandState
from provisioner.core.views.upload import Upload
from provisioner.ports.control.lists import CommandFilter, every
from tests.adapters.answering import STARTED, Against, in_turn, problem, record
from tests.adapters.stranger import Said
from tests.support.listed import command

BYTES = "application/octet-stream"
RUN = "1f" * 16


def test_pages_are_read_one_after_the_other(against: Against) -> None:
    pages = CommandPage((command(0),), "0"), CommandPage((), "9"), CommandPage((command(12),), None)
    client, server = against(in_turn(*map(record, pages)))
    which = CommandFilter((CommandState.FAILED, CommandState.LOST), limit=7)
    assert [each.index for each in every(client.control.commands, RUN, which)] == [0, 12]
    asked = [parse_qs(urlsplit(each.path).query) for each in server.asked]
    assert [each.pop("cursor", None) for each in asked] == [None, ["0"], ["9"]]
    assert asked == [{"limit": ["7"], "state": ["failed", "lost"]}] * 3


def test_output_comes_as_it_is(against: Against) -> None:
    data = bytes(range(256)) * 1000
    client, server = against(in_turn(Said(data, kind=BYTES)))
    assert b"".join(client.control.commands.output(RUN, 3)) == data
    assert server.asked[0].path == f"/api/runs/{RUN}/commands/3/output"


@pytest.mark.parametrize("cut", [10, 200_000])
def test_output_that_breaks_off_is_an_error(against: Against, cut: int) -> None:
    client, _ = against(in_turn(Said(b"x" * 300_000, kind=BYTES, cut=cut)))
    with pytest.raises(Transient, match="was lost before the answer was complete"):
        list(client.control.commands.output(RUN, 3))


def test_request_for_an_output_is_repeated_while_the_server_is_away(against: Against) -> None:
    client, server = against(in_turn(problem(503, "try_again"), Said(b"", cut=0), Said(b"done", kind=BYTES)))
    assert b"".join(client.control.commands.output(RUN, 3)) == b"done"
    assert len(server.asked) == 3


def test_job_log_comes_as_it_is(against: Against) -> None:
    client, server = against(in_turn(Said(b"Seq\n1\n", kind="text/csv")))
    assert b"".join(client.control.commands.csv(RUN)) == b"Seq\n1\n"
    assert server.asked[0].path == f"/api/runs/{RUN}/commands.csv"


def test_one_command_is_stopped_even_if_the_first_answer_is_lost(against: Against) -> None:
    client, server = against(in_turn(Said(b"", cut=0), record(command(3))))
    assert client.control.commands.stop(RUN, 3) == command(3)
    assert [each.path for each in server.asked] == [f"/api/runs/{RUN}/commands/3/stop"] * 2


def test_rerun_has_the_same_key_when_it_is_repeated(against: Against) -> None:
    """Otherwise a lost answer would start two runs."""
    client, server = against(in_turn(Said(b"", cut=0), problem(409, "conflict")))
    with pytest.raises(Conflict):
        client.control.commands.rerun(RUN, unfinished=True)
    first, second = (json.loads(each.body) for each in server.asked)
    assert first == second
    assert first["idempotency_key"]
    assert first["unfinished"] is True


@pytest.mark.parametrize("call", ["page", "get", "output", "csv", "stop", "rerun"])
def test_name_that_no_run_can_have_is_not_sent(against: Against, call: str) -> None:
    client, server = against(in_turn(Said()))
    commands = client.control.commands
    calls: dict[str, Callable[[], object]] = {
        "page": lambda: commands.page("../x"),
        "get": lambda: commands.get("../x", 0),
        "output": lambda: list(commands.output("../x", 0)),
        "csv": lambda: list(commands.csv("../x")),
        "stop": lambda: commands.stop("../x", 0),
        "rerun": lambda: commands.rerun("../x"),
    }
    with pytest.raises(NotFound):
        calls[call]()
    assert server.asked == []


UPLOAD = Upload("5e" * 16, 3, 12)


def test_a_list_is_uploaded_in_few_pieces(against: Against) -> None:
    """However small the pieces are that the client gets; a start names the upload."""
    client, server = against(in_turn(record(UPLOAD), record(STARTED)))
    lines = [b"one\n", b"", b"two\n", b"x" * 200_000, b"\n"]
    assert client.control.uploads.add(lines, "ann") == UPLOAD
    client.control.runs.start("train", {}, upload=UPLOAD.id)
    first, start = server.asked
    assert (first.method, first.path, first.body) == ("POST", "/api/uploads?owner=ann", b"".join(lines))
    assert (first.headers["Content-Type"], first.headers.get("Content-Length")) == ("text/plain", None)
    assert json.loads(start.body)["upload"] == UPLOAD.id


@pytest.mark.parametrize("said", [problem(503, "try_again"), Said(b"", cut=0)])
def test_an_upload_is_not_repeated_when_it_has_begun(against: Against, said: Said) -> None:
    """The lines are there only once: a second request would store only the rest."""
    client, server = against(in_turn(said, record(UPLOAD)))
    with pytest.raises(Transient):
        client.control.uploads.add([b"one\n", b"two\n"])
    assert [each.body for each in server.asked] == [b"one\ntwo\n"]


def test_an_upload_without_lines_yet_is_repeated(against: Against) -> None:
    client, server = against(in_turn(problem(503, "try_again"), record(UPLOAD)))
    assert client.control.uploads.add([]) == UPLOAD
    assert [each.body for each in server.asked] == [b"", b""]


def test_an_upload_ends_with_the_error_of_its_lines(against: Against) -> None:
    """The server sees that the text is incomplete, and the next request has a connection of its own."""

    def lines() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise NotFound("no such file")

    client, server = against(in_turn(record(UPLOAD)))
    with pytest.raises(NotFound, match="no such file"):
        client.control.uploads.add(lines())
    assert client.control.uploads.add([b"one\n"]) == UPLOAD
    assert [each.body for each in server.asked][-1] == b"one\n"
