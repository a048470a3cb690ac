"""Measure the HTTP API: how fast it starts and lists runs, and what its followers cost.

    python -m scripts.benchmarks.serving FILE

This command serves the baseline for starts: a FastAPI handler with one INSERT that survives a power cut.
"""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from provisioner.core.run.states import State
from provisioner.service.control import Service
from scripts.benchmarks.cloud import PROVISION, Cloud, recipe, until
from scripts.benchmarks.figures import Figure, figure, of_samples, quantile, seconds
from scripts.benchmarks.machines import TICKS

CLIENTS = 50
#: Runs that one transaction stores.
BATCH = 1000


def starts(folder: Path, quick: bool) -> Iterator[Figure]:
    """Runs started over HTTP by 50 clients at once, compared with a bare FastAPI handler with one durable INSERT."""
    rounds, each = (1, 1.0) if quick else (5, 3.0)
    bare, ours = list[float](), list[float]()
    with Cloud(folder, "scripted") as cloud, cloud.service() as service, _bare(folder / "bare.db") as one:
        service.jobs.apply(recipe("many", "true"), "the bench's recipe")
        token = service.tokens.create(["bench"], admin=False).token
        # The lease holder does nothing: only the requests are measured, not the work on thousands of runs.
        with cloud.service() as idle, standing_by(idle) as other:
            # Measure both in turn, so that other load on the computer affects both.
            for _ in range(rounds):
                bare += asyncio.run(_load(one, "/", "", each))
                ours += asyncio.run(_load(other, "/api/jobs/many/start", token, each))
    whole = rounds * each
    yield figure("starts", len(ours) / whole, "1/s", len(bare) / whole, n=len(ours), aim="ratio >= 0.6")
    yield of_samples("starts-p50", ours, "s", quantile(sorted(bare), 0.5))
    yield of_samples("starts-p99", ours, "s", quantile(sorted(bare), 0.99), at=0.99, aim="<= 0.1")


def followers(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds until a job's line reaches 200 followers over HTTP, and the server's memory without and with them."""
    count, lines = (10, 10) if quick else (200, 100)
    with Cloud(folder, "light") as cloud, cloud.service() as service, serving() as (port, process):
        service.jobs.apply(recipe("ticks", TICKS.format(count=lines)), "the bench's recipe")
        token = service.tokens.create(["bench"], admin=False).token
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
        yield figure("serve-idle", memory_of(process), "MB", aim="<= 180")
        run = service.runs.start("ticks", {})
        until(lambda: service.runs.record(run.id).state == "running", "a running run")
        known, began = cloud.count(), time.time()
        delays, memory = asyncio.run(_follow(port, token, run.id, count, process))
        calls = [call for call in cloud.calls(known) if call.ours and call.service == "s3"]
        yield of_samples("sse-p95", delays, "s", at=0.95, aim="<= 1.5")
        yield figure("serve-followed", memory, "MB", n=count, aim="<= 280")
        yield figure("followed-calls", len(calls) / (time.time() - began), "S3 calls a second", n=count)


def pages(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds of the first page of 100,000 runs over HTTP: the first request after a start, and later ones."""
    count, times = (1_000, 3) if quick else (100_000, 50)
    with Cloud(folder, "scripted") as cloud, cloud.service() as service:
        service.jobs.apply(recipe("many", "true"), "the bench's recipe")
        pattern = service.runs.record(service.runs.start("many", {}).id)
        store = service.installation.store
        over = replace(pattern, version=0, state=State.DONE, done_at=pattern.created_at, ended_at=pattern.created_at)
        for first in range(0, count, BATCH):
            store.save([replace(over, id=f"{first + n:032x}", created_at=float(first + n)) for n in range(BATCH)])
        token = service.tokens.create(["bench"], admin=False).token
        with standing_by(service) as port:
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/runs", headers={"Authorization": f"Bearer {token}"}
            )

            def page() -> None:
                with urllib.request.urlopen(asked) as answer:
                    answer.read()

            began = time.perf_counter()
            page()
            yield figure("page-first", time.perf_counter() - began, "s", aim="<= 0.05")
            yield of_samples("page-p95", seconds(page, times), "s", at=0.95, aim="<= 0.05")


@contextlib.contextmanager
def standing_by(holder: Service) -> Iterator[int]:
    """Run a server that does not act, because `holder` has the lease; yield its port."""
    holder.acting.acquire()
    with serving() as (port, _):
        yield port


@contextlib.contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """Run `provision serve`; yield its port and its process id when it listens."""
    words = [*PROVISION, "serve", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = json.loads(process.stderr.readline())["text"]
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield int(said.split(",")[0].rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            process.wait()
            drain.join()


@contextlib.contextmanager
def _bare(file: Path) -> Iterator[int]:
    words = [sys.executable, "-m", "scripts.benchmarks.serving", str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


async def _load(port: int, path: str, token: str, seconds: float) -> list[float]:
    """Return the seconds of each request, except in the first second, which warms up both sides."""
    end, taken = time.perf_counter() + 1 + seconds, list[float]()
    body = json.dumps({"env": {"SHARD": "1"}}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answered {answer!r}")
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            if began > end - seconds:
                taken.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken


async def _follow(port: int, token: str, run: str, count: int, process: int) -> tuple[list[float], float]:
    """Return the delay in seconds of each line for each follower, and the server's largest memory meanwhile in MB."""
    delays, memory = list[float](), 0.0
    head = f"GET /api/runs/{run}/logs?stream=output&tail=0 HTTP/1.1\r\nHost: bench\r\n"
    head += f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"

    async def client() -> None:
        nonlocal memory
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        async for line in reader:
            if line.startswith(b"event: end"):
                break
            if line.startswith(b"data: {"):
                now = time.time()
                delays.extend(now - float(text) for text in json.loads(line[6:])["text"].split())
                memory = max(memory, memory_of(process))
        writer.close()

    await asyncio.gather(*(client() for _ in range(count)))
    return delays, memory


def memory_of(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def _handler(file: str) -> None:
    import uvicorn
    from fastapi import Body, FastAPI

    app, lock = FastAPI(), threading.Lock()
    store = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")
    store.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, body TEXT)")

    @app.post("/")
    def start(body: dict[str, dict[str, str]] = Body()) -> dict[str, int | None]:  # noqa: B008 - FastAPI's way
        with lock:
            return {"id": store.execute("INSERT INTO run (body) VALUES (?)", (json.dumps(body),)).lastrowid}

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
    asyncio.run(uvicorn.Server(config).serve([listener]))


def main(words: Sequence[str]) -> None:
    _handler(words[0])


if __name__ == "__main__":
    main(sys.argv[1:])
