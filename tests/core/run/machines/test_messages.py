"""Decoding of a machine's messages: whatever the bytes, the result is bounded."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.messages import Chunk, ListReport, Notice, Report, Result, Running, Span, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines import messages
from provisioner.core.run.machines.messages import (
    CLOCK_SKEW,
    REPORT_MOST,
    RESULT_HEAD,
    RUNNING_MOST,
    decode_report,
    decode_result,
    in_time,
    period,
    stream_ends,
)
from tests.support.any_message import values
from tests.support.samples import NOW, node, report, result

WITHIN = period(node(), NOW + 60)
FIRST, LAST = NOW - CLOCK_SKEW, NOW + 60 + CLOCK_SKEW


def ended(**fields: Any) -> Result:
    return replace(result(Outcome.FAILED, 1), **fields)


def with_field(message: object, name: str, text: str) -> bytes:
    """Return the message's JSON with this text as the value of the field."""
    fields = json.loads(encode(message))
    fields[name] = "here"
    return json.dumps(fields, sort_keys=True).replace('"here"', text).encode()


@pytest.mark.parametrize("at", [-1e15, 0.0, FIRST - 1])
def test_a_time_before_the_launch_becomes_the_launch(at: float) -> None:
    """Every time of a report and a result is moved to the launch, less the allowed clock skew."""
    told = replace(report(Step.COMMAND, began=at, at=at, notice=Notice(at, at)), rebalance_at=at)
    found = decode_report(encode(told), 1, WITHIN)
    assert found.notice
    times = {found.at, found.spans["command"].began, found.notice.at, found.notice.seen, found.rebalance_at}
    assert times == {FIRST}
    over = decode_result(encode(ended(at=at, spans={"command": Span(at, at)})), WITHIN)
    assert {over.at, over.spans["command"].began, over.spans["command"].ended} == {FIRST}


@pytest.mark.parametrize("at", [LAST + 1, 253402300800.0, 9e15])
def test_a_time_in_the_future_becomes_now(at: float) -> None:
    """Every time of a report and a result is moved to now, plus the allowed clock skew."""
    told = replace(report(Step.COMMAND, began=at, at=at, notice=Notice(at, at)), rebalance_at=at)
    found = decode_report(encode(told), 1, WITHIN)
    assert found.notice
    times = {found.at, found.spans["command"].began, found.notice.at, found.notice.seen, found.rebalance_at}
    assert times == {LAST}
    assert decode_result(encode(ended(at=at)), WITHIN).at == LAST


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400, "1" + "0" * 5000, "true", '"1"', "[]"]
)
@pytest.mark.parametrize("name", ["at", "sequence", "rebalance_at"])
def test_non_number_in_a_numeric_field_is_invalid(name: str, number: str) -> None:
    """The field may have a JSON value of another type, or a number such as NaN that JSON does not allow."""
    with pytest.raises(Invalid):
        decode_report(with_field(report(Step.COMMAND), name, number), 1, WITHIN)


@pytest.mark.parametrize("data", [b"[" * 60_000, b'{"a":' * 10_000, b"\xff\xfe\x00", b"\x80", b"", b"null", b"{}"])
def test_bytes_that_are_no_message_are_invalid(data: bytes) -> None:
    """The bytes may be nested deeply, invalid UTF-8 or empty."""
    with pytest.raises(Invalid):
        decode_report(data, 1, WITHIN)
    with pytest.raises(Invalid):
        decode_result(data, WITHIN)


def test_a_report_that_is_too_large_is_invalid() -> None:
    """A report beyond the limit is invalid even if it is valid JSON."""
    told = encode(report(Step.COMMAND))
    padded = told + b" " * (REPORT_MOST - len(told))
    assert decode_report(padded, 1, WITHIN) == report(Step.COMMAND)
    with pytest.raises(Invalid):
        decode_report(padded + b" ", 1, WITHIN)


def test_a_report_under_another_number_is_invalid() -> None:
    """Otherwise an old report, stored under a high number, would hide all later ones."""
    with pytest.raises(Invalid):
        decode_report(encode(report(Step.COMMAND)), 2, WITHIN)


@pytest.mark.parametrize(("name", "value"), [("exit_code", "-1"), ("exit_code", "256"), ("attempt", "-1")])
def test_a_number_that_counts_nothing_is_invalid(name: str, value: str) -> None:
    """An exit code is one byte, and counts are not negative."""
    with pytest.raises(Invalid):
        decode_result(with_field(result(Outcome.FAILED, 1), name, value), WITHIN)
    with pytest.raises(Invalid):
        decode_report(with_field(report(Step.COMMAND), "produced", '{"output": -1}'), 1, WITHIN)


def test_dictionaries_have_known_keys_only() -> None:
    """Spans of unknown steps are not stored."""
    many: dict[str, Any] = {"spans": {f"step {number}": Span(NOW) for number in range(500)}}
    many |= {"produced": {f"stream {number}": 1 for number in range(500)}}
    found = decode_report(encode(replace(report(Step.COMMAND), **many)), 1, WITHIN)
    assert (found.spans, found.produced) == ({}, {})


@pytest.mark.parametrize("text", ["\x1b]52;c;AAAA\x07", "a\x00b", "one\ntwo", "\ud800", "\u202e", "\x9b2J"])
def test_a_text_can_be_printed_in_one_line(text: str) -> None:
    """The text has no escape sequence, line break or lone surrogate, which UTF-8 cannot encode."""
    found = decode_result(encode(ended(reason=text)), WITHIN)
    assert found.reason.isprintable()
    found.reason.encode()


