"""Sizes as a recipe writes them: `512Mi`, `200Gi`, `2Ti`."""

import re

PATTERN = r"[1-9][0-9]{0,5}[MGT]i"
_UNITS = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20}


def in_bytes(text: str) -> int:
    """The size in bytes; raises ValueError that says how one is written."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("write a size as 512Mi, 200Gi or 2Ti")
    return int(text[:-2]) * _UNITS[text[-2]]


def text(size: int) -> str:
    """The shortest exact writing of whole MiB."""
    unit = next(unit for unit, one in _UNITS.items() if size % one == 0)
    return f"{size // _UNITS[unit]}{unit}i"
