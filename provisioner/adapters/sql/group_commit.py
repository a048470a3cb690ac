"""Store the writes of many threads in one transaction: writes that arrive during a commit share the next commit.

A commit that survives a power cut takes milliseconds (SQLite, "PRAGMA synchronous"). A hundred runs that are started at
the same time need only one commit.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from provisioner.core.errors import Transient

A = TypeVar("A")
R = TypeVar("R")

#: Maximum number of items of one transaction, so that its first thread does not wait long for the last.
MOST = 100


class _Asked(Generic[A, R]):
    def __init__(self, item: A) -> None:
        self.item = item
        self.answers: Sequence[R] = ()
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return bool(self.answers) or self.error is not None


class GroupCommit(Generic[A, R]):
    """Calls `write` for the items of many threads.

    `write` is called under `lock`. It stores all its items or none, and returns an answer for each, in order.
    """

    def __init__(self, lock: threading.RLock, write: Callable[[Sequence[A]], Sequence[R]]) -> None:
        self._lock = lock
        self._write = write
        self.waiting: deque[_Asked[A, R]] = deque()

    def ask(self, item: A) -> R:
        """Return the answer of `write` to this item, or raise the error that the item would have caused alone."""
        asked = _Asked[A, R](item)
        self.waiting.append(asked)
        with self._lock:
            if not asked.done:
                self._answer(self._taken(asked))
        if asked.error:
            raise asked.error
        return asked.answers[0]

    def _taken(self, own: _Asked[A, R]) -> list[_Asked[A, R]]:
        taken = [self.waiting.popleft() for _ in range(min(len(self.waiting), MOST))]
        # Another thread may have taken the item and then ended with an exception before the item was written.
        return taken if own in taken else [own, *taken]

    def _answer(self, batch: Sequence[_Asked[A, R]]) -> None:
        try:
            answers = self._write([each.item for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.answers = (answer,)
        except Transient as error:
            # The error affects all items, and each further attempt may take half a minute to fail.
            for each in batch:
                each.error = error
        except Exception:
            if len(batch) == 1:
                raise
            # The error of one item must not fail the others.
            for each in batch:
                try:
                    each.answers = self._write([each.item])
                except Exception as error:  # noqa: BLE001 - the thread that asked raises it
                    each.error = error
