"""Launch templates: which of them the installation still uses.

A template's name is a hash of its content, so each new agent, AMI or setting makes new templates, and old ones stay.
AWS allows 5,000 launch templates in a region (EC2 User Guide, "Amazon EC2 launch templates").
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

#: Seconds for which a template that no launch uses is kept.
KEPT = 7 * 86400.0
#: Seconds after which the use of a template is noted again.
NOTE_AGAIN = 86400.0


@dataclass(frozen=True)
class LaunchTemplate:
    """A launch template as the cloud describes it; the time is in Unix seconds."""

    name: str
    created_at: float


@dataclass(frozen=True)
class Uses:
    """When launches last used templates, and when the templates were last listed, in Unix seconds."""

    at: Mapping[str, float] = field(default_factory=dict)
    listed_at: float = 0.0

    def after(self, names: Iterable[str], now: float) -> "Uses":
        """Return the uses after launches with these templates; the same object if nothing needs to be noted."""
        new = {name: now for name in names if now >= self.at.get(name, 0.0) + NOTE_AGAIN}
        return replace(self, at={**self.at, **new}) if new else self

    def spare(self, listed: Iterable[LaunchTemplate], needed: Collection[str], now: float) -> list[str]:
        """Return the names of the templates to delete. `needed` are those of open launches."""
        return [
            each.name
            for each in listed
            if each.name not in needed and now >= max(each.created_at, self.at.get(each.name, 0.0)) + KEPT
        ]

    def without(self, names: Collection[str]) -> "Uses":
        """Return the uses without those of templates that were deleted."""
        return replace(self, at={name: at for name, at in self.at.items() if name not in names})
