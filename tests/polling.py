"""Waiting for a state that others bring about."""

import threading
from collections.abc import Callable

import pytest

#: Seconds between two looks.
LOOK = 0.05


def until(condition: Callable[[], object], what: str, trace: Callable[[], str] = str, patience: float = 60.0) -> None:
    """Look until it holds; the seconds of patience are there only so that a broken test ends, and says `trace`."""
    pause = threading.Event()
    for _ in range(int(patience / LOOK)):
        if condition():
            return
        pause.wait(LOOK)
    pytest.fail(f"never came: {what} {trace()}")
