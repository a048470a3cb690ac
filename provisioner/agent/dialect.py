"""Finds the messages by which a POSIX shell says that its script is written for bash.

Such a script often goes on, with the wrong result and exit code 0: `source activate env` under dash is one line in
the log, and the program then runs in another environment. The messages are those of dash 0.5.12 (Debian's sh) and of
BusyBox 1.35's ash.
"""

from __future__ import annotations

import re

#: Bytes of a stream that are looked at: its first ones and its last ones.
FIRST, LAST = 1 << 20, 1 << 16

#: What is shown of a message: the groups. The rest may be words of the job.
_MESSAGES = (
    rb"((?:source|\[\[|declare|typeset|shopt|pushd|popd|dirs|function|let|mapfile|readarray|disown): not found)",
    rb"([Ss]yntax error: (?:\"\(\" unexpected|unexpected \"\(\"))",
    rb"([Ss]yntax error: (?:redirection unexpected|unexpected redirection|[Bb]ad for loop variable))",
    rb"((?:[Ss]yntax error: )?[Bb]ad substitution)",
    rb"((?:set|read|printf): (?:line [0-9]+: )?[Ii]llegal option -\w(?: pipefail)?)",
    rb"(\[: ).{0,200}(unexpected operator)",
    rb"\w+(\[)[^\]\n]{0,200}(\]=).{0,200}(: not found)",
)


class Dialect:
    """Watches one stream for messages of the shell that has run a script as `name`, the `$0` of its messages."""

    def __init__(self, name: bytes) -> None:
        self._message = re.compile(
            rb"^(?:[^\n:]*/)?%s: (?:(?:line )?[0-9]+: )?(?:%s)" % (re.escape(name), b"|".join(_MESSAGES)), re.MULTILINE
        )
        self._first = bytearray()
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Keep what is looked at later."""
        room = FIRST - len(self._first)
        if room > 0:
            self._first += data[:room]
            data = data[room:]
        if data:
            self._last = (self._last + data[-LAST:])[-LAST:]

    def found(self) -> str:
        """Return the first such message, without the job's own words; empty where there is none."""
        # Where bytes between the two were left out, a line that they share is read as one; it fits no message.
        found = self._message.search(bytes(self._first) + self._last)
        return b"".join(group for group in found.groups() if group).decode() if found else ""
