"""The machine's mailbox: what it waits for in silence, and what it says while it waits."""

from collections.abc import Iterator

import pytest

from provisioner.agent.machine.paths import Settings
from provisioner.agent.mailbox import Mailbox
from provisioner.core.protocol import codec
from provisioner.core.protocol.messages import Started
from tests.agent.wire import Reply, Script, given, reply, served

OURS, THEIRS = Started("agent-1", 1.0), Started("agent-2", 2.0)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def script() -> Iterator[Script]:
    with given(), served(Script()) as made:
        yield made


@pytest.fixture
def mailbox(script: Script, said: list[str]) -> Mailbox:
    assert script.url
    return Mailbox(Settings("bucket", "some/", "us-east-1", "AROA"), "i-1", said.append)


def no(status: int, code: str) -> Reply:
    return reply(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())


def test_a_work_order_that_is_not_there_yet_is_no_trouble(script: Script, mailbox: Mailbox, said: list[str]) -> None:
    """S3 has two words for it."""
    script.replies = [no(403, "AccessDenied"), no(404, "NoSuchKey")]
    assert mailbox.work() is None
    assert mailbox.work() is None
    assert script.heard[0].line == "GET /bucket/some/machines/AROA%3Ai-1/work HTTP/1.1"
    assert not said


@pytest.mark.parametrize(
    ("status", "code"), [(403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (503, "SlowDown"), (301, "Moved")]
)
def test_other_trouble_is_said_once(script: Script, mailbox: Mailbox, said: list[str], status: int, code: str) -> None:
    """It may last for hours, and is waited out."""
    script.replies = [no(status, code) for _ in range(3)]
    assert [mailbox.orders() for _ in range(3)] == [None] * 3
    assert said == [f"orders cannot be read: An error occurred ({code}) when calling the GetObject operation: m"]


def test_who_comes_second_hears_who_came_first(script: Script, mailbox: Mailbox) -> None:
    """Be it this agent itself, whose first answer was lost on the way."""
    for standing in (OURS, THEIRS):
        script.replies += [no(412, "PreconditionFailed"), reply(200, codec.encode(standing))]
        assert mailbox.start(OURS) == standing
    assert script.heard[0].headers["if-none-match"] == "*"


def test_what_must_arrive_is_put_until_it_has(
    script: Script, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through trouble of the service and of the way to it."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    script.replies = [no(500, "InternalError"), Reply(b"", close=True), Reply(b"?", close=True), reply(200)]
    assert mailbox.start(OURS) == OURS
    assert [request.body for request in script.heard] == [codec.encode(OURS)] * 4
