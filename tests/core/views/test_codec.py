"""Views as JSON, written and read, also by another version."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.views import ami, commands, job, log, overview, receipt, run, token
from provisioner.core.views.codec import Moment, from_json, iso, to_json
from tests.support.any_message import values

VIEWS = (
    ami.Ami, commands.Command, commands.CommandPage,
    job.Job, job.Jobs, job.Schedule, job.Schedules, job.Started, log.Log, log.Page, overview.Server,
    overview.Top, receipt.Receipt, run.Run, run.Runs, run.Status, token.Audits, token.NewToken, token.Tokens,
)  # fmt: skip


@given(st.data())
def test_a_view_that_is_written_is_read(data: st.DataObject) -> None:
    """Times are kept to the millisecond, everything else exactly."""
    kind: Any = data.draw(st.sampled_from(VIEWS))
    view = data.draw(values(kind))
    text = json.dumps(to_json(view))
    again = from_json(kind, json.loads(text))
    assert json.dumps(to_json(again)) == text


def test_a_moment_is_utc_to_the_millisecond() -> None:
    assert iso(1767225600.1239) == "2026-01-01T00:00:00.124Z"
    assert from_json(overview.Server, to_json(overview.Server(Moment(1.5), True, False, (), ""))).at == 1.5


def test_a_field_without_a_value_is_not_written() -> None:
    """A piece has either text or base64; a gap has neither."""
    at = {"attempt": 1, "stream": "output", "rank": 0}
    assert to_json(log.piece(1, "output", 0, b"a")) == {**at, "offset": 0, "text": "a"}
    assert to_json(log.piece(1, "output", 0, b"\xff"))["base64"] == "/w=="
    gap = log.Log(1, "output", 8, missing_at_least=None)
    assert to_json(gap) == {**at, "offset": 8, "missing_at_least": None}
    assert from_json(log.Log, to_json(gap)) == gap


def test_fields_of_a_newer_version_are_ignored() -> None:
    @dataclass(frozen=True)
    class Newer(overview.Server):
        more: int = 7

    newer = Newer(Moment(1.0), True, False, ("i-1",), "")
    assert from_json(overview.Server, to_json(newer)).foreign == ("i-1",)


@pytest.mark.parametrize(
    "wrong",
    [
        None, [], "text", {},
        {"at": "never"}, {"at": 1.0}, {"served": 1}, {"foreign": "i-1"}, {"foreign": [1]}, {"hindrance": None},
    ],
)  # fmt: skip
def test_wrong_view_raises_invalid(wrong: Any) -> None:
    """Any wrong answer of a server raises Invalid."""
    whole = to_json(overview.Server(Moment(1.0), True, False, (), ""))
    with pytest.raises(Invalid, match="not a Server"):
        from_json(overview.Server, {**whole, **wrong} if isinstance(wrong, dict) and wrong else wrong)
