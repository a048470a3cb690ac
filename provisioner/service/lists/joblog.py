"""The job log of a list as CSV (RFC 4180): the columns of GNU parallel's --joblog (parallel(1)), then two more."""

import csv
import io

from provisioner.core.protocol.command_lines import CommandEnd

_COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command", "Try", "Why")


def row(index: int, host: str, end: CommandEnd | None, text: str, tries: int, why: str) -> bytes:
    """Return the line of an ended command; `end` is None if no record says how it ended.

    `Seq` is the index plus 1, as in GNU parallel; `Receive` is the number of bytes of output. `tries` is the number of
    the command's last try, and `why` the reason for its end.
    """
    if end is None:
        return _line(index + 1, host, "", "", 0, 0, -1, 0, text, tries, why)
    signal = end.code - 128 if end.code > 128 else 0
    received = sum(length for _, _, length in end.extents)
    return _line(
        index + 1, host, f"{end.began:.3f}", f"{end.took:.3f}", 0, received, end.code, signal, text, tries, why
    )


def _line(*cells: object) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


HEADER = _line(*_COLUMNS)
