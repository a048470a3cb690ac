"""Logs as Server-Sent Events (WHATWG HTML, "Server-sent events"): followers of the same run share one reader.

A follower requests the log after its own position from the hub, and requests more only when its client has received
that part. So a slow client falls behind, and uses only the memory of one read. Followers at the end of a log have the
same position, and one read per tick serves all of them.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from provisioner.core.access.pace import Pace
from provisioner.core.errors import ProvisionError, Retryable, TooMany, Transient
from provisioner.core.views.codec import to_json
from provisioner.core.views.commands import Progress
from provisioner.faces.api.http.reading import Readers
from provisioner.ports.control.logs import LogQuery, view_of
from provisioner.service.logs import LogPage, Logs

#: Seconds between two reads of a log (a tick), the same as for `provision logs --follow`.
TICK = 0.5
#: Seconds without an event after which a comment shows the client that the server is alive.
HEARTBEAT = 15.0
#: Least seconds between two events with the progress of a list.
PROGRESS = 1.0
#: Maximum number of followers at the same time: of the server, and of one caller.
MOST, MOST_EACH = 500, 250
#: Maximum number of bytes of one read; and of a read that is kept for followers that request the same within the tick.
LOOK, KEPT = 1 << 18, 1 << 16
#: Followers of one caller that begin at once, and further ones in a second: each needs a listing and several reads.
BURST, RATE = 100, 10.0
#: Maximum number of reads for followers at the same time; other requests have other threads.
THREADS = 4


@dataclass(frozen=True)
class Watched:
    """The part of a run's log that a follower reads."""

    run: str
    query: LogQuery


class Hub:
    """Log reader that all followers share. Use it on the event loop; it reads in its own threads."""

    def __init__(self, logs: Logs, *, tick: float = TICK, heartbeat: float = HEARTBEAT, most: int = MOST) -> None:
        """`logs` can read every run, so check each follower's access first. `most` limits the number of followers."""
        self._most = most
        self._logs = logs
        self._tick = tick
        self.heartbeat = heartbeat
        self._readers = Readers(THREADS)
        self._looks: dict[tuple[Watched, str], asyncio.Task[LogPage]] = {}
        #: By run, when its progress was read, and the read.
        self._progress: dict[str, tuple[float, asyncio.Task[Progress | None]]] = {}
        self._number = 0
        self._closing = asyncio.Event()
        self._followers: Counter[str] = Counter()
        self.pace = Pace(RATE, BURST, MOST_EACH)

    @property
    def followers(self) -> int:
        return self._followers.total()

    def enter(self, caller: str) -> None:
        """Count one more follower. Raises TooMany at the limit of the caller, and Transient at that of the server."""
        if self._followers[caller] >= MOST_EACH:
            raise TooMany(f"you already follow {MOST_EACH} logs, the limit of one caller; end one", self.heartbeat)
        if self.followers >= self._most:
            raise Transient(f"the server already has {self._most} followers, its limit; try again later")
        self._followers[caller] += 1

    def leave(self, caller: str) -> None:
        self._followers[caller] -= 1
        # Remove callers that have no followers left.
        self._followers += Counter()

    def close(self) -> None:
        """End every follower's answer. A client can resume after the id of the last event that it received."""
        self._closing.set()

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    async def rest(self) -> None:
        """Wait until the next tick, which is the same for all followers, or until the hub is closed."""
        left = self._tick - asyncio.get_running_loop().time() % self._tick
        try:
            await asyncio.wait_for(self._closing.wait(), left)
        except TimeoutError:
            pass

    async def look(self, caller: str, watched: Watched, place: str) -> LogPage:
        """Return the log after the position `place`.

        One read serves all followers that request the same part within a tick. It counts as a read of the first of
        them.
        """
        number = int(asyncio.get_running_loop().time() / self._tick)
        if number != self._number:
            self._number = number
            self._looks = {key: task for key, task in self._looks.items() if not task.done()}
        key = watched, place
        task = self._looks.get(key)
        if task is None:
            reading = self._readers.read(caller, self.read_page, watched, place)
            task = self._looks[key] = asyncio.ensure_future(reading)
            task.add_done_callback(lambda done: self._forget(key, done))
        # The first follower may be cancelled while others wait for the same read.
        return await asyncio.shield(task)

    async def progress(self, caller: str, run: str) -> Progress | None:
        """Return the progress of the run's list, read at most once in PROGRESS seconds for all followers of the run."""
        now = asyncio.get_running_loop().time()
        found = self._progress.get(run)
        if found is None or found[0] <= now - PROGRESS:
            reading = self._readers.read(caller, self._logs.progress, run)
            self._progress = {key: each for key, each in self._progress.items() if each[0] > now - PROGRESS}
            found = self._progress[run] = now, asyncio.ensure_future(reading)
        return await asyncio.shield(found[1])

    def _forget(self, key: tuple[Watched, str], task: "asyncio.Task[LogPage]") -> None:
        if task.cancelled() or task.exception() or _size(task.result()) > KEPT:
            self._looks.pop(key, None)

    def read_page(self, watched: Watched, place: str) -> LogPage:
        return self._logs.page(watched.run, watched.query, place, LOOK, following=True)


