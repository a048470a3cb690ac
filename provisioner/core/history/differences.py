"""Compare two revisions of a recipe line by line."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Maximum number of changed lines of each side that are matched with each other: the time grows with their product.
MATCHED = 2000
#: Maximum number of lines of a difference, and of characters of a line.
SHOWN = 1000
WIDEST = 500
#: Number of unchanged lines around a change.
CONTEXT = 3


class Change(StrEnum):
    KEPT = "kept"
    ADDED = "added"
    REMOVED = "removed"
    #: Stands for lines that are left out.
    OMITTED = "omitted"


@dataclass(frozen=True)
class Line:
    """One line of a difference; for OMITTED, the text is the number of lines that are left out."""

    change: Change
    text: str
    #: The line's number in the old and in the new text; None if the text does not have it.
    old: int | None = None
    new: int | None = None


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sorted dotted names of the fields in which two specs differ: names are not private, values may be."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of each field that is no mapping."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{path}.{name}" if path else str(name))


def differences(old: str, new: str) -> tuple[Line, ...]:
    """Return the changed lines with CONTEXT lines around each change; nothing if the texts have equal lines."""
    before, after = old.splitlines(), new.splitlines()
    if before == after:
        return ()
    found = list[Line]()
    every = list(_lines(before, after))
    near = set[int]()
    for at, line in enumerate(every):
        if line.change is not Change.KEPT:
            near.update(range(at - CONTEXT, at + CONTEXT + 1))
    left_out = 0
    for at, line in enumerate(every):
        if at not in near or len(found) >= SHOWN:
            left_out += 1
            continue
        if left_out:
            found.append(_omitted(left_out))
            left_out = 0
        found.append(line)
    return (*found, *([_omitted(left_out)] if left_out else ()))


def _omitted(count: int) -> Line:
    return Line(Change.OMITTED, str(count))


def _lines(before: Sequence[str], after: Sequence[str]) -> Iterator[Line]:
    """Yield all lines of both texts in order."""
    head = _shared(before, after)
    tail = _shared(before[head:][::-1], after[head:][::-1])
    middle = before[head : len(before) - tail], after[head : len(after) - tail]
    yield from (_kept(before[at], at, at) for at in range(head))
    if max(map(len, middle)) <= MATCHED:
        blocks = difflib.SequenceMatcher(None, *middle).get_opcodes()
    else:
        blocks = [("replace", 0, len(middle[0]), 0, len(middle[1]))]
    for kind, old, old_end, new, new_end in blocks:
        if kind == "equal":
            for offset in range(old_end - old):
                yield _kept(middle[0][old + offset], head + old + offset, head + new + offset)
            continue
        for at in range(old, old_end):
            yield Line(Change.REMOVED, _cut(middle[0][at]), old=head + at + 1)
        for at in range(new, new_end):
            yield Line(Change.ADDED, _cut(middle[1][at]), new=head + at + 1)
    for offset in range(tail, 0, -1):
        yield _kept(before[-offset], len(before) - offset, len(after) - offset)


def _kept(text: str, old: int, new: int) -> Line:
    return Line(Change.KEPT, _cut(text), old + 1, new + 1)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}… ({len(text) - WIDEST} more characters)"


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of equal lines with which both texts begin."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
