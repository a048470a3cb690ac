"""The first contact with the bucket: what the machine does if it gets no work order, or may not report."""

import time
from collections.abc import Iterator

import pytest

from provisioner.agent import contact
from provisioner.agent.aws.client import ServiceError
from provisioner.agent.contact import Stranded
from provisioner.agent.machine.paths import Settings
from provisioner.agent.mailbox import Mailbox
from provisioner.core.protocol import codec
from provisioner.rehearsal.aws import dead_end
from tests.agent.wire import Reply, Script, given, reply, served
from tests.support.work_orders import ORDER

SETTINGS = Settings("bucket", "some/", "us-east-1", "AROA")


def no(status: int, code: str) -> Reply:
    return reply(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())


def caller(user_id: str) -> Reply:
    """Return STS's answer to GetCallerIdentity."""
    return reply(200, f"<GetCallerIdentityResult><UserId>{user_id}</UserId></GetCallerIdentityResult>".encode())


WORK = reply(200, codec.encode(ORDER))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Yield a script for S3 and STS; time passes only in pauses, a minute in each."""
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(time, "sleep", lambda _: moment.__setitem__(0, moment[0] + 60.0))
    with given(), served(Script()) as made:
        yield made


@pytest.fixture
def mailbox(script: Script) -> Mailbox:
    assert script.url
    return Mailbox(SETTINGS, "i-1", lambda _: None)


def wait(mailbox: Mailbox) -> object:
    return contact.work_order(mailbox, SETTINGS, "i-1")


def test_late_work_order_is_waited_for(script: Script, mailbox: Mailbox) -> None:
    """The control plane may be away. STS is asked once, and knows this machine by the name of its mailbox."""
    script.replies = [no(403, "AccessDenied"), no(403, "AccessDenied"), caller("AROA:i-1")]
    script.replies += [no(403, "AccessDenied")] * 10 + [WORK]
    assert wait(mailbox) == ORDER
    [asked] = [each for each in script.heard if each.line.startswith("POST")]
    assert asked.body == b"Action=GetCallerIdentity&Version=2011-06-15"


def test_machine_with_another_role_is_stranded(script: Script, mailbox: Mailbox) -> None:
    """S3 denies another role's mailbox, as if no work order were there yet."""
    script.replies = [no(403, "AccessDenied"), no(403, "AccessDenied"), caller("AROANEW:i-1")]
    with pytest.raises(Stranded, match="this machine's UserId is AROANEW:i-1, but its mailbox is AROA:i-1: the role"):
        wait(mailbox)


def test_without_sts_the_machine_waits_for_its_work_order(script: Script, mailbox: Mailbox) -> None:
    """A private subnet may have an endpoint for S3 only."""
    script.replies = [no(403, "AccessDenied"), no(403, "AccessDenied"), no(503, "ServiceUnavailable"), WORK]
    assert wait(mailbox) == ORDER


@pytest.mark.parametrize("status", [500, 503])
def test_s3_in_trouble_is_waited_out(script: Script, mailbox: Mailbox, status: int) -> None:
    """S3 answers, so the subnet has a way out; another machine would not fare better."""
    script.replies = [no(status, "SlowDown"), no(status, "SlowDown"), caller("AROA:i-1")]
    script.replies += [no(status, "SlowDown")] * 5 + [WORK]
    assert wait(mailbox) == ORDER


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "NoSuchBucket", "check `bucket` in the settings"),
        (301, "PermanentRedirect", "the bucket is in another region"),
        (400, "Strange", "check `bucket` and `region` in the settings"),
    ],
)
def test_wrong_settings_strand_the_machine(
    script: Script, mailbox: Mailbox, status: int, code: str, words: str
) -> None:
    """No work order can ever be read from a bucket that is not there; the machine would wait for its fuse."""
    script.replies = [no(status, code) for _ in range(4)]
    with pytest.raises(Stranded, match=f"the work order cannot be read: .*{code}.*{words}"):
        wait(mailbox)
    assert not script.replies, "three minutes of tries"


@pytest.mark.usefixtures("script")
def test_no_way_out_strands_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a baked agent fetches nothing before, so the agent is the first to find out."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{dead_end.ADDRESSES[0]}:1")
    with pytest.raises(Stranded, match="the subnet has no way out: it needs a route to S3"):
        wait(Mailbox(SETTINGS, "i-1", lambda _: None))


def test_first_report_is_repeated_while_it_is_denied(script: Script, mailbox: Mailbox) -> None:
    """New rights may take seconds to be known everywhere."""
    replies = iter([False, True])
    mailbox.unsent = ServiceError("PutObject", 403, "AccessDenied", "m")
    contact.prove_rights(lambda: next(replies), mailbox, SETTINGS, "i-1")
    assert not script.heard


def test_denied_first_report_strands_the_machine(script: Script, mailbox: Mailbox) -> None:
    mailbox.unsent = ServiceError("PutObject", 403, "AccessDenied", "m")
    script.replies = [caller("AROA:i-1")]
    with pytest.raises(Stranded, match=r"may not write to its mailbox: .*AccessDenied.*`provision iam machine`"):
        contact.prove_rights(lambda: False, mailbox, SETTINGS, "i-1")


def test_lost_first_report_does_not_stop_the_work(mailbox: Mailbox) -> None:
    """Only a denial is final; the next heartbeat makes up for a lost report."""
    mailbox.unsent = ServiceError("PutObject", 503, "SlowDown", "m")
    contact.prove_rights(lambda: False, mailbox, SETTINGS, "i-1")


def test_missing_metadata_strands_the_machine(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its identity the agent has no mailbox."""
    assert script.url
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(Stranded, match="the metadata service gives no usable answer"):
        contact.this_machine()
