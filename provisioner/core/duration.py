"""Durations as a recipe writes them: `90s`, `10m`, `24h`, `7d`."""

import re

PATTERN = r"[1-9][0-9]{0,8}[smhd]"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> float:
    """The duration in seconds; raises ValueError that says how one is written."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("write a duration as 90s, 10m, 24h or 7d")
    return float(int(text[:-1]) * _UNITS[text[-1]])


def text(duration: float) -> str:
    """The shortest exact writing of whole seconds; hours rather than days, as in the defaults."""
    unit = next(unit for unit in "hms" if duration % _UNITS[unit] == 0)
    return f"{duration / _UNITS[unit]:.0f}{unit}"