def _size(look: LogPage) -> int:
    return sum(len(getattr(piece, "data", b"")) for piece, _ in look.pieces)


class Following(Response):
    """A follower's answer. It ends if the log ends, the client disconnects, its token is denied or the server stops."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        caller: str,
        watched: Watched,
        place: str,
        let_in: Callable[[], object],
        heartbeat: float | None = None,
    ) -> None:
        """`let_in` raises ProvisionError as soon as the caller may no longer read."""
        super().__init__(None)
        self._hub = hub
        self._caller = caller
        self._watched = watched
        self._place = place
        self._let_in = let_in
        self._heartbeat = heartbeat or hub.heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._hub.enter(self._caller)
        telling = asyncio.ensure_future(self._tell(send, headers))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            self._hub.leave(self._caller)
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)

    async def _tell(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in self._events():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        # A browser reconnects after this many milliseconds. It shows the connection as open only after a first line.
        yield b"retry: 1000\n\n"
        progress, progress_at = None, heard_at
        begins_at = heard_at + self._hub.pace.wait(self._caller, heard_at)
        while not self._hub.closing:
            try:
                # Check before each read: a busy log must not be sent after the token has expired.
                self._let_in()
            except ProvisionError:
                return
            try:
                late = clock() < begins_at
                look = None if late else await self._hub.look(self._caller, self._watched, self._place)
            except Retryable:
                # The bucket cannot be read now; the next read continues at the same byte.
                look = None
            if look:
                self._place = look.cursor
                # `tail` only sets where reading begins. Remove it now, so that followers that began elsewhere can share
                # reads with this one.
                self._watched = replace(self._watched, query=replace(self._watched.query, tail=None))
                for piece, place in look.pieces:
                    yield event("log", to_json(view_of(piece)), place)
                    heard_at = clock()
                if look.over:
                    yield event("end", to_json(look.run), look.cursor)
                    return
                if look.run.commands and clock() >= progress_at:
                    progress_at = clock() + PROGRESS
                    found = await self._progress()
                    if found and _steady(found) != progress:
                        progress = _steady(found)
                        yield event("progress", to_json(found), self._place)
                if look.pieces:
                    continue
            if clock() - heard_at >= self._heartbeat:
                heard_at = clock()
                yield b":\n\n"
            await self._hub.rest()

    async def _progress(self) -> Progress | None:
        try:
            return await self._hub.progress(self._caller, self._watched.run)
        except Retryable:
            return None


def _steady(progress: Progress) -> Progress:
    """Return the progress without the expected end, which changes all the time although nothing happens."""
    return replace(progress, eta=None)


def event(name: str, data: object, id: str) -> bytes:
    """Return the bytes of one event. JSON and ids contain no line break, which would end their field."""
    return f"event: {name}\nid: {id}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
