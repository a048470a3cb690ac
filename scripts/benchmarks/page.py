"""Measure the page in Chromium: its first paint and bytes, its lists, the way of a live line, and many visitors."""

import asyncio
import functools
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser

from provisioner.core.recipe.jobs import Job
from provisioner.core.run.states import State
from provisioner.service.control import Service
from scripts.benchmarks.cloud import Cloud, finished, recipe, until
from scripts.benchmarks.figures import Figure, figure, of_samples, seconds
from scripts.benchmarks.machines import TICKS
from scripts.benchmarks.serving import BATCH, memory_of, serving, standing_by
from tests.page.browser import Window, chromium, window

#: Lines of the large log: `seq` prints 200 MB of them.
LINES = 23_400_000
VISITORS = 50
#: Seconds for which the requests of one open page are recorded, and repeated for each visitor.
WATCHED = 10.0
#: The times that TICKS prints, when they come to the screen.
WATCH = """() => {
    window.seen = [];
    const known = new Set();
    new MutationObserver(() => {
        for (const [text] of document.querySelector("main").textContent.matchAll(/\\d{10}\\.\\d{9}/g))
            if (!known.has(text)) { known.add(text); window.seen.push(Date.now() / 1000 - Number(text)); }
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
PAINT = """() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000,
    bytes: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .reduce((sum, each) => sum + each.transferSize, 0),
})"""


def page(folder: Path, quick: bool) -> Iterator[Figure]:
    """The run page with a 200 MB log: first paint, bytes; a live line's way to the screen; memory for 50 open pages."""
    with Cloud(folder, "light") as cloud, cloud.service() as service, serving() as (port, process):
        url = f"http://127.0.0.1:{port}"
        session = _session(url, service)
        service.jobs.apply(recipe("large", f"seq {LINES // 100 if quick else LINES}"), "the bench's recipe")
        service.jobs.apply(recipe("ticks", TICKS.format(count=80 if quick else 150)), "the bench's recipe")
        run = service.runs.start("large", {}).id
        finished(service, run)
        with chromium(folder / "chromium") as browser:
            loads = [_load(browser, url, session, f"/run/{run}") for _ in range(2 if quick else 15)]
            paints = [each["paint"] for each in loads]
            yield of_samples("paint", paints, "s")
            yield of_samples("paint-p95", paints, "s", at=0.95, aim="<= 0.5")
            yield of_samples("paint-bytes", [each["bytes"] / 1000 for each in loads], "kB", at=1.0, aim="<= 100")
            run = service.runs.start("ticks", {}).id
            until(lambda: service.runs.record(run).state == "running", "a running run")
            with window(browser, url, cookies=session) as opened:
                began = memory_of(process)
                delays, requests = _live(opened, run)
                yield of_samples("screen", delays, "s")
                yield of_samples("screen-p95", delays, "s", at=0.95, aim="<= 1.5")
        yield figure("page-memory", began, "MB")
        run = service.runs.start("ticks", {}).id
        until(lambda: service.runs.record(run).state == "running", "a running run")
        polls = [re.sub("/run/[0-9a-f]+", f"/run/{run}", path) for path in requests]
        most, answers = asyncio.run(_visits(url, session, polls, 3.0 if quick else 30.0, process))
        yield figure("page-memory-visited", most, "MB", n=VISITORS, aim="<= 280")
        yield figure("page-answers", answers, "answers a second", n=VISITORS)


def page_lists(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds of the pages of 100,000 runs and of 1,000 jobs over HTTP."""
    runs, jobs, times = (1_000, 10, 3) if quick else (100_000, 1_000, 50)
    with Cloud(folder, "scripted") as cloud, cloud.service() as service:
        _fill(service, runs, jobs)
        with standing_by(service) as port:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, cookies=_session(url, service), trust_env=False) as client:
                for name in ("runs", "jobs"):
                    found = seconds(functools.partial(_read, client, f"/{name}"), times)
                    yield of_samples(f"page-{name}-p95", found, "s", at=0.95, aim="<= 0.1")


def _session(url: str, service: Service) -> dict[str, str]:
    token = service.tokens.create(["bench"], admin=False).token
    with httpx.Client(base_url=url, trust_env=False) as client:
        client.post("/login", data={"token": token})
        return dict(client.cookies)


def _read(client: httpx.Client, path: str) -> None:
    client.get(path).raise_for_status()


def _load(browser: Browser, url: str, session: dict[str, str], path: str) -> dict[str, float]:
    """Load the page with an empty cache; return the seconds to its first paint, and the bytes of all it loads."""
    with window(browser, url, cookies=session) as opened:
        opened.open(path)
        opened.page.wait_for_load_state("networkidle")
        found: dict[str, float] = opened.page.evaluate(PAINT)
        return found


def _live(opened: Window, run: str) -> tuple[list[float], list[str]]:
    """Return the seconds from each live line to the screen, and the paths that the page requests in WATCHED seconds."""
    opened.open(f"/run/{run}")
    opened.page.evaluate(WATCH)
    known = len(opened.requests)
    opened.page.wait_for_timeout(WATCHED * 1000)
    requested = [urlsplit(address) for address in opened.requests[known:]]
    polls = [f"{each.path}?{each.query}" for each in requested]
    opened.page.locator("#now").get_by_text("succeeded", exact=True).first.wait_for()
    found: list[float] = opened.page.evaluate("window.seen")
    if not found:
        raise RuntimeError("no line came to the screen; expected the log on the page of a run")
    # The first lines were there before the page was opened.
    return [delay for delay in found if delay < WATCHED], polls


async def _visits(
    url: str, session: dict[str, str], paths: list[str], duration: float, process: int
) -> tuple[float, float]:
    """Repeat an open page's requests for each visitor; return the server's most memory in MB, and answers a second."""
    answers, most, end = 0, 0.0, time.monotonic() + duration

    async def visitor(number: int) -> None:
        nonlocal answers, most
        await asyncio.sleep(number * 0.02)
        async with httpx.AsyncClient(base_url=url, cookies=session, trust_env=False, timeout=60) as client:
            while time.monotonic() < end:
                for path in paths:
                    await client.get(path, headers={"X-Script": "1"})
                    answers += 1
                    most = max(most, memory_of(process))
                    await asyncio.sleep(WATCHED / len(paths))

    await asyncio.gather(*(visitor(number) for number in range(VISITORS)))
    return most, answers / duration


def _fill(service: Service, runs: int, jobs: int) -> None:
    """Store jobs, and their ended runs of the last weeks."""
    service.jobs.apply(recipe("many", "true"), "the bench's recipe")
    pattern = service.runs.record(service.runs.start("many", {}).id)
    store, now = service.installation.store, service.installation.clock.now()
    job = store.job_by_id(pattern.job_id)
    assert job is not None
    made = [replace(job, id=f"{number:032x}", name=f"job-{number}", version=0) for number in range(jobs - 1)]
    store.save(made)
    every: list[Job] = [job, *made]
    for first in range(0, runs, BATCH):
        batch = []
        for number in range(first, first + BATCH):
            of = every[number % len(every)]
            at = now - 30.0 * (runs - number)
            ended = {"created_at": at, "ended_at": at + 20, "certain_at": at + 20, "done_at": at + 25}
            fields: dict[str, Any] = {"id": f"{number:032x}", "job_id": of.id, "job_name": of.name, **ended}
            batch.append(replace(pattern, version=0, state=State.DONE, **fields))
        store.save(batch)
