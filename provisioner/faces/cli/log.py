"""Logs on standard output: bytes as they were written, and what is missing said on standard error."""

import json
import sys
from collections.abc import Sequence
from typing import BinaryIO

from provisioner.faces import shaped
from provisioner.faces.cli import screen
from provisioner.faces.cli.waiting import LiveLine
from provisioner.ports.control import Control, LogGap, LogPiece

#: What a program printed; the system stream is about the machine and is asked for by name.
STREAMS = ("setup", "output")


class Printer:
    """Writes pieces through at once; `as_json` writes each as a line of JSON."""

    def __init__(self, to: BinaryIO, *, as_json: bool = False) -> None:
        self._to = to
        self._as_json = as_json
        self.empty = True
        #: The last byte ended a line: something else may be written.
        self.fresh = True

    def put(self, piece: LogPiece | LogGap) -> None:
        if isinstance(piece, LogGap):
            size = f"at least {piece.at_least} bytes" if piece.at_least is not None else "nobody knows how much"
            where = f"attempt {piece.attempt}, {piece.stream}, from byte {piece.offset}"
            screen.complain(f"the log is incomplete: {where}: {size} missing")
            if not self._as_json:
                return
        data = (
            json.dumps(shaped.log(piece)).encode() + b"\n" if self._as_json or isinstance(piece, LogGap) else piece.data
        )
        self._to.write(data)
        self._to.flush()
        self.empty, self.fresh = False, data.endswith(b"\n")


def show(
    service: Control,
    run: str,
    streams: Sequence[str],
    attempt: int | None,
    tail: int | None,
    *,
    as_json: bool = False,
) -> None:
    """Print what is there now."""
    printer = Printer(sys.stdout.buffer, as_json=as_json)
    for piece in service.log(run, streams, attempt, tail):
        printer.put(piece)
    if printer.empty:
        found = service.run(run)
        screen.say(f"nothing was written to {' or '.join(streams)}; the run is {screen.phase(found, service.now())}")


def follow(
    service: Control,
    run: str,
    streams: Sequence[str] = STREAMS,
    attempt: int | None = None,
    tail: int | None = None,
    *,
    as_json: bool = False,
    aside: bool = False,
    direct: bool = False,
) -> None:
    """Print the log as it comes, and what the run is doing while nothing comes.

    `aside` prints it on standard error, because standard output is for something else; `direct` asks the machine.
    """
    printer = Printer((sys.stderr if aside else sys.stdout).buffer, as_json=as_json)
    line = LiveLine(service)

    def looked(errors: Sequence[str]) -> None:
        line.tell(errors)
        found = service.run(run)
        # An unfinished line of the job's is not written over.
        if printer.fresh and found.ended_at is None:
            line.show([found])

    for piece in service.follow(run, streams, attempt, tail, looked, direct):
        line.clear()
        printer.put(piece)
    line.clear()
    if not printer.fresh and sys.stderr.isatty():
        screen.say("")
