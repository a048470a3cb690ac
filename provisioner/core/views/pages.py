"""Encode the end of a page of runs, audit records or commands as text, so that the next page can begin there."""

import re

from provisioner.core.errors import Invalid


def key_of(at: float, id: str) -> str:
    """Return a record's time and id, which are its position in a listing by time, as text that `key_in` reads.

    Use the time of the record, not of its view: views round times, so the next page would repeat or skip records.
    """
    return f"{at!r}_{id}"


def key_in(text: str | None) -> tuple[float, str] | None:
    """Return the time and id in a text from `key_of`, or None if it is empty; raises Invalid for any other text."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)_([0-9a-f]{1,64})", text, re.ASCII)
    if not found:
        raise Invalid(f"invalid cursor {text[:60]!r}: pass `next_key` of the previous page")
    return float(found[1]), found[2]


def index_in(text: str) -> int:
    """Return the index of a list's command that is the end of a page, or -1 for an empty text; raises Invalid."""
    if not text:
        return -1
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise Invalid(f"invalid cursor {text[:60]!r}: pass `next_key` of the previous page")
    return int(text)
