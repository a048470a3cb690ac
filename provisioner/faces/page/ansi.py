"""Colours of a job's output (SGR: ECMA-48, section 8.3.117) as classes of ansi.css; other sequences are left out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from provisioner.core.escapes import Filter

_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
#: The classes of attributes, and the codes that end them. Concealed text is shown.
_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline"}
_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("inverse",), 29: ("strike",)}
#: The 16 colours of a terminal as (red, green, blue): others are shown as the nearest of them, whose look the page's
#: theme defines, so that every text can be read.
_COLOURS = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255)),
    (255, 255, 255),
)
#: The steps of the 256 colours' cube (xterm, 256colres.h).
_STEPS = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class Span:
    """Text with the same look; `classes` are names of CSS classes, or ""."""

    text: str
    classes: str = ""


@dataclass
class Painter:
    """Makes spans of one line, which may come in several pieces."""

    _filter: Filter = field(default_factory=Filter)
    _look: dict[str, str] = field(default_factory=dict)

    def paint(self, text: str, *, last: bool = False) -> list[Span]:
        """Return the next piece of the line, with symbols for carriage returns and backspaces.

        With `last`, text before the last carriage return is left out, as a terminal overwrites it.
        """
        found: list[Span] = []
        shown, at = self._filter.text(text), 0
        for code in _SGR.finditer(shown, 0, begin := last_state(shown) if last else 0):
            self._change(code[1])
        shown = shown[begin:].rstrip("\r") if last else shown
        for code in _SGR.finditer(shown):
            self._add(found, shown[at : code.start()])
            self._change(code[1])
            at = code.end()
        self._add(found, shown[at:])
        return found

    def _add(self, found: list[Span], text: str) -> None:
        text = text.translate(_SYMBOLS)
        classes = " ".join(f"t-{name}" for name in self._look.values())
        if text and found and found[-1].classes == classes:
            found[-1] = Span(found[-1].text + text, classes)
        elif text:
            found.append(Span(text, classes))

    def _change(self, codes: str) -> None:
        # A colour may be one parameter with colons (ITU-T T.416) or several parameters.
        groups = [[int(part or 0) for part in group.split(":")] for group in (codes or "0").split(";")]
        rest = iter(groups)
        for group in rest:
            code = group[0]
            if code == 0:
                self._look = {}
            elif code == 4 and group[1:] == [0]:
                self._look.pop("underline", None)
            elif code in _ON:
                self._look[_ON[code]] = _ON[code]
            elif code in _OFF:
                for name in _OFF[code]:
                    self._look.pop(name, None)
            elif code in (38, 48):
                self._colour("f" if code == 38 else "b", _number(group[1:], rest))
            elif code in (39, 49):
                self._look.pop("f" if code == 39 else "b", None)
            elif 30 <= code <= 37 or 40 <= code <= 47:
                self._colour("f" if code < 40 else "b", code % 10)
            elif 90 <= code <= 97 or 100 <= code <= 107:
                self._colour("f" if code < 100 else "b", code % 10 + 8)

    def _colour(self, kind: str, number: int | None) -> None:
        if number is not None:
            self._look[kind] = f"{kind}{number}"


#: Control characters that the filter leaves, as symbols (Unicode, "Control Pictures").
_SYMBOLS = str.maketrans({"\r": "\u240d", "\b": "\u2408", "\n": "\u240a"})


def last_state(text: str) -> int:
    """Return where the text after the last carriage return begins: the last state of a progress bar."""
    return text.rfind("\r", 0, len(text.rstrip("\r"))) + 1


def _number(parts: list[int], rest: Iterator[list[int]]) -> int | None:
    """Return which of the 16 colours is nearest to an extended one; None if its parameters are invalid."""
    kind, *values = parts or [next(rest, [0])[0]]
    if kind == 5:
        value = (values or next(rest, [0]))[0]
        return _of_256(value) if value < 256 else None
    if kind == 2:
        # With colons, the colour space comes first and may be left out.
        colour = values[-3:] if values else [next(rest, [0])[0] for _ in range(3)]
        return _nearest(colour) if len(colour) == 3 and max(colour) < 256 else None
    return None


def _of_256(value: int) -> int:
    if value < 16:
        return value
    if value >= 232:
        return _nearest([8 + 10 * (value - 232)] * 3)
    cube = value - 16
    return _nearest([_STEPS[cube // 36], _STEPS[cube // 6 % 6], _STEPS[cube % 6]])


def _nearest(colour: list[int]) -> int:
    def distance(number: int) -> int:
        return sum((one - other) ** 2 for one, other in zip(colour, _COLOURS[number], strict=True))

    return min(range(16), key=distance)
