"""Time, threads and chance as this computer has them."""

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
        # Not an Event: `wake` is called by signal handlers too, and a handler that runs while its own
        # thread holds an Event's lock waits for ever. A SimpleQueue is reentrant.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        # CLOCK_MONOTONIC stands still while the computer sleeps (clock_gettime(2)).
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, seconds: float) -> None:
        try:
            self._wakes.get(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
            # Several wakes before one wait are one.
            while True:
                self._wakes.get_nowait()
        except queue.Empty:
            return

    def wake(self) -> None:
        self._wakes.put(None)


class ThreadPool:
    """Threads live no longer than their `map`, so an idle process has none and a map may call a map."""

    def __init__(self, threads: int = 16) -> None:
        """16 threads hide the network's waiting and stay far below EC2's request buckets (100 and up)."""
        self._threads = threads

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R | Exception]:
        def told(item: T) -> R | Exception:
            try:
                return function(item)
            except Exception as error:  # noqa: BLE001 - the caller's contract: it takes the result's place
                return error

        waiting = list(items)
        if len(waiting) < 2:
            return [told(item) for item in waiting]
        executor = ThreadPoolExecutor(min(len(waiting), self._threads))
        try:
            return [future.result() for future in [executor.submit(told, item) for item in waiting]]
        finally:
            # When one was raised through us (Ctrl-C), those not begun never begin.
            executor.shutdown(cancel_futures=True)


class RandomIds:
    def new(self) -> str:
        return uuid.uuid4().hex

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


def this_user() -> str:
    """The Unix user of this process, by the kernel's word and not the environment's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
