"""Measure the index of a log's lines, and reading by it: boto3 against SeaweedFS on this computer."""

import random
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import boto3

from provisioner.adapters.aws import Session
from provisioner.adapters.s3 import S3
from provisioner.adapters.system import SystemClock, ThreadPool
from provisioner.core.logs.archive import KeptStream, Manifest, kept_chunk_key, kept_log_prefix, lines_key, manifest_key
from provisioner.core.protocol.codec import encode
from provisioner.core.run.records import Node
from provisioner.ports.control.logs import LineQuery, Search
from provisioner.service.log_lines.lines import Lines
from provisioner.service.log_lines.search import AT_ONCE
from scripts.benchmarks.figures import Figure, figure, median_seconds, of_samples, seconds
from tests.support.seaweed import REGION, seaweed

#: Bytes of a chunk, as agents seal them.
CHUNK = 8 << 20
RUN, RARE = "0" * 32, "CUDA out of memory"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}


def log_lines(folder: Path, quick: bool) -> Iterator[Figure]:
    """Time, size and memory of the index of a log; a page in its middle; a search of a word that one line has."""
    with mock.patch.dict("os.environ", ENVIRONMENT), seaweed(folder) as url:
        session = Session(REGION, url)
        boto3.Session().client("s3", endpoint_url=url, region_name=REGION).create_bucket(Bucket="logs")
        bucket = S3("logs", session)
        for name, size in (("16-MB", 16),) if quick else (("200-MB", 200), ("1-GB", 1000)):
            attempt = size
            _write(bucket, attempt, size * 1_000_000)
            yield from _measured(bucket, name, attempt, 3 if quick else 10)
        session.close()


def _write(bucket: S3, attempt: int, size: int) -> None:
    """Put an archived log of lines of about 100 bytes; a line in its last tenth has the rare word."""
    chance = random.Random(1)
    tails = [f" loss {chance.random():.6f} lr {chance.random():.6f} {'#' * chance.randrange(50)}\n" for _ in range(997)]
    chunks, written, number, rest = list[tuple[int, int]](), 0, 0, b""
    while written < size:
        while len(rest) < CHUNK:
            count = 50_000
            rest += "".join(
                f"2026-01-01 00:00:00 rank 0 step {number + at:9}{tails[at % 997]}" for at in range(count)
            ).encode()
            number += count
        data, rest = rest[:CHUNK], rest[CHUNK:]
        data = data[: size - written]
        if written <= size * 0.95 < written + len(data):
            at = data.index(b"\n", len(data) // 2) + 1
            data = data[:at] + f"{RARE}\n".encode() + data[at + len(RARE) + 1 :]
        bucket.put(kept_chunk_key(RUN, attempt, 0, "output", written), data)
        chunks.append((written, len(data)))
        written += len(data)
    kept = {"output": KeptStream(written, tuple(chunks))}
    bucket.put(manifest_key(RUN, attempt, 0), encode(Manifest(RUN, attempt, 0, kept)))


def _measured(bucket: S3, name: str, attempt: int, times: int) -> Iterator[Figure]:
    node = Node("n", RUN, attempt, 0, "l", "t", "i-1", "box", 0.0, 1, archived_at=1.0)
    lines, chance = _lines(bucket), random.Random(2)
    bare = median_seconds(partial(_read, bucket, attempt), 2)
    before = _reset_memory()
    began, used = time.monotonic(), time.process_time()
    while not (page := lines.page(node, "output", LineQuery(), lambda: node)).over:
        pass
    yield figure(f"log-lines-{name}-index", time.monotonic() - began, "s", bare)
    yield figure(f"log-lines-{name}-index-cpu", time.process_time() - used, "s")
    stored = bucket.get(lines_key(RUN, attempt, 0, "output")) or b""
    yield figure(f"log-lines-{name}-index-size", len(stored) / 1000, "kB")

    def first() -> None:
        _lines(bucket).page(node, "output", LineQuery(page.total // 2), lambda: node)

    def any_page() -> None:
        lines.page(node, "output", LineQuery(chance.randrange(page.total)), lambda: node)

    yield of_samples(f"log-lines-{name}-first-page", seconds(first, times), "s", aim="<= 0.5")
    yield of_samples(f"log-lines-{name}-page", seconds(any_page, times), "s", aim="<= 0.1")
    for label, folded in (("search", False), ("search-ignoring-case", True)):
        used, several = time.process_time(), max(2, times // 2)
        took = seconds(partial(_search, lines, node, ignore_case=folded), several)
        aim = "<= 2" if name == "1-GB" else ""
        yield of_samples(f"log-lines-{name}-{label}", took, "s", bare, aim=aim)
        yield figure(f"log-lines-{name}-{label}-cpu", (time.process_time() - used) / (several + 1), "s", n=several + 1)
    yield figure(f"log-lines-{name}-memory", _peak() - before, "MB")


def _lines(bucket: S3) -> Lines:
    """Return the reader of a process that has read nothing yet."""
    return Lines(bucket, ThreadPool(), SystemClock())


def _read(bucket: S3, attempt: int) -> None:
    """Read the whole log, as many chunks at the same time as a search reads, and nothing else."""
    chunks = list(bucket.list(kept_log_prefix(RUN, attempt, 0, "output")))
    ThreadPool(AT_ONCE).map(lambda chunk: len(bucket.get(chunk.key) or b""), chunks)


def _search(lines: Lines, node: Node, *, ignore_case: bool) -> None:
    """Search until the end of the log."""
    after, found = "", list[int]()
    while True:
        hits = lines.search(node, "output", Search(RARE, after, 100, ignore_case), lambda: node)
        found += [hit.line for hit in hits.hits]
        if hits.next is None:
            assert len(found) == 1, found
            return
        after = hits.next


def _reset_memory() -> float:
    """Make the peak of this process's memory its present use (proc(5)); return it in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1000
