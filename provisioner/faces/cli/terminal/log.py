"""Print logs on standard output: bytes as they were written; on a terminal without escape sequences except colours.

Gaps in the log are reported on standard error.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from provisioner.core.errors import Conflict, NotFound
from provisioner.core.escapes import Filter
from provisioner.core.views.codec import to_json
from provisioner.core.views.commands import CommandState
from provisioner.faces.cli.terminal import screen, streams
from provisioner.faces.cli.terminal.excerpt import STREAMS
from provisioner.faces.cli.terminal.waiting import LiveLine
from provisioner.ports.control.control import Control
from provisioner.ports.control.lists import CommandFilter, every
from provisioner.ports.control.logs import MERGED_MOST, LogGap, LogPiece, LogQuery, view_of

DEFAULT = LogQuery(STREAMS)


class Printer:
    """Writes each piece of a log at once: as a JSON line with `as_json`, unfiltered even to a terminal with `raw`.

    With `several`, only whole lines are written, each after the number of its rank.
    """

    def __init__(self, to: TextIO, *, as_json: bool = False, raw: bool = False, several: bool = False) -> None:
        self._to = to
        self._as_json = as_json
        #: A filter for each stream of an attempt and rank; None if bytes are written unfiltered.
        self._filters: dict[tuple[int, int, str], Filter] | None = None if as_json or raw or not to.isatty() else {}
        #: The unfinished line of each stream of an attempt and rank; None if lines get no rank.
        self._unfinished: dict[tuple[int, int, str], bytes] | None = {} if several and not as_json else None
        self._last: Filter | None = None
        self.empty = True
        #: Whether the last byte ended a line, so that other text may follow.
        self.fresh = True

    def put(self, piece: LogPiece | LogGap) -> None:
        if isinstance(piece, LogGap):
            self.rest()
            size = f"at least {piece.at_least} bytes" if piece.at_least is not None else "an unknown number of bytes"
            rank = f" of rank {piece.rank}" if piece.rank or self._unfinished is not None else ""
            where = f"attempt {piece.attempt}, {piece.stream}{rank}, from byte {piece.offset}"
            streams.complain(f"the log is incomplete: {where}: {size} missing")
            if not self._as_json:
                return
        if self._as_json or isinstance(piece, LogGap):
            data = json.dumps(to_json(view_of(piece))).encode() + b"\n"
        else:
            piece = replace(piece, data=self._lines(piece))
            data = piece.data
        self._write(data if self._filters is None or isinstance(piece, LogGap) else self._filtered(piece))
        self.empty, self.fresh = False, not data or data.endswith(b"\n")

    def rest(self) -> None:
        """Reset the terminal's colours before text that is not the job's."""
        if self._last and (colours := self._last.rest()):
            self._write(colours.encode())

    def end(self) -> None:
        for (attempt, rank, stream), line in (self._unfinished or {}).items():
            if line:
                self.put(LogPiece(attempt, stream, 0, b"\n", rank))
        for each in (self._filters or {}).values():
            self._write(self._encoded(each.end()))

    def _filtered(self, piece: LogPiece) -> bytes:
        assert self._filters is not None
        filter = self._filters.setdefault((piece.attempt, piece.rank, piece.stream), Filter())
        if filter is not self._last:
            self.rest()
        self._last = filter
        return self._encoded(filter.put(piece.data))

    def _lines(self, piece: LogPiece) -> bytes:
        """Return the piece's data, or the lines that it completes, each after the number of its rank."""
        if self._unfinished is None:
            return piece.data
        key = piece.attempt, piece.rank, piece.stream
        lines = (self._unfinished.get(key, b"") + piece.data).split(b"\n")
        self._unfinished[key] = lines.pop()
        return b"".join(b"[%d] %s\n" % (piece.rank, line) for line in lines)

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._to.encoding, "replace")

    def _write(self, data: bytes) -> None:
        with streams.writing() if self._to is sys.stdout else contextlib.suppress(OSError):
            self._to.buffer.write(data)
            self._to.buffer.flush()


def show(
    service: Control,
    run: str,
    query: LogQuery,
    *,
    as_json: bool = False,
    raw: bool = False,
) -> None:
    """Print the log as far as it is written now."""
    printer = Printer(
        sys.stdout, as_json=as_json, raw=raw, several=query.rank is None and service.runs.get(run).scale > 1
    )
    try:
        for piece in service.logs.read(run, query):
            printer.put(piece)
    finally:
        printer.end()
    if printer.empty:
        found = service.runs.get(run)
        names = " or ".join(query.streams)
        streams.say(f"{names} is empty; the run is {screen.phase(found, service.operator.now())}")


def show_command(service: Control, run: str, index: int, *, raw: bool = False) -> None:
    """Print the output of one command of a list."""
    printer = Printer(sys.stdout, raw=raw)
    try:
        for data in service.commands.output(run, index):
            printer.put(LogPiece(1, "output", 0, data))
    finally:
        printer.end()


def show_failed(service: Control, run: str, *, raw: bool = False) -> None:
    """Print the outputs of the failed commands of a list, each after a line with its number and exit code."""
    which = CommandFilter((CommandState.FAILED, CommandState.LOST))
    found = False
    for each in every(service.commands, run, which):
        found = True
        why = f" ({each.why})" if each.why else ""
        how = "lost with its machine" if each.exit_code is None else f"exit code {each.exit_code}{why}"
        printer = Printer(sys.stdout, raw=raw)
        printer.put(LogPiece(1, "output", 0, f"== command {each.index}: {how}\n".encode()))
        try:
            if each.output_bytes != 0:
                for data in service.commands.output(run, each.index):
                    printer.put(LogPiece(1, "output", 0, data))
        except Conflict:
            pass  # No try of a lost command has ended.
        except NotFound as error:
            printer.rest()
            streams.complain(str(error))
        finally:
            # The next command's line begins a line, although this output may not end one.
            if not printer.fresh:
                printer.put(LogPiece(1, "output", 0, b"\n"))
            printer.end()
    if not found:
        streams.say("no command has failed")


def follow(
    service: Control,
    run: str,
    query: LogQuery = DEFAULT,
    *,
    as_json: bool = False,
    aside: bool = False,
    direct: bool = False,
    raw: bool = False,
) -> None:
    """Print the log while it is written, and what the run is doing while no log arrives.

    `aside` prints on standard error, because standard output is for other data; `direct` reads from the machine.
    """
    scale = service.runs.get(run).scale
    if query.rank is None and scale > MERGED_MOST:
        streams.say(f"the log of rank 0 of {scale}; `provision logs {run[:12]} --rank N` prints another one")
        query = replace(query, rank=0)
    several = query.rank is None and scale > 1
    printer = Printer(sys.stderr if aside else sys.stdout, as_json=as_json, raw=raw, several=several)
    line = LiveLine(service)

    def looked(errors: Sequence[str]) -> None:
        printer.rest()
        line.tell(errors)
        found = service.runs.get(run)
        # The live line must not overwrite an unfinished line of the job's output.
        if printer.fresh and found.ended_at is None:
            line.show([found])

    try:
        for piece in service.logs.follow(run, query, looked, direct=direct):
            line.clear()
            printer.put(piece)
    finally:
        printer.end()
    line.clear()
    if not printer.fresh and sys.stderr.isatty():
        streams.say("")
