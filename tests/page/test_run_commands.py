"""The commands of a run's list on its page: progress, failed commands, their outputs, and another run of them."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.errors import Transient
from provisioner.core.views.commands import CommandState
from tests.api.served import Server, recipe
from tests.page.conftest import Visitor, visitor
from tests.support.listed import MemoryCommands, command, install

OUTPUT = b"loading\n\x1b[31mOOM <b>now</b>\n"
COMMANDS = [
    command(0, exit_code=0, seconds=1.5),
    command(1, CommandState.FAILED, exit_code=137, why="oom", seconds=61.0, text="infer --shard '<i>'", output_bytes=9),
    command(2, CommandState.LOST),
    command(3, CommandState.WAITING),
]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    made = MemoryCommands(COMMANDS, {0: b"", 1: OUTPUT})
    install(monkeypatch, made)
    return made


@pytest.fixture(scope="module")
def run(site: Server) -> str:
    site.service.jobs.apply(recipe("listed", "ann", command=["a", "b", "c", "d"]), "the test's recipe")
    return site.service.runs.start("ann/listed", {}).id


@pytest.fixture(scope="module")
def ended(site: Server) -> str:
    """A run whose list has ended: two commands failed, and one was lost."""
    store, made = site.service.installation.store, site.service.runs.start("ann/listed", {}, scale=2).id
    found, stored = store.command_list(made), store.run(made)
    assert found
    assert stored
    at = stored.created_at + 60
    counts = replace(found, next=4, succeeded=1, failed=2, lost=1, sealed_at=at)
    store.save([counts])
    store.save([replace(stored, ended_at=at, done_at=at)])
    return made


@pytest.fixture(scope="module", autouse=True)
def _job(run: str) -> None:
    """The job of `ended` is made first."""


@pytest.fixture
def ann(site: Server) -> Iterator[Visitor]:
    with visitor(site, "ann") as found:
        yield found


@pytest.mark.usefixtures("commands")
def test_running_list_shows_its_progress(ann: Visitor, run: str) -> None:
    page = ann.get(f"/run/{run}").text
    assert "0 of 4 ended" in page
    assert 'aria-label="0 succeeded, 0 failed, 0 lost, 4 open, of 4"' in page
    assert f'data-live="/run/{run}/parts/list"' in page
    assert "/rerun" not in page


@pytest.mark.usefixtures("commands")
def test_failed_commands_are_on_the_page_of_the_run(ann: Visitor, ended: str) -> None:
    page = ann.get(f"/run/{ended}").text
    assert 'aria-label="1 succeeded, 2 failed, 1 lost, 0 open, of 4"' in page
    assert f'<a href="/run/{ended}/commands/1">1</a>' in page
    assert "infer --shard &#39;&lt;i&gt;&#39;" in page
    assert f'<a href="/run/{ended}/commands/0">' not in page
    assert f'action="/run/{ended}/rerun"' in page


def test_page_is_shown_while_the_bucket_cannot_be_read(
    ann: Visitor, ended: str, commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(*_: Any) -> None:
        raise Transient("S3 does not answer")

    monkeypatch.setattr(type(commands), "page", page)
    answer = ann.get(f"/run/{ended}")
    assert answer.status_code == 200
    assert "The commands cannot be read now: S3 does not answer" in answer.text
    assert "Where the time went" in answer.text


@pytest.mark.usefixtures("commands")
def test_commands_are_listed_by_state(ann: Visitor, run: str) -> None:
    for query, indices in (("", "0123"), ("?state=failed", "1"), ("?state=running", ""), ("?state=x", "0123")):
        page = ann.get(f"/run/{run}/commands{query}").text
        assert re.findall(rf'href="/run/{run}/commands/(\d)"', page) == list(indices)


def test_pages_of_commands_follow_each_other(ann: Visitor, run: str, commands: MemoryCommands) -> None:
    """A page may be empty, and not the last one."""
    commands.each = 1
    found, path = [], f"/run/{run}/commands?state=lost"
    for _ in range(6):
        page = ann.get(path).text
        found += re.findall(rf'href="/run/{run}/commands/(\d)"', page)
        address = re.search(r'rel="next" href="([^"]+)"', page)
        if not address:
            break
        path = f"/run/{run}/commands{address[1].replace('&amp;', '&')}"
    assert found == ["2"]


@pytest.mark.usefixtures("commands")
def test_command_has_its_output_as_text(ann: Visitor, run: str) -> None:
    page = ann.get(f"/run/{run}/commands/1").text
    assert 'loading\n<span class="t-f1">OOM &lt;b&gt;now&lt;/b&gt;</span>\n' in page
    assert "137" in page
    assert "oom" in page
    whole = ann.get(f"/run/{run}/commands/1/output")
    assert whole.content == OUTPUT
    assert whole.headers["content-disposition"] == 'attachment; filename="command-1.txt"'
    assert whole.headers["content-type"].startswith("text/plain")


def test_long_output_is_cut_and_its_end_is_shown(ann: Visitor, run: str, commands: MemoryCommands) -> None:
    commands.outputs = {1: b"first\n" + b"line\n" * 50_000 + b"the error\n"}
    page = ann.get(f"/run/{run}/commands/1").text
    assert len(page) < 150_000
    assert "its end is shown" in page
    assert "the error" in page
    commands.outputs = {1: b"first\n" + b"x" * 9_000_000}
    page = ann.get(f"/run/{run}/commands/1").text
    assert len(page) < 150_000
    assert "its beginning is shown" in page
    assert "first\n" in page


def test_output_of_gigabytes_is_not_read_to_its_end(
    ann: Visitor, run: str, commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(*_: Any) -> Iterator[bytes]:
        yield from [b"x" * 1_000_000] * 10
        raise AssertionError("10 MB are read")

    monkeypatch.setattr(type(commands), "output", output)
    assert ann.get(f"/run/{run}/commands/1").status_code == 200


@pytest.mark.usefixtures("commands")
def test_command_that_has_not_ended_has_no_output_and_can_be_stopped(
    ann: Visitor, run: str, commands: MemoryCommands
) -> None:
    page = ann.get(f"/run/{run}/commands/3").text
    assert "command 3 has not ended" in page
    assert ann.post(f"/run/{run}/commands/3/stop").headers["location"] == f"/run/{run}/commands/3"
    assert commands.stopped == [3]
    assert "/stop" not in ann.get(f"/run/{run}/commands/1").text


@pytest.mark.usefixtures("commands")
def test_job_log_is_a_file(ann: Visitor, run: str) -> None:
    answer = ann.get(f"/run/{run}/commands.csv")
    assert answer.content == b'Seq,Command\n1,"a\nb"\n'
    assert answer.headers["content-disposition"] == 'attachment; filename="commands.csv"'


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("path", "status"),
    [("commands/4", 404), ("commands/x", 400), ("commands?cursor=x", 400), ("commands/3/output", 409)],
)
def test_wrong_request_is_a_page_with_a_reason(ann: Visitor, run: str, path: str, status: int) -> None:
    answer = ann.get(f"/run/{run}/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.usefixtures("commands")
def test_rerun_gets_the_key_of_the_form(ann: Visitor, ended: str) -> None:
    key = re.search(r'name="key" value="(\w+)"', ann.get(f"/run/{ended}").text)
    assert key
    # The invented list answers with its arguments.
    assert f"failed, {key[1]}, False" in ann.post(f"/run/{ended}/rerun", key=key[1]).text
    assert "failed, , True" in ann.post(f"/run/{ended}/rerun", unfinished="1").text
