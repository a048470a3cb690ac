"""Implement the ports of the clock, the thread pool and the ids on this computer."""

from __future__ import annotations

import os
import pwd
import queue
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class SystemClock:
    def __init__(self) -> None:
        # Not an Event: signal handlers call `wake` too, and a handler that interrupts its own thread while that thread
        # holds the Event's lock would wait for ever. A SimpleQueue is reentrant.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        # CLOCK_MONOTONIC stops while the computer sleeps (clock_gettime(2)).
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, seconds: float) -> None:
        try:
            self._wakes.get(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
            # Several calls of `wake` before this wait end only this wait.
            while True:
                self._wakes.get_nowait()
        except queue.Empty:
            return

    def wake(self) -> None:
        self._wakes.put(None)


class ThreadPool:
    """Runs each `map` in threads of its own, which end with the `map`: an idle process has no threads.

    A function in a `map` may call `map`.
    """

    def __init__(self, threads: int = 16) -> None:
        """`threads` is the maximum number of threads of one `map`.

        16 threads hide the network latency, and stay far below the token buckets with which EC2 throttles requests (100
        tokens and more).
        """
        self._threads = threads

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R | Exception]:
        def told(item: T) -> R | Exception:
            try:
                return function(item)
            except Exception as error:  # noqa: BLE001 - the port's contract: the exception takes the result's place
                return error

        waiting = list(items)
        if len(waiting) < 2:
            return [told(item) for item in waiting]
        executor = ThreadPoolExecutor(min(len(waiting), self._threads))
        try:
            return [future.result() for future in [executor.submit(told, item) for item in waiting]]
        finally:
            # If a BaseException such as Ctrl-C ends the map, calls that have not begun are cancelled.
            executor.shutdown(cancel_futures=True)


class RandomIds:
    def new(self) -> str:
        return uuid.uuid4().hex

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


def this_user() -> str:
    """Return the name of this process's user id, or the id if it has no name; the environment is not read."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
