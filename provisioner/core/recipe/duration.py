"""Parse and format durations: `90s`, `10m`, `24h`, `7d`, `1h30m`, `1.5h`, and whole seconds without a unit."""

import re
from fractions import Fraction

#: Seconds of each unit, the largest first.
_UNITS = {"d": Fraction(86400), "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
#: Each unit at most once, the largest first, with or without a space between two units.
_PARTS = re.compile(" ?".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS))
#: Pattern for a JSON Schema: it accepts all texts that `seconds` accepts, and some more.
PATTERN = rf"\s*([0-9]+|({_NUMBER}[dhms] ?)+)\s*"
_RIGHT = "write a duration as 90s, 10m, 24h, 7d, 1h30m or 1.5h; a whole number alone is seconds"


def seconds(text: str) -> float:
    """Return the duration in whole seconds, more than 0; raises ValueError with the correct form."""
    found = exact(text)
    if found == 0:
        raise ValueError(f"the duration must be more than zero; {_RIGHT}")
    if found.denominator != 1:
        raise ValueError("it is not a whole number of seconds; write whole seconds")
    return float(found)


def exact(text: str) -> Fraction:
    """Return the duration in seconds, which may be 0 or a fraction; raises ValueError with the problem."""
    written = text.strip()
    if re.fullmatch("[0-9]{1,15}", written):
        return Fraction(int(written))
    if re.fullmatch(_NUMBER, written):
        raise ValueError(f"a number with a decimal point needs a unit, such as {written}h; {_RIGHT}")
    if re.fullmatch(rf"-\s*{_NUMBER}\s*[a-z]*", written):
        raise ValueError(f"a duration must not be negative; {_RIGHT}")
    found = _PARTS.fullmatch(written)
    if found and written:
        parts = zip(found.groups(), _UNITS.values(), strict=True)
        return sum((Fraction(part) * unit for part, unit in parts if part), Fraction(0))
    if re.fullmatch(rf"(?:{_NUMBER} ?(?:{'|'.join(_UNITS)}) ?)+", written):
        raise ValueError(f"write each unit once and the largest first, without a space before it; {_RIGHT}")
    raise ValueError(_RIGHT)


def text(duration: float) -> str:
    """Return the shortest exact text for whole seconds; the largest unit is the hour, not the day."""
    unit = next(unit for unit in "hms" if duration % _UNITS[unit] == 0)
    return f"{duration / _UNITS[unit]:.0f}{unit}"
