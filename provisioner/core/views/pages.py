"""Say where a page of runs or of changes ended, so that the next page begins there."""

import re

from provisioner.core.errors import Invalid


def key_of(at: float, id: str) -> str:
    """Return the place of a record in a listing by time, as text for `key_in`.

    Time and id are the record's: a view's times are rounded, so a page that began at one would repeat or skip records.
    """
    return f"{at!r}_{id}"


def key_in(text: str | None) -> tuple[float, str] | None:
    """Return the place that `key_of` wrote, or None for no text; raises Invalid for other text."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)_([0-9a-f]{1,64})", text, re.ASCII)
    if not found:
        raise Invalid("cursor: found something else; write the next_key of the page before")
    return float(found[1]), found[2]
