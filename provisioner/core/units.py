"""Durations, ages and sizes as text, the same on a terminal and on the page."""

from provisioner.core.dates import LAST


def ago(at: float, now: float) -> str:
    """Return the time since a Unix time: `3 min 5 s ago`."""
    return f"{duration(now - at)} ago"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 12 s, 3 min 5 s, 2 h 10 min, 5 d 3 h."""
    # NaN is shown as 0 s.
    whole = round(min(seconds, LAST)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def short(seconds: float) -> str:
    """Return a duration in at most six characters: 12s, 3m05s, 2h10m, 5d3h."""
    # NaN is shown as 0s.
    whole = round(min(seconds, LAST)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def size(count: int) -> str:
    """Return a number of bytes in decimal units: 0 B, 999 B, 1.2 kB, 34 MB."""
    scaled, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.1f} {unit}" if unit != "B" and scaled < 10 else f"{scaled:.0f} {unit}"
