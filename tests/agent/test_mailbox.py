"""The machine's mailbox: which errors it logs, and which it waits out silently."""

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
    """S3 has two codes for a missing key."""
    script.replies = [no(403, "AccessDenied"), no(404, "NoSuchKey")]
    assert mailbox.work() is None
    assert mailbox.work() is None
    assert script.heard[0].line == "GET /bucket/some/machines/AROA%3Ai-1/work HTTP/1.1"
    assert not said


@pytest.mark.parametrize(
    ("status", "code"), [(403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (503, "SlowDown"), (301, "Moved")]
)
def test_repeated_read_error_is_logged_once(
    script: Script, mailbox: Mailbox, said: list[str], status: int, code: str
) -> None:
    """The trouble may last for hours. It is logged once and waited out."""
    script.replies = [no(status, code) for _ in range(3)]
    assert [mailbox.orders() for _ in range(3)] == [None] * 3
    assert said == [f"orders cannot be read: An error occurred ({code}) when calling the GetObject operation: m"]


def test_second_start_returns_the_existing_mark(script: Script, mailbox: Mailbox) -> None:
    """The existing mark may even be this agent's own, if its first answer was lost."""
    for standing in (OURS, THEIRS):
        script.replies += [no(412, "PreconditionFailed"), reply(200, codec.encode(standing))]
        assert mailbox.start(OURS) == standing
    assert script.heard[0].headers["if-none-match"] == "*"


def test_put_of_the_start_mark_is_retried_until_it_succeeds(
    script: Script, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put is retried after errors of the service and of the network."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    script.replies = [no(500, "InternalError"), Reply(b"", close=True), Reply(b"?", close=True), reply(200)]
    assert mailbox.start(OURS) == OURS
    assert [request.body for request in script.heard] == [codec.encode(OURS)] * 4
