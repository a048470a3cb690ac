"""A fact of an account is read within a time limit, or is unseen."""

import threading

import pytest

from provisioner.adapters import aws
from provisioner.adapters.checks.looking import Looker, within
from provisioner.core.check.lines import Unseen
from provisioner.core.errors import Misconfigured, Transient


@pytest.fixture
def looker() -> Looker:
    return Looker(aws.Session("us-east-1"), look=0.05)


def test_fact_that_takes_too_long_is_unseen(looker: Looker) -> None:
    """A name lookup that hangs must not hang the command."""
    never = threading.Event()
    found = looker.look("the moon", "sky:Look", lambda: never.wait(5))
    never.set()
    assert isinstance(found, Unseen)
    assert (found.what, found.right) == ("the moon", "")
    assert found.reason.startswith("no answer within 0 s")


def test_denied_fact_names_the_right(looker: Looker) -> None:
    def denied() -> None:
        raise Misconfigured("no", "AccessDenied")

    assert looker.look("x", "s3:Look", denied, needed=True) == Unseen("x", "AccessDenied: no", "s3:Look", needed=True)


def test_answer_without_an_expected_field_is_unseen(looker: Looker) -> None:
    """A proxy may answer instead of AWS."""
    answer: dict[str, str] = {}
    found = looker.look("x", "s3:Look", lambda: answer["Field"])
    assert isinstance(found, Unseen)
    assert "cannot be read" in found.reason


def test_bug_of_the_check_is_raised(looker: Looker) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        looker.look("x", "s3:Look", bug)


def test_value_and_error_pass_through() -> None:
    assert within(5, lambda: 1) == 1

    def fail() -> None:
        raise Transient("gone")

    with pytest.raises(Transient, match="gone"):
        within(5, fail)
