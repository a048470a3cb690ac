"""Where a run's remains are kept, and what of its log is there: verified against the EOF mark."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provisioner.core.protocol.messages import STREAMS, Report, Result


@dataclass(frozen=True)
class KeptStream:
    """What the archive holds of one stream.

    `chunks` are (offset, length), contiguous from 0. `missing_from` is None when the EOF mark says
    that all is there; else bytes from that offset on are missing: `missing_at_least` of them, or
    None when nobody can say.
    """

    length: int
    chunks: tuple[tuple[int, ...], ...]
    missing_from: int | None = None
    missing_at_least: int | None = None
    #: Of the whole stream, by the EOF mark; empty without one.
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What the archive holds of one node."""

    run: str
    attempt: int
    rank: int
    streams: Mapping[str, KeptStream] = field(default_factory=dict)


def node_prefix(run: str, attempt: int, rank: int) -> str:
    return f"runs/{run}/{attempt}/{rank}/"


def chunk_offset(key: str, prefix: str) -> int | None:
    """Where the chunk of that key begins; None for what lies under `prefix` and is no chunk: a job may write there."""
    name = key.removeprefix(prefix)
    return int(name) if len(name) == 15 and name.isascii() and name.isdigit() else None


def kept_log_prefix(run: str, attempt: int, rank: int, stream: str) -> str:
    return f"{node_prefix(run, attempt, rank)}log/{stream}/"


def kept_chunk_key(run: str, attempt: int, rank: int, stream: str, offset: int) -> str:
    return f"{kept_log_prefix(run, attempt, rank, stream)}{offset:015d}"


def manifest_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}manifest"


def kept_result_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}result"


def console_key(run: str, attempt: int, rank: int) -> str:
    return f"{node_prefix(run, attempt, rank)}console"


def receipt_key(run: str) -> str:
    return f"runs/{run}/receipt"


def kept_streams(
    listed: Mapping[str, Iterable[tuple[int, int]]], result: Result | None, report: Report | None
) -> dict[str, KeptStream]:
    """What can be kept of each stream, given the (offset, size) of the chunks that are in the mailbox."""
    return {stream: _kept(stream, listed.get(stream, ()), result, report) for stream in STREAMS}


def _kept(stream: str, listed: Iterable[tuple[int, int]], result: Result | None, report: Report | None) -> KeptStream:
    chunks: list[tuple[int, int]] = []
    length = 0
    beyond = 0
    for offset, size in sorted(listed):
        if offset == length:
            chunks.append((offset, size))
            length += size
        # A chunk behind a hole was acknowledged too: kept, and the hole is said.
        else:
            chunks.append((offset, size))
            beyond = max(beyond, offset + size)
    end = result.streams.get(stream) if result else None
    if end is not None:
        # A stored result has no list of chunks: then only the length is compared.
        named = [(each.offset, each.length) for each in end.chunks] or chunks
        if end.length == length and not beyond and named == chunks:
            return KeptStream(length, tuple(chunks), sha256=end.sha256)
        return KeptStream(length, tuple(chunks), length, max(0, end.length - length), end.sha256)
    produced = report.produced.get(stream) if report else None
    known = max(beyond, produced or 0)
    at_least = max(0, known - length) if produced is not None or beyond else None
    return KeptStream(length, tuple(chunks), length, at_least)
