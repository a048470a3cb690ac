"""Write the journal to a stream: lines for a person or JSON for a control host, both formatted by structlog.

The import of structlog takes longer than a command needs to print its help, so the journal imports structlog only when
it writes its first line.
"""

import datetime as dt
import logging
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO

from provisioner.core.dates import datable
from provisioner.core.plain import plain

#: Maximum number of lines that wait while the reader of the stream does not read; further lines are counted and
#: dropped.
ROOM = 10_000
#: Maximum number of seconds for which `close` waits for room in the queue, and then again for the writing thread to
#: end, if such a reader still does not read.
PATIENCE = 2.0
#: The same line is written at most OFTEN times in WINDOW seconds. Further repetitions are counted, and the count is
#: printed.
OFTEN, WINDOW = 10, 60.0
#: Maximum number of different lines that are counted at the same time.
COUNTED = 1000
#: Ids in error messages, such as addresses of objects: lines that differ only in these are the same line.
_ID = re.compile("0x[0-9a-f]+|[0-9a-f]{12,}")

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"

_Entry = MutableMapping[str, Any]


class Unkept:
    """A journal that writes nothing. Commands use it, because the store has the events of runs anyway."""

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        pass

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class _Window:
    began: float
    line: tuple[str, _Entry]
    times: int = 1


class _Repeats:
    """Counts repeated lines, so that an error that occurs a thousand times a second does not fill the disk."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        #: The counts by line, the oldest count first.
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, line: tuple[str, _Entry]) -> bool:
        """Count the line, and return whether to write it."""
        level, entry = line
        # The fields, such as the run, distinguish errors; ids within the message do not.
        text = _ID.sub("*", str(entry["event"])) if level == "error" else entry["event"]
        about = ((name, value) for name, value in entry.items() if name not in ("at", "event", "traceback"))
        window = self._windows.setdefault((level, text, *about), _Window(self._elapsed(), line, 0))
        window.times += 1
        return window.times <= OFTEN

    def over(self, *, everything: bool = False) -> list[tuple[str, _Entry]]:
        """Remove the counts whose WINDOW is over, and the oldest if there are more than COUNTED counts.

        Returns a line for each removed count above OFTEN.
        """
        lines = list[tuple[str, _Entry]]()
        while self._windows and (everything or self.left() <= 0 or len(self._windows) > COUNTED):
            window = self._windows.pop(next(iter(self._windows)))
            level, entry = window.line
            if (more := window.times - OFTEN) > 0:
                event = f"repeated {more} more times within a minute: {entry['event']}"
                lines.append((level, {**entry, "event": event}))
        return lines

    def left(self) -> float:
        """Return the seconds until the oldest count ends; infinite if there is none."""
        oldest = next(iter(self._windows.values()), None)
        return oldest.began + WINDOW - self._elapsed() if oldest else math.inf


class StreamJournal(logging.Handler):
    """provisioner.ports.journal.Journal on a stream, with libraries' warnings, written by a thread of its own."""

    def __init__(
        self, stream: TextIO, *, as_json: bool, colour: bool = False, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(logging.WARNING)
        self._repeats = _Repeats(elapsed)
        self._stream, self._as_json, self._colour = stream, as_json, colour
        self._lines: queue.Queue[tuple[str, _Entry] | None] = queue.Queue(ROOM)
        self._lost = 0
        self._logger: Any = None
        # A daemon thread: a reader that has stopped reading must not keep the process from exiting.
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()
        logging.getLogger().addHandler(self)

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        self._put("info", at, text, fields)

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        self._put("error", at, error, fields)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's warning."""
        try:
            self.complain(f"{record.name}: {record.getMessage()}", record.created)
        except Exception:  # noqa: BLE001 - the library's arguments may not fit its message
            self.handleError(record)

    @property
    def idle(self) -> bool:
        """Whether the writing thread has taken every line."""
        return self._lines.empty()

    def close(self) -> None:
        logging.getLogger().removeHandler(self)
        super().close()
        if self._writer.is_alive():
            try:
                self._lines.put(None, timeout=PATIENCE)
            except queue.Full:
                return
            self._writer.join(PATIENCE)

    def _put(self, level: str, at: float, text: str, fields: Mapping[str, str | int]) -> None:
        known = {name: value for name, value in fields.items() if value}
        try:
            self._lines.put_nowait((level, {"at": at, "event": text, **known}))
        except queue.Full:
            self._lost += 1

    def _write(self) -> None:
        while (line := self._next()) is not None:
            for counted in self._repeats.over():
                self._print(*counted)
            if self._repeats.admit(line):
                self._print(*line)
        for counted in self._repeats.over(everything=True):
            self._print(*counted)

    def _next(self) -> tuple[str, _Entry] | None:
        """Return the next line, or None at the end; print counts that end while waiting."""
        while True:
            left = self._repeats.left()
            try:
                return self._lines.get(timeout=None if left == math.inf else max(0.0, left))
            except queue.Empty:
                for counted in self._repeats.over():
                    self._print(*counted)

    def _print(self, level: str, entry: _Entry) -> None:
        self._logger = self._logger or _logger(self._stream, as_json=self._as_json, colour=self._colour)
        try:
            if self._lost:
                lost, self._lost = self._lost, 0
                self._logger.error(f"{lost} lines were dropped: the reader of this output was too slow", at=entry["at"])
            getattr(self._logger, level)(**entry)
        except Exception:  # noqa: BLE001 - a closed stream or a full disk cannot be reported; the next line may work
            pass


def _logger(stream: TextIO, *, as_json: bool, colour: bool) -> Any:
    import structlog
    from structlog.processors import JSONRenderer, add_log_level

    return structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[add_log_level, _shape, JSONRenderer()] if as_json else [add_log_level, _Line(colour)],
        wrapper_class=structlog.BoundLogger,
    )


def _shape(_: object, level: str, entry: _Entry) -> _Entry:
    """Return the entry in the form that README.md documents for `daemon`."""
    at = (
        dt.datetime.fromtimestamp(datable(entry.pop("at")), dt.UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    text = entry.pop("event")
    return {"at": at, "level": entry.pop("level"), "error" if level == "error" else "text": text, **entry}


class _Line:
    """Formats an entry as local time, the run's short id, and the text."""

    def __init__(self, colour: bool) -> None:
        self._dim, self._red, self._plain = (DIM, RED, PLAIN) if colour else ("", "", "")

    def __call__(self, _: object, level: str, entry: _Entry) -> str:
        at = dt.datetime.fromtimestamp(datable(entry["at"])).astimezone()
        text = plain(entry["event"])
        if level == "error":
            text = f"{self._red}error: {text}{self._plain}"
        return f"{self._dim}{at:%H:%M:%S} {str(entry.get('run', ''))[:12]:12}{self._plain} {text}"
