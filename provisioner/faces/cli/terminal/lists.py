"""Short texts about the progress of a list."""

from collections.abc import Iterator

from provisioner.core.units import rate
from provisioner.core.views.commands import Progress


def progress(item: Progress, now: float) -> str:
    """Return how far a list is, for the status of its run."""
    parts = [f"{_ended(item)}{f' ({counts})' if (counts := ', '.join(_others(item))) else ''}"]
    if item.repeated:
        parts.append(f"{item.repeated:,} repeated")
    if item.slots:
        parts.append(f"{item.running or 0:,} of {item.slots:,} slots in use")
    if item.rate:
        parts.append(rate(item.rate))
    if item.eta is not None and item.open:
        parts.append(f"done in about {_about(item.eta - now)}" if item.eta > now else "almost done")
    return ", ".join(parts)


def brief(item: Progress) -> str:
    """Return how far a list is, in few words."""
    return ", ".join((_ended(item, " commands"), *_others(item)))


def cell(item: Progress) -> str:
    """Return how far a list is, in at most 16 characters if fewer than 10,000 commands have failed."""
    share = f"{100 * (item.total - item.open) // max(1, item.total)} %"
    bad = item.failed + item.lost
    return f"{share}, {bad} failed" if bad else f"running {share}"


def final(item: Progress) -> str:
    """Return how the commands of a list have ended."""
    succeeded = [f"{item.succeeded:,} succeeded"] if item.succeeded else []
    return f"{item.total:,}: {', '.join((*succeeded, *_others(item)))}"


def _ended(item: Progress, noun: str = "") -> str:
    return f"{item.total - item.open:,} of {item.total:,}{noun} ended"


def _others(item: Progress) -> Iterator[str]:
    """Yield the number of commands for each way to end other than success."""
    named = ("failed", item.failed), ("lost", item.lost), ("cancelled", item.cancelled), ("not run", item.not_run)
    for name, count in named:
        if count:
            yield f"{count:,} {name}"


def _about(seconds: float) -> str:
    """Return a duration without seconds, if it is a minute or longer."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 2 * 1440:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
