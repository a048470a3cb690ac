"""Commands that must tidy up whatever asks this process to end."""

import contextlib
import signal
from collections.abc import Iterator

#: What asks this process to end.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Whatever asks this process to end is a KeyboardInterrupt, once: the tidying up is not interrupted."""

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
