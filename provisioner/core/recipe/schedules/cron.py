"""Error messages for invalid cron fields: which field, its value, and which values are allowed.

cronsim decides whether a schedule is valid; this module explains why it is not. The grammar is that of crontab(5),
plus `L`, `LW`, `5L` and `FRI#2` (cronsim, "Supported Syntax").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cronsim.cronsim import Field as Months

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
#: Days of each month in a leap year.
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
#: Maximum number of characters of a field's text that a message shows.
_SHOWN = 20


@dataclass(frozen=True)
class Field:
    """One of the five cron fields, and the values that it allows."""

    name: str
    least: int
    most: int
    #: Number of different values. The weekdays have 7, although both 0 and 7 are Sunday.
    size: int
    names: tuple[str, ...] = ()
    #: The unit in `@every` that replaces a step of this field; empty if `@every` has no such unit.
    unit: str = ""
    #: The end of an error message: further allowed values, beside numbers, lists, ranges and steps.
    special: str = ""

    def number(self, text: str) -> int | None:
        """Return the number that a text such as `5` or `FRI` stands for, or None if it is not allowed."""
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.least
        value = int(text) if re.fullmatch("[0-9]{1,4}", text) else None
        return value if value is not None and self.least <= value <= self.most else None

    @property
    def allowed(self) -> str:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"write {self.least} to {self.most}{names}, a list 1,5, a range 1-5, * or */5{self.special}"


FIELDS = (
    Field("the minute", 0, 59, 60, unit="m"),
    Field("the hour", 0, 23, 24, unit="h"),
    Field("the day of the month", 1, 31, 31, unit="d", special=", L for the last day, or LW for the last workday"),
    Field("the month", 1, 12, 12, _MONTHS),
    Field("the day of the week", 0, 7, 7, _DAYS, unit="d", special=", 5L for the last Friday, or FRI#2 for the second"),
)


def wrong(fields: str) -> str:
    """Return the first problem of five fields that cronsim rejects: a value, or a date that never comes."""
    words = fields.split(" ")
    for field, text in zip(FIELDS, words, strict=True):
        for term in text.split(","):
            if problem := _wrong_term(field, term):
                return f"{field.name} is {text[:_SHOWN]!r}: {problem}"
    return _never(words[2], words[3])


def overstepped(fields: str) -> str:
    """Return an error message, with a correction, for a step that exceeds its field or range; empty if no step does."""
    for field, text in zip(FIELDS, fields.split(" "), strict=True):
        for term in text.split(","):
            base, _, step = term.partition("/")
            size = _size(field, base)
            if step.isdecimal() and int(step) > size:
                every = f"@every {int(step)}{field.unit}, or " if field.unit else ""
                return (
                    f"{field.name} is {text[:_SHOWN]!r}: a step of {int(step)} exceeds its {size} values; "
                    f"write {every}a step of at most {size}"
                )
    return ""


def _size(field: Field, base: str) -> int:
    """Return the longest allowed step: the number of values in the range, or in the field if `base` is no range."""
    first, _, last = base.partition("-")
    low, high = field.number(first), field.number(last)
    return field.size if low is None or high is None else high - low + 1


def _wrong_term(field: Field, term: str) -> str:
    """Return the problem of one element of a field's list, or ""."""
    base, slash, step = term.partition("/")
    if slash and not (re.fullmatch("[0-9]{1,4}", step) and int(step)):
        return "a step must be a whole number, 1 or more, as in */15"
    if base in ("*", "?") or _is_special(field, base):
        return ""
    first, dash, last = base.partition("-")
    numbers = [(each, field.number(each)) for each in ((first, last) if dash else (first,))]
    for text, number in numbers:
        if number is None:
            return _wrong_value(field, text)
    (_, low), (_, high) = numbers[0], numbers[-1]
    if low is not None and high is not None and low > high:
        return f"a range must begin with the smaller value; write {','.join(_wrapped(field, first, last, low, high))}"
    return ""


def _is_special(field: Field, base: str) -> bool:
    if field is FIELDS[2]:
        return base.upper() in ("L", "LW")
    return field is FIELDS[4] and bool(re.fullmatch("[0-7]L|([0-7]|[A-Z]{3})#[1-5]", base.upper()))


def _wrong_value(field: Field, text: str) -> str:
    short = next((name for name in field.names if text.isalpha() and text.upper().startswith(name)), "")
    if short:
        return f"names have three letters; write {short}"
    if field is FIELDS[2] and re.fullmatch("[0-9]{1,2}W", text.upper()):
        return f"the nearest workday (W) is not supported; {field.allowed}"
    return f"{text[:_SHOWN]!r} is not an allowed value; {field.allowed}"


def _wrapped(field: Field, first: str, last: str, low: int, high: int) -> Iterator[str]:
    """Yield two ranges that replace a range that wraps around, such as `22-2`; with names if both ends are names."""
    named = first.upper() in field.names and last.upper() in field.names
    bottom, top = field.least, field.least + field.size - 1

    def shown(number: int) -> str:
        return field.names[number - field.least] if named else str(number)

    yield f"{shown(low)}-{shown(top)}" if low < top else shown(low)
    yield f"{shown(bottom)}-{shown(high)}" if bottom < high else shown(high)


def _never(days: str, months: str) -> str:
    """Return the message for a day that none of the given months has. Each of the two fields is valid alone."""
    known = {each for each in Months.MONTH.parse(months.upper()) if isinstance(each, int)}
    longest = max(_LENGTHS[month - 1] for month in known)
    return (
        f"the day of the month is {days[:_SHOWN]!r}: the month {months[:_SHOWN]!r} has no such day; "
        f"write 1 to {longest}"
    )
