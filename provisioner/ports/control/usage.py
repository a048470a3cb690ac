"""The contract for usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.views.costs.usage import Usage as View

#: What usage can be grouped by; `tag:NAME` groups by the value of a tag.
DIMENSIONS = ("owner", "group", "user", "job", "instance_type", "market", "use", "day", "month")
TAG = "tag:"
#: Maximum number of days of a period, and of dimensions.
DAYS, MOST = 3660, 4


@dataclass(frozen=True)
class UsageQuery:
    """A query for usage: the period, the dimensions to group by, and the owners."""

    by: tuple[str, ...] = ("owner",)
    #: UTC days as YYYY-MM-DD, or months as YYYY-MM. Empty: the first day of the present month, and today.
    first: str = ""
    last: str = ""
    #: Empty: all owners that the caller may see.
    owners: tuple[str, ...] = ()

    def query(self) -> list[tuple[str, str]]:
        """Return the query parameters of `GET /api/usage`."""
        return [
            *(("by", each) for each in self.by),
            *([("from", self.first)] if self.first else []),
            *([("to", self.last)] if self.last else []),
            *(("owner", each) for each in self.owners),
        ]


class Usage(Protocol):
    def read(self, query: UsageQuery) -> View:
        """Return machine-hours and dollars by group: the largest group first; days and months in order.

        The caller gets the usage of its own owners; an admin that of all, and of machines that worked for no run.
        Raises Invalid for an unknown dimension or a wrong period.
        """


def dimensions(text: Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions in words that may contain several, separated by commas."""
    return tuple(part.strip() for word in text for part in word.split(",") if part.strip())
