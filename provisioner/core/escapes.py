"""Show a job's output without its escape sequences, except colours, on a terminal or a page.

A terminal executes the escape sequences in a job's output: OSC 52 writes the user's clipboard, OSC 0 sets the title,
DCS and some CSI sequences make the terminal send input as if typed. Only colours (SGR) pass, and each is rewritten
from its decoded form, so no other part of a sequence reaches the terminal. Sequences are those of ECMA-48 and xterm's
ctlseqs.
"""

import codecs
import re

#: Control characters that pass unchanged: progress bars need the first three.
KEPT = "\r\t\b\n"
#: Characters that follow ESC and begin a CSI or a string sequence; and the single C1 characters with the same meaning.
CSI, STRINGS = "[", "]PX^_"
C1 = {"\x9b": CSI, "\x9d": "]", "\x90": "P", "\x98": "X", "\x9e": "^", "\x9f": "_"}
#: Maximum number of characters of a sequence; a longer one is treated as text. OSC 8 links have some hundreds.
LONGEST_CSI, LONGEST_STRING = 64, 4096
#: Characters that change the order in which text is shown (Unicode, UAX #9: embeddings, overrides and isolates).
ORDER = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: Replaces a character of ORDER.
REPLACEMENT = "\ufffd"
RESET = "\x1b[0m"

_GROUND = re.compile(rf"[^\x00-\x1f\x7f-\x9f{ORDER}]+|[{KEPT}]+")
_COLOUR = re.compile(r"[0-9;:]*m")


class Filter:
    """Filter for one stream that comes in pieces; a sequence or character may be split between two pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: The current sequence: its kind ("" for none, ESC, "[" or one of STRINGS), and the characters after that.
        self._kind, self._begun = "", ""
        self._coloured = False

    def put(self, data: bytes) -> str:
        return self.text(self._decoder.decode(data))

    def rest(self) -> str:
        """Return the reset of colours, if one is needed before other text is written, else ""."""
        coloured, self._coloured = self._coloured, False
        return RESET if coloured else ""

    def end(self) -> str:
        """Return the remaining text at the end of the stream, and a reset of colours if needed."""
        return self.text(self._decoder.decode(b"", final=True)) + self.rest()

    def text(self, text: str) -> str:
        """Return the next piece of the stream, which is text already."""
        shown: list[str] = []
        at = 0
        while at < len(text):
            if not self._kind:
                if run := _GROUND.match(text, at):
                    shown.append(run.group())
                    at = run.end()
                    continue
                if text[at] == "\x1b" or text[at] in C1:
                    self._kind, self._begun = C1.get(text[at], "\x1b"), ""
                elif text[at] in ORDER:
                    shown.append(REPLACEMENT)
                at += 1
            elif self._step(text[at], shown):
                at += 1
        return "".join(shown)

    def _step(self, char: str, shown: list[str]) -> bool:
        """Add one character to the sequence; return False if the sequence has ended before this character."""
        if self._kind == "\x1b":
            return self._escape(char)
        if self._kind == CSI:
            return self._control(char, shown)
        # A string sequence ends at BEL, ST or a line feed, so that an unterminated one does not hide the log.
        # ESC begins ST or another sequence.
        if char in "\n\x1b" or char in C1:
            self._kind = ""
            return False
        if char in "\x07\x9c\x18\x1a":
            self._kind = ""
        elif len(self._begun) >= LONGEST_STRING:
            shown.append(self._visible())
            self._kind = ""
            return False
        else:
            self._begun += char
        return True

    def _escape(self, char: str) -> bool:
        if char == CSI or char in STRINGS:
            self._kind, self._begun = char, ""
            return True
        if " " <= char <= "/" and len(self._begun) < LONGEST_CSI:
            self._begun += char
            return True
        self._kind = ""
        return "0" <= char <= "~"

    def _control(self, char: str, shown: list[str]) -> bool:
        if not " " <= char <= "~" or len(self._begun) >= LONGEST_CSI:
            self._kind = ""
            return False
        self._begun += char
        if char >= "@":
            if _COLOUR.fullmatch(self._begun):
                shown.append(f"\x1b[{self._begun}")
                self._coloured = self._begun not in ("m", "0m")
            self._kind = ""
        return True

    def _visible(self) -> str:
        return "".join(_GROUND.findall(self._begun))


def shown(data: bytes) -> str:
    """Return complete data as text for a terminal."""
    filter = Filter()
    return filter.put(data) + filter.end()
