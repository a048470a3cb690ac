"""Decode the reports and results that machines write, with bounds on size, shape and times.

A job that is root on its machine can write any bytes under the keys of the machine's mailbox and inbox.
The caller reads no more bytes than the bounds below allow. This module decodes them to a Report or a
Result with printable texts, known dictionary keys, and times between the machine's launch and now. It
raises Invalid for bytes that it cannot decode.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.messages import Report, Result, StreamEnd
from provisioner.core.protocol.words import RECORDS, STREAMS, Step
from provisioner.core.run.records import Node

T = TypeVar("T")

#: Maximum number of bytes of a report; a genuine one has about 1,000.
REPORT_MOST = 64 << 10
#: Maximum number of bytes of a result before its field `streams`, which lists every chunk of the log, and maximum
#: number of bytes after it.
RESULT_HEAD = 64 << 10
#: Maximum number of bytes of a result that are read to find the ends of its streams: 120 bytes for each of CHUNKS_MOST
#: chunks.
RESULT_MOST = 24 << 20
#: Maximum number of bytes of a chunk. The agent closes a segment that exceeds 8 MiB, and the last piece added has at
#: most 8 MiB.
CHUNK_MOST = 16 << 20
#: Maximum number of chunks of a stream. The agent ships chunks at growing intervals: a log of 30 days has at most
#: 165,000.
CHUNKS_MOST = 200_000
#: Seconds by which a machine's clock may differ from the control plane's. EC2 instances use Amazon's time service and
#: differ by less than one second, so a time that differs by more was not read from such a clock.
CLOCK_SKEW = 3600.0
#: Maximum number of seconds that a machine exists: it works for up to three attempts, and each of the five limits of an
#: attempt is at most 30 days.
LONGEST_LIFE = 450 * 86400.0
#: Maximum number of characters of a text, of characters of the name of an agent process, and of members of a list.
TEXT_MOST, NAME_MOST, LIST_MOST = 4000, 64, 16
#: Maximum number of commands of a list that run at once on a machine.
RUNNING_MOST = 256
#: The largest exit status (wait(2)); 128 + s if signal s ended the process.
EXIT_CODE_MOST = 255

_KEYS = frozenset((*STREAMS, RECORDS, *(step.value for step in Step)))
_HOST_KEY = re.compile(r"[a-z0-9@.-]{1,64} [A-Za-z0-9+/=]{1,3900}")
_STREAMS, _STREAMS_END = b', "streams": {', b'"}}'
#: In a result's field `streams`: either the name of a stream, or the length and checksum after its list of chunks.
_END = re.compile(rb'"(\w{1,16})": \{"chunks": \[|\], "length": (\d{1,16}), "sha256": "([0-9a-f]{0,64})"\}')
#: Maximum number of bytes of a match of `_END`.
_END_MOST = 128


@dataclass(frozen=True)
class Period:
    """The interval, in Unix seconds, that the times of a message are clamped to."""

    earliest: float
    latest: float

    def nearest(self, at: float) -> float:
        return min(max(at, self.earliest), self.latest)


def period(node: Node, now: float) -> Period:
    """Return the period of the node's machine, from its launch to now, extended by CLOCK_SKEW at both ends."""
    return Period(node.bound_at - CLOCK_SKEW, now + CLOCK_SKEW)


def decode_report(data: bytes, sequence: int, within: Period) -> Report:
    """Return the report in the object with the number `sequence`; raises Invalid."""
    if len(data) > REPORT_MOST:
        raise Invalid(f"the report has more than {REPORT_MOST} bytes")
    report = _bounded(decode(Report, data), within)
    if report.sequence != sequence:
        raise Invalid(f"the report in object {sequence} has sequence number {report.sequence}")
    return report


def decode_result(head: bytes, within: Period, tail: bytes = b"") -> Result:
    """Return the result, without its list of chunks; raises Invalid.

    `head` has the first RESULT_HEAD bytes, or all if there are fewer; `tail` has the last bytes. Keys are
    sorted, so `streams` with its list of chunks is among the last fields. If the head ends within `streams`,
    that field is empty (see `stream_ends`), and the fields after it are taken from the tail.
    """
    if len(head) < RESULT_HEAD or _STREAMS not in head:
        return _bounded(decode(Result, head), within)
    # JSON escapes quotation marks within strings, so this match is the field and not text of a string.
    first, rest = head[: head.index(_STREAMS)], tail.rpartition(_STREAMS_END)[2]
    try:
        return _bounded(decode(Result, first + rest), within)
    except Invalid:
        return _bounded(decode(Result, first + b"}"), within)


def stream_ends(blocks: Iterable[bytes]) -> Mapping[str, StreamEnd]:
    """Return the length and checksum of each stream in a result that is read in blocks; keeps one block in memory."""
    found: dict[str, StreamEnd] = {}
    rest, name = b"", ""
    for block in blocks:
        rest += block
        done = 0
        for match in _END.finditer(rest):
            done = match.end()
            if match[1]:
                name = match[1].decode()
            elif name in STREAMS:
                found[name] = StreamEnd(int(match[2]), match[3].decode())
                name = ""
        rest = rest[max(done, len(rest) - _END_MOST) :]
    return found


def in_time(node: Node) -> Node:
    """Return a stored node with the times of its messages clamped: earlier releases stored them unchecked."""
    report, result = node.report, node.result
    heard = node.bound_at + LONGEST_LIFE if node.reported_at is None else node.reported_at
    if report:
        report = _clamped(report, period(node, heard))
    if result:
        result = _clamped(result, Period(node.bound_at - CLOCK_SKEW, node.bound_at + LONGEST_LIFE))
    return node if report == node.report and result == node.result else replace(node, report=report, result=result)


def _clamped(message: T, within: Period) -> T:
    def walk(value: Any) -> Any:
        if isinstance(value, float):
            return within.nearest(value)
        if isinstance(value, Mapping):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: walk(getattr(value, each.name)) for each in dataclasses.fields(value)})
        return value

    clamped: T = walk(message)
    return clamped


def _bounded(message: T, within: Period) -> T:
    bounded: T = _walk(_clamped(message, within), "")
    return bounded


def _walk(value: Any, name: str) -> Any:
    """Return the value of the field `name` with unknown keys and lists of chunks removed and texts made printable."""
    if isinstance(value, Enum | bool | float) or value is None:
        return value
    if isinstance(value, str):
        return printable(value, NAME_MOST if name == "process" else TEXT_MOST)
    if isinstance(value, int):
        if value < 0 or (name.endswith("exit_code") and value > EXIT_CODE_MOST):
            raise Invalid(f"invalid {name} {value}: expected 0 or more (exit codes: at most {EXIT_CODE_MOST})")
        return value
    if isinstance(value, Mapping):
        return {key: _walk(item, name) for key, item in value.items() if key in _KEYS}
    if isinstance(value, tuple):
        if name == "chunks":
            return ()
        if name == "host_keys":
            return tuple(key for key in value[:LIST_MOST] if _HOST_KEY.fullmatch(key))
        most = RUNNING_MOST if name == "running" else LIST_MOST
        return tuple(_walk(item, name) for item in value[:most])
    return replace(
        value, **{each.name: _walk(getattr(value, each.name), each.name) for each in dataclasses.fields(value)}
    )


def printable(text: str, most: int) -> str:
    """Return the text as one line of at most `most` characters; replace control characters and lone surrogates."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in cut)
