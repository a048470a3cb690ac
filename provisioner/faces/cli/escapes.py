"""Show a job's bytes on a terminal without letting them steer it.

A terminal that reads a job's output raw obeys it: OSC 52 writes the reader's clipboard, OSC 0 sets the title, DCS and
some CSI sequences make the terminal type an answer. Only colours (SGR) pass. What is written is made anew from what was
understood, so no part of a sequence reaches the terminal. Sequences are those of ECMA-48 and xterm's ctlseqs.
"""

import codecs
import re

#: Passed as they are: progress bars need the first three.
KEPT = "\r\t\b\n"
#: ESC and one of these, and what the same is as one character of C1.
CSI, STRINGS = "[", "]PX^_"
C1 = {"\x9b": CSI, "\x9d": "]", "\x90": "P", "\x98": "X", "\x9e": "^", "\x9f": "_"}
#: Characters that a sequence may have before it is taken for text; OSC 8 links have some hundreds.
LONGEST_CSI, LONGEST_STRING = 64, 4096
#: Characters that change the order in which others are shown (Unicode, UAX #9: embeddings, overrides and isolates).
ORDER = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: Stands for a character that is not shown.
REPLACEMENT = "\ufffd"
RESET = "\x1b[0m"

_GROUND = re.compile(rf"[^\x00-\x1f\x7f-\x9f{ORDER}]+|[{KEPT}]+")
_COLOUR = re.compile(r"[0-9;:]*m")


class Filter:
    """Turn the pieces of one stream into text for a terminal; a sequence or character may be cut between pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: The begun sequence: its kind ("", ESC, "[" or a string's), and its characters after that.
        self._kind, self._begun = "", ""
        self._coloured = False

    def put(self, data: bytes) -> str:
        return self._text(self._decoder.decode(data))

    def rest(self) -> str:
        """Return what is due before other text is written: the terminal's own colours."""
        coloured, self._coloured = self._coloured, False
        return RESET if coloured else ""

    def end(self) -> str:
        """Return what is due at the stream's end."""
        return self._text(self._decoder.decode(b"", final=True)) + self.rest()

    def _text(self, text: str) -> str:
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
        """Take one character of a sequence; False when it does not belong to the sequence, which is over then."""
        if self._kind == "\x1b":
            return self._escape(char)
        if self._kind == CSI:
            return self._control(char, shown)
        # A string: until BEL, ST or, so that a lost end hides no log, a line's end. ESC begins ST or another sequence.
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
    """Return whole data as text for a terminal."""
    filter = Filter()
    return filter.put(data) + filter.end()
