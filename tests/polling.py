"""Wait for a state that another thread or process brings about."""

import threading
from collections.abc import Callable

import pytest

#: Seconds between two checks.
LOOK = 0.05


def until(condition: Callable[[], object], what: str, trace: Callable[[], str] = str, patience: float = 60.0) -> None:
    """Wait until `condition()` is true; fail the test with `trace()` after `patience` seconds."""
    pause = threading.Event()
    for _ in range(int(patience / LOOK)):
        if condition():
            return
        pause.wait(LOOK)
    pytest.fail(f"never came: {what} {trace()}")
