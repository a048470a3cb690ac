"""Find the error messages that a POSIX shell prints when its script is written for bash.

Such a script often continues, with the wrong result and exit code 0. Under dash, `source activate env` only adds an
error line to the log, and the program then runs in the wrong environment. The messages are those of dash 0.5.12
(Debian's sh) and of BusyBox 1.35's ash.
"""

from __future__ import annotations

import re

#: Bytes that are searched: the first FIRST and the last LAST bytes of a stream.
FIRST, LAST = 1 << 20, 1 << 16

#: Only the groups of these expressions are shown, because the rest of a message may be the job's own text.
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
    """Searches one stream for error messages of the shell that runs a script; `name` is the `$0` in these messages."""

    def __init__(self, name: bytes) -> None:
        self._message = re.compile(
            rb"^(?:[^\n:]*/)?%s: (?:(?:line )?[0-9]+: )?(?:%s)" % (re.escape(name), b"|".join(_MESSAGES)), re.MULTILINE
        )
        self._first = bytearray()
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Keep the bytes that `found` searches."""
        room = FIRST - len(self._first)
        if room > 0:
            self._first += data[:room]
            data = data[room:]
        if data:
            self._last = (self._last + data[-LAST:])[-LAST:]

    def found(self) -> str:
        """Return the shell's first message about bash syntax, without the job's own text; empty if there is none."""
        # If bytes in the middle were dropped, the two cut lines are read as one line, which matches no message.
        found = self._message.search(bytes(self._first) + self._last)
        return b"".join(group for group in found.groups() if group).decode() if found else ""
