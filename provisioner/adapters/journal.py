"""What happens, on a stream: lines for a person, JSON for a control host; structlog shapes both.

structlog takes longer to import than a command takes to help, so the first line imports it.
"""

import datetime as dt
import logging
import queue
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

from provisioner.core.dates import datable
from provisioner.core.plain import plain

#: Lines that wait for a reader who is away; those beyond are counted, not kept.
ROOM = 10_000
#: Seconds that the end waits for such a reader.
PATIENCE = 2.0

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"

_Entry = MutableMapping[str, Any]


class Unkept:
    """For commands: what happens is in the store's stories all the same."""

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        pass

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        pass

    def close(self) -> None:
        pass


class StreamJournal(logging.Handler):
    """provisioner.ports.journal.Journal on a stream, written by a thread of its own; what libraries warn of too."""

    def __init__(self, stream: TextIO, *, as_json: bool, colour: bool = False) -> None:
        super().__init__(logging.WARNING)
        self._stream, self._as_json, self._colour = stream, as_json, colour
        self._lines: queue.Queue[tuple[str, _Entry] | None] = queue.Queue(ROOM)
        self._lost = 0
        # A daemon: a reader that has stopped reading must not keep the process from its end.
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()
        logging.getLogger().addHandler(self)

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        self._put("info", at, text, fields)

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        self._put("error", at, error, fields)

    def emit(self, record: logging.LogRecord) -> None:
        """A library's warning."""
        try:
            self.complain(f"{record.name}: {record.getMessage()}", record.created)
        except Exception:  # noqa: BLE001 - a library's own mistake in how it warns
            self.handleError(record)

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
        logger = None
        while (line := self._lines.get()) is not None:
            logger = logger or _logger(self._stream, as_json=self._as_json, colour=self._colour)
            level, entry = line
            try:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    logger.error(f"{lost} lines found no reader and are not told", at=entry["at"])
                getattr(logger, level)(**entry)
            except Exception:  # noqa: BLE001 - a closed stream, a full disk: nobody can be told, and the next line may pass
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
    """As `provisioner/faces/shapes.py` documents it."""
    at = (
        dt.datetime.fromtimestamp(datable(entry.pop("at")), dt.UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    text = entry.pop("event")
    return {"at": at, "level": entry.pop("level"), "error" if level == "error" else "text": text, **entry}


class _Line:
    """Local time, the run's short id, and the text."""

    def __init__(self, colour: bool) -> None:
        self._dim, self._red, self._plain = (DIM, RED, PLAIN) if colour else ("", "", "")

    def __call__(self, _: object, level: str, entry: _Entry) -> str:
        at = dt.datetime.fromtimestamp(datable(entry["at"])).astimezone()
        text = plain(entry["event"])
        if level == "error":
            text = f"{self._red}error: {text}{self._plain}"
        return f"{self._dim}{at:%H:%M:%S} {str(entry.get('run', ''))[:12]:12}{self._plain} {text}"
