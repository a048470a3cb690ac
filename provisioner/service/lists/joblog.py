"""The job log of a list, with the columns of GNU parallel's --joblog (parallel(1)), as CSV (RFC 4180)."""

import csv
import io

from provisioner.core.protocol.command_lines import CommandEnd

_COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")


def row(index: int, host: str, end: CommandEnd | None, text: str) -> bytes:
    """Return the line of an ended command; `end` is None if no record says how it ended.

    `Seq` is the index plus 1, as in GNU parallel; `Receive` is the number of bytes of output.
    """
    if end is None:
        return _line(index + 1, host, "", "", 0, 0, -1, 0, text)
    signal = end.code - 128 if end.code > 128 else 0
    received = sum(length for _, _, length in end.extents)
    return _line(index + 1, host, f"{end.began:.3f}", f"{end.took:.3f}", 0, received, end.code, signal, text)


def _line(*cells: object) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


HEADER = _line(*_COLUMNS)
