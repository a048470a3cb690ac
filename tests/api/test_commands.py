"""The commands of a list over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from provisioner.core.errors import Transient
from provisioner.core.views.commands import CommandState
from tests.api.served import Server, recipe
from tests.support.listed import MemoryCommands, command, install

BINARY = bytes(range(256)) * 2000
COMMANDS = [command(0, exit_code=0, output_bytes=len(BINARY)), *(command(at, CommandState.WAITING) for at in (1, 2))]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    made = MemoryCommands(COMMANDS, {0: BINARY})
    install(monkeypatch, made)
    return made


@pytest.fixture(scope="module")
def run(quiet: Server) -> str:
    quiet.service.jobs.apply(recipe("listed", "ann", command=["a", "b", "c"]), "the test's recipe")
    return quiet.service.runs.start("ann/listed", {}).id


@pytest.fixture
def ann(quiet: Server) -> Iterator[httpx.Client]:
    with quiet.client(quiet.token("ann")) as client:
        yield client


@pytest.mark.usefixtures("listed")
def test_pages_follow_each_other(ann: httpx.Client, run: str) -> None:
    path, found = f"/api/runs/{run[:12]}/commands", []
    page: dict[str, Any] = {"next_key": ""}
    while page["next_key"] is not None:
        page = ann.get(path, params={"limit": 1, "cursor": page["next_key"]}).json()
        found += [each["index"] for each in page["commands"]]
    assert found == [0, 1, 2]
    waiting = ann.get(path, params={"state": ["waiting", "lost"]}).json()
    assert [each["index"] for each in waiting["commands"]] == [1, 2]
    assert ann.get(f"{path}/2").json()["text"] == "echo 2"


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("commands?cursor=x", 400, "invalid cursor 'x': pass `next_key` of the previous page"),
        ("commands?cursor=-1", 400, "invalid cursor '-1'"),
        ("commands?state=done", 400, "query.state.0: found 'done'"),
        ("commands?limit=1001", 400, "query.limit: found '1001'"),
        ("commands/-1", 400, "path.index: found '-1'"),
        ("commands/x/output", 400, "path.index: found 'x'"),
        ("commands/3", 404, "has no command 3: its commands are 0 to 2"),
        ("commands/3/output", 404, "has no command 3: its commands are 0 to 2"),
        ("commands/1/output", 409, "command 1 has not ended"),
    ],
)
def test_wrong_request_is_answered_with_one_clear_line(
    ann: httpx.Client, run: str, path: str, status: int, text: str
) -> None:
    answer = ann.get(f"/api/runs/{run}/{path}")
    assert answer.status_code == status
    assert text in answer.json()["message"]


@pytest.mark.usefixtures("listed")
def test_output_is_streamed_byte_for_byte(ann: httpx.Client, run: str) -> None:
    answer = ann.get(f"/api/runs/{run}/commands/0/output")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert answer.content == BINARY


@pytest.mark.usefixtures("listed")
def test_job_log_is_streamed_as_csv(ann: httpx.Client, run: str) -> None:
    answer = ann.get(f"/api/runs/{run}/commands.csv")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert answer.content == b'Seq,Command\n1,"a\nb"\n'


def test_one_command_is_stopped(ann: httpx.Client, run: str, listed: MemoryCommands) -> None:
    answer = ann.post(f"/api/runs/{run}/commands/1/stop")
    assert (answer.status_code, answer.json()["index"], listed.stopped) == (200, 1, [1])
    assert ann.post(f"/api/runs/{run}/commands/3/stop").status_code == 404


@pytest.mark.usefixtures("listed")
def test_rerun_gets_key_and_choice(ann: httpx.Client, run: str) -> None:
    for body, text in ((None, ", , False"), ({"unfinished": True, "idempotency_key": "k"}, ", k, True")):
        answer = ann.post(f"/api/runs/{run}/rerun", json=body)
        assert answer.status_code == 400
        assert answer.json()["message"].endswith(text)


def test_output_that_breaks_off_is_not_mistaken_for_a_whole_one(
    ann: httpx.Client, run: str, listed: MemoryCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(_: MemoryCommands, run: str, index: int) -> Iterator[bytes]:  # noqa: ARG001 - the port's names
        yield b"the first bytes"
        raise Transient("S3 does not answer")

    monkeypatch.setattr(type(listed), "output", output)
    with pytest.raises(httpx.RemoteProtocolError):
        ann.get(f"/api/runs/{run}/commands/0/output")


@pytest.mark.usefixtures("listed")
def test_another_owners_commands_are_hidden(quiet: Server, run: str) -> None:
    with quiet.client(quiet.token("bob")) as bob:
        for path in ("commands", "commands/0", "commands/0/output", "commands.csv"):
            assert bob.get(f"/api/runs/{run}/{path}").status_code == 404
        for path in ("commands/0/stop", "rerun"):
            assert bob.post(f"/api/runs/{run}/{path}").status_code == 404


def test_saturns_client_reads_and_writes_a_list_as_text(ann: httpx.Client) -> None:
    """Saturn's API has only text for a command, so a list is the text of a JSON array there."""
    lines = ["echo 1 > 'a b'", "sc batch dir/ü.json"]
    text = json.loads(recipe("split", "ann", command=json.dumps(lines)))
    assert ann.put("/api/recipes", json=text).json()["spec"]["command"] == json.dumps(lines, ensure_ascii=False)
    got = ann.get("/api/recipes/job/split", params={"owner_name": "ann"}).json()
    assert json.loads(got["spec"]["command"]) == lines
    assert ann.get("/api/jobs/split").json()["recipe"]["spec"]["command"] == lines
    assert ann.put("/api/recipes", json=got).status_code == 201
    assert ann.get("/api/jobs/split").json()["recipe"]["spec"]["command"] == lines
