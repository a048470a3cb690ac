"""Turn signals into KeyboardInterrupt, for commands that must clean up before they end."""

import contextlib
import signal
from collections.abc import Iterator

#: Signals that request the end of this process.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Context in which the first signal of ASKING raises KeyboardInterrupt; later ones do not interrupt the cleanup."""

    def interrupt(*_: object) -> None:
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ASKING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
