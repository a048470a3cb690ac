"""Keys of a run's objects in the archive, and the manifest that compares its log with the agent's EOF marks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provisioner.core.protocol.messages import Report, Result
from provisioner.core.protocol.words import STREAMS


@dataclass(frozen=True)
class KeptStream:
    """The part of one stream that is in the archive.

    `chunks` are (offset, length), sorted by offset; `length` is the number of bytes before the first gap.
    `missing_from` is None if the EOF mark shows that the stream is complete. Otherwise it is the offset from which
    bytes are missing: at least `missing_at_least` bytes, or None if the number is unknown.
    """

    length: int
    chunks: tuple[tuple[int, ...], ...]
    missing_from: int | None = None
    missing_at_least: int | None = None
    #: SHA-256 of the whole stream, from the EOF mark; empty without one.
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """The streams of one node that are in the archive."""

    run: str
    attempt: int
    rank: int
    streams: Mapping[str, KeptStream] = field(default_factory=dict)


def node_prefix(run: str, attempt: int, rank: int) -> str:
    return f"runs/{run}/{attempt}/{rank}/"


def chunk_offset(key: str, prefix: str) -> int | None:
    """Return the offset of the chunk with that key; None for any other object: a job can write such objects too."""
    name = key.removeprefix(prefix)
    return int(name) if len(name) == 15 and name.isascii() and name.isdigit() else None


def kept_log_prefix(run: str, attempt: int, rank: int, stream: str) -> str:
    return f"{node_prefix(run, attempt, rank)}log/{stream}/"


def kept_chunk_key(run: str, attempt: int, rank: int, stream: str, offset: int) -> str:
    return f"{kept_log_prefix(run, attempt, rank, stream)}{offset:015d}"


def manifest_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}manifest"


def lines_key(run: str, attempt: int, rank: int, stream: str) -> str:
    """Return the key of the index of a stream's lines."""
    return f"{node_prefix(run, attempt, rank)}lines/{stream}"


def kept_result_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}result"


def console_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}console"


def receipt_key(run: str) -> str:
    return f"runs/{run}/receipt"


def kept_streams(
    listed: Mapping[str, Iterable[tuple[int, int]]], result: Result | None, report: Report | None
) -> dict[str, KeptStream]:
    """Return the manifest entry of each stream, given the (offset, size) of its copied chunks."""
    return {stream: _kept(stream, listed.get(stream, ()), result, report) for stream in STREAMS}


def _kept(stream: str, listed: Iterable[tuple[int, int]], result: Result | None, report: Report | None) -> KeptStream:
    chunks: list[tuple[int, int]] = []
    length = 0
    beyond = 0
    for offset, size in sorted(listed):
        if offset == length:
            chunks.append((offset, size))
            length += size
        # A chunk after a gap was acknowledged too: keep it, and record the gap.
        else:
            chunks.append((offset, size))
            beyond = max(beyond, offset + size)
    end = result.streams.get(stream) if result else None
    if end is not None:
        # A result from the store has no list of chunks: then only the length is compared.
        named = [(each.offset, each.length) for each in end.chunks] or chunks
        if end.length == length and not beyond and named == chunks:
            return KeptStream(length, tuple(chunks), sha256=end.sha256)
        return KeptStream(length, tuple(chunks), length, max(0, end.length - length), end.sha256)
    produced = report.produced.get(stream) if report else None
    known = max(beyond, produced or 0)
    at_least = max(0, known - length) if produced is not None or beyond else None
    return KeptStream(length, tuple(chunks), length, at_least)