def test_a_long_text_is_cut() -> None:
    """The stored message stays small."""
    found = decode_result(encode(ended(reason="x" * 50_000, process="y" * 5_000)), WITHIN)
    assert (len(found.reason), len(found.process)) == (messages.TEXT_MOST, messages.NAME_MOST)


def test_malformed_host_key_is_dropped() -> None:
    """The keys become lines of known_hosts."""
    good = "ssh-ed25519 AAAAC3Nza+/="
    told = replace(report(Step.BOOT), host_keys=(good, "ssh-rsa A\n* ssh-rsa B", "", "x" * 9000))
    assert decode_report(encode(told), 1, WITHIN).host_keys == (good,)


def _chunks(count: int) -> tuple[Chunk, ...]:
    return tuple(Chunk(5 * number, 5, f"{number:064x}") for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 600, 5000])
def test_a_result_of_any_length_is_decoded_from_its_head(count: int) -> None:
    """The log of a week has many chunks, and its exit code must still be readable."""
    output = StreamEnd(5 * count, "a" * 64, _chunks(count))
    ends = {"output": output, "setup": StreamEnd(0, ""), "system": StreamEnd(7, "b" * 64)}
    told = ended(exit_code=3, reason='it said ", "streams": {"', streams=ends)
    data = encode(told)
    bare = {name: replace(end, chunks=()) for name, end in ends.items()}
    found = decode_result(data[:RESULT_HEAD], WITHIN)
    assert replace(found, streams={}) == replace(told, streams={})
    assert found.streams == (bare if len(data) < RESULT_HEAD else {})
    for size in (1 << 20, 100, 7):
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
        assert stream_ends(blocks) == bare


def test_fields_behind_the_streams_are_read_from_the_tail() -> None:
    """The head of such a result ends inside its list of chunks."""
    told = ended(unresolved_host="git.example.com", streams={"output": StreamEnd(25_000, "a" * 64, _chunks(5000))})
    data = encode(told)
    assert decode_result(data[:RESULT_HEAD], WITHIN, data[-RESULT_HEAD:]) == replace(told, streams={})
    for tail in (b"", b" " * 1000, b'"}}, "unresolved_host": 1}', b'"}}garbage'):
        assert decode_result(data[:RESULT_HEAD], WITHIN, tail).exit_code == told.exit_code


@pytest.mark.parametrize("block", [b"", b'"output": {"chunks": [', b'], "length": 1, "sha256": ""}', b"\xff" * 1000])
def test_bytes_without_an_eof_mark_give_no_stream_ends(block: bytes) -> None:
    """Bytes of any kind raise no error."""
    assert stream_ends([block]) == {}


@given(st.one_of(values(Report), values(Result)))
def test_any_message_is_invalid_or_bounded(message: Report | Result) -> None:
    """For any message: times are in their period, texts are one line, and the size is bounded."""
    data = encode(message)
    try:
        if isinstance(message, Report):
            found: Report | Result = decode_report(data, message.sequence, WITHIN)
        else:
            found = decode_result(data, WITHIN)
    except Invalid:
        return
    kept = encode(found)
    kept.decode("ascii")
    assert FIRST <= found.at <= LAST
    assert all(FIRST <= span.began <= LAST for span in found.spans.values())
    assert decode(type(found), kept) == found


@pytest.mark.parametrize("at", [-9e15, 9e15])
def test_a_stored_nodes_times_are_clamped(at: float) -> None:
    """An earlier release stored the machine's times unchanged."""
    poisoned = node(
        report=report(Step.COMMAND, began=at, at=at, notice=Notice(at, at)),
        reported_at=NOW + 60,
        result=ended(at=at, spans={"command": Span(at, at)}),
    )
    found = in_time(poisoned)
    assert found.report
    assert found.report.notice
    assert found.result
    for each in (found.report.at, found.report.notice.at, found.report.spans["command"].began):
        assert FIRST <= each <= LAST
    for each in (found.result.at, found.result.spans["command"].began):
        assert FIRST <= each <= NOW + messages.LONGEST_LIFE


def test_a_stored_node_of_honest_messages_stays_as_it_is() -> None:
    """Reading does not change such a node."""
    honest = node(report=report(Step.COMMAND), reported_at=NOW, result=result(Outcome.SUCCEEDED, 0))
    assert in_time(honest) is honest


def test_the_running_commands_of_a_list_are_bounded() -> None:
    """Their times are moved into the machine's life, and no more are kept than a machine can run."""
    running = tuple(Running(slot, slot, 1, 0.0) for slot in range(RUNNING_MOST + 1))
    told = report(Step.COMMAND, commands=ListReport(batches=3, running=running, ended=2, failed=1, waiting=9))
    found = decode_report(encode(told), 1, WITHIN).commands
    assert found
    assert found.running == tuple(Running(slot, slot, 1, FIRST) for slot in range(RUNNING_MOST))
    assert replace(found, running=()) == ListReport(batches=3, ended=2, failed=1, waiting=9)


def test_a_negative_number_in_a_report_on_a_list_is_invalid() -> None:
    with pytest.raises(Invalid):
        decode_report(encode(report(Step.COMMAND, commands=ListReport(ended=-1))), 1, WITHIN)
