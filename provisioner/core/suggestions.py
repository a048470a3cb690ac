"""Suggest a known name for a misspelt one."""

import difflib
from collections.abc import Iterable

#: Least similarity of a suggestion (difflib, 0 to 1): a wrong suggestion is worse than none.
ALIKE = 0.6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known name that is most like `name`, or "" if none is like it."""
    found = difflib.get_close_matches(name, list(known), 1, ALIKE)
    return f"; did you mean {found[0]}?" if found else ""
