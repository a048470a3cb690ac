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


def precise(seconds: float) -> str:
    """Return a duration with tenths of a second if it is shorter than a minute: 0.4 s, 12.0 s, 3 min 5 s."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 59.95 else duration(seconds)


def stopwatch(seconds: float) -> str:
    """Return a time since a beginning, as a stopwatch shows it: 0:04, 17:48, 26:02:18."""
    whole = int(min(seconds, LAST)) if seconds > 0 else 0
    hours = f"{whole // 3600}:{whole // 60 % 60:02}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02}"


def rate(per_second: float) -> str:
    """Return how often something happens, in the unit that gives at least one: 12/s, 2.5/min, 0.3/h."""
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            digits = 0 if per_second * seconds >= 10 else 1
            return f"{per_second * seconds:,.{digits}f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


def size(count: int) -> str:
    """Return a number of bytes in decimal units: 0 B, 999 B, 1.2 kB, 34 MB."""
    scaled, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.1f} {unit}" if unit != "B" and scaled < 10 else f"{scaled:.0f} {unit}"
