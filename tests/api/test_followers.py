"""Followers of a run that has not begun: their limits, and what ends them."""

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.access.pace import Pace
from provisioner.core.views.codec import Moment
from provisioner.core.views.commands import Progress
from provisioner.faces.api.http import stream
from provisioner.ports.control.logs import LogPiece
from provisioner.service.logs import LogPage, Logs
from tests.api.served import Server, recipe
from tests.polling import until

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def run(quiet: Server) -> str:
    quiet.service.jobs.apply(recipe("followed", "ann"), "the test's recipe")
    return quiet.service.runs.start("ann/followed", {}).id


@pytest.fixture
def nobody_left(quiet: Server) -> Iterator[None]:
    until(lambda: quiet.hub.followers == 0, "a hub without followers")
    yield
    until(lambda: quiet.hub.followers == 0, "a hub without followers")


@pytest.mark.usefixtures("nobody_left")
def test_followers_beyond_the_limits_are_refused(quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit for one caller and one for all; a refused follower gets Retry-After or too_many."""
    monkeypatch.setattr(stream, "MOST_EACH", 1)
    monkeypatch.setattr(quiet.hub, "_most", 2)
    path = f"/api/runs/{run}/logs"
    with (
        quiet.client(quiet.token("ann")) as ann,
        quiet.client(quiet.token("ann")) as other,
        quiet.client(quiet.token("ann")) as third,
        ann.stream("GET", path, headers=EVENTS) as one,
    ):
        assert one.status_code == 200
        refused = ann.get(path, headers=EVENTS)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
        with other.stream("GET", path, headers=EVENTS) as two:
            assert two.status_code == 200
            refused = third.get(path, headers=EVENTS)
            assert (refused.status_code, refused.json()["code"]) == (503, "try_again")
            assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("nobody_left")
def test_a_follower_whose_token_is_revoked_reads_no_further(
    quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower is disconnected even while its log is silent."""
    monkeypatch.setattr(quiet.hub, "heartbeat", 0.0)
    token = quiet.token("ann")
    with quiet.client(token) as ann, ann.stream("GET", f"/api/runs/{run}/logs", headers=EVENTS) as answer:
        lines = answer.iter_lines()
        assert ":" in list(itertools.islice(lines, 4))
        quiet.service.tokens.revoke(token.split("_")[1])
        assert set(lines) <= {":", ""}


@pytest.mark.usefixtures("nobody_left")
def test_a_log_that_is_never_silent_is_read_no_longer_than_its_token_holds(
    quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that always has new data sends no heartbeat, so the token must be checked elsewhere."""
    found, piece = quiet.service.runs.get(run), LogPiece(1, "output", 0, b"again\n")
    look = LogPage(found, ((piece, "1.output.0.6"),), "1.output.0.6", over=False)
    monkeypatch.setattr(stream.Hub, "read_page", lambda *_: look)
    token = quiet.token("ann")
    with quiet.client(token) as ann, ann.stream("GET", f"/api/runs/{run}/logs", headers=EVENTS) as answer:
        lines = answer.iter_lines()
        assert "event: log" in itertools.islice(lines, 10)
        quiet.service.tokens.revoke(token.split("_")[1])
        most = 100_000
        assert sum(1 for _ in itertools.islice(lines, most)) < most


@pytest.mark.usefixtures("nobody_left")
def test_followers_at_one_position_share_a_read(quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is read once a tick for any number of followers."""
    looked = []
    read = stream.Hub.read_page

    def counted(hub: stream.Hub, watched: stream.Watched, place: str) -> object:
        looked.append(place)
        return read(hub, watched, place)

    monkeypatch.setattr(stream.Hub, "read_page", counted)
    monkeypatch.setattr(quiet.hub, "heartbeat", 0.0)
    with quiet.client(quiet.token("ann")) as ann, contextlib.ExitStack() as stack:
        answers = [stack.enter_context(ann.stream("GET", f"/api/runs/{run}/logs", headers=EVENTS)) for _ in range(10)]
        beats = 0
        for answer in answers:
            beats += sum(line == ":" for line in itertools.islice(answer.iter_lines(), 12))
    assert len(looked) < beats / 2


@pytest.mark.usefixtures("nobody_left")
def test_each_follower_is_paced_by_its_caller(quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reconnects all the time must not slow down other callers' requests."""
    begun = []

    class Recorded(Pace):
        def wait(self, caller: str, now: float) -> float:
            begun.append(caller)
            return super().wait(caller, now)

    monkeypatch.setattr(quiet.hub, "pace", Recorded(stream.RATE, stream.BURST, stream.MOST_EACH))
    monkeypatch.setattr(quiet.hub, "heartbeat", 0.0)
    token = quiet.token("ann")
    with quiet.client(token) as ann:
        for _ in range(3):
            with ann.stream("GET", f"/api/runs/{run}/logs", headers=EVENTS) as answer:
                assert ":" in list(itertools.islice(answer.iter_lines(), 12))
    assert len(begun) == 3
    assert len(set(begun)) == 1


@pytest.mark.usefixtures("nobody_left")
def test_follower_that_waits_for_its_turn_is_kept_alive(
    quiet: Server, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client gets heartbeats, and the log is not read for it. It ends when its token is revoked."""
    read: list[str] = []

    class Late(Pace):
        def wait(self, caller: str, now: float) -> float:  # noqa: ARG002 - everybody waits an hour
            return 3600.0

    monkeypatch.setattr(quiet.hub, "pace", Late(stream.RATE, stream.BURST, stream.MOST_EACH))
    monkeypatch.setattr(quiet.hub, "heartbeat", 0.0)
    monkeypatch.setattr(stream.Hub, "read_page", lambda *_: read.append("read"))
    token = quiet.token("ann")
    with quiet.client(token) as ann, ann.stream("GET", f"/api/runs/{run}/logs", headers=EVENTS) as answer:
        lines = answer.iter_lines()
        beats = [next(line for line in lines if line == ":") for _ in range(3)]
        quiet.service.tokens.revoke(token.split("_")[1])
        assert not [line for line in lines if line not in (":", "")]
    assert (len(beats), read) == (3, [])


@pytest.mark.usefixtures("nobody_left")
def test_followers_of_a_list_get_its_progress_at_most_once_a_second(
    quiet: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read serves all followers of a run, and nothing is sent while only the expected end changes."""
    counts = itertools.chain((0, 0, 1), itertools.repeat(2))
    reads = []

    def progress(_: Logs, __: str) -> Progress:
        reads.append(time.monotonic())
        done = next(counts)
        return Progress(
            3, 3 - done, done, 0, 0, 0, 0, running=1, rate=1.0, eta=Moment(time.time() + len(reads)), slots=1
        )

    monkeypatch.setattr(Logs, "progress", progress)
    quiet.service.jobs.apply(recipe("progressing", "ann", command=["a", "b", "c"]), "the test's recipe")
    path = f"/api/runs/{quiet.service.runs.start('ann/progressing', {}).id}/logs"
    with (
        quiet.client(quiet.token("ann")) as ann,
        quiet.client(quiet.token("ann")) as other,
        ann.stream("GET", path, headers=EVENTS) as one,
        other.stream("GET", path, headers=EVENTS) as two,
    ):
        found = [_progress(answer.iter_lines(), 3) for answer in (one, two)]
    assert found[0][-1]["rate"] == 1.0
    assert [each["succeeded"] for each in found[0]] == [0, 1, 2]
    assert found[1][-1]["succeeded"] == 2
    assert min(after - before for before, after in itertools.pairwise(reads)) > 0.9


def _progress(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    """Return the first events `progress` of a stream, as long as it takes."""
    found, name = list[dict[str, Any]](), ""
    for line in lines:
        word, _, value = line.partition(": ")
        name = value if word == "event" else name
        if word == "data" and name == "progress":
            found.append(json.loads(value))
            if len(found) == count or found[-1]["open"] == 1:
                break
    return found
