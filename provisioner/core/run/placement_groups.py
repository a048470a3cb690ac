"""Decide which placement groups are deleted, and when the cloud's groups are listed.

A group is never billed, but a region may have only 500 of them. The cloud refuses to delete a group that has machines,
so a wrong decision costs a call, and no machine.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from provisioner.core.cloud.machines import Machine
from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.run.records import Live

#: Seconds after which the groups are listed even if none is expected to be spare. A process that hung before its launch
#: may have made a group that another process had deleted.
LIST_AGAIN = 24 * 3600.0


@dataclass(frozen=True)
class ExpectedGroups:
    """The launches whose groups may exist; stored before the first call that makes a group."""

    launches: tuple[str, ...] = ()
    #: Unix time of the last listing; 0 to list the groups in the next pass.
    listed_at: float = 0.0

    def with_launches(self, launches: Iterable[str]) -> "ExpectedGroups":
        """Return the groups that are expected once these launches are made too."""
        return ExpectedGroups(_sorted({*self.launches, *launches}), self.listed_at)

    def are_due(self, needed: Collection[str], now: float) -> bool:
        """Return whether the groups should be listed, because one may be spare."""
        return bool({*self.launches} - {*needed}) or not 0 <= now - self.listed_at < LIST_AGAIN

    def after_listing(self, listed: Iterable[PlacementGroup], needed: Collection[str], now: float) -> "ExpectedGroups":
        """Return the groups that are still expected: only a listing proves that a group does not exist.

        The group of an open launch is expected, because it may be made later.
        """
        left = {each.launch for each in listed if each.launch}
        return ExpectedGroups(_sorted(left | ({*self.launches} & {*needed})), now)


def needed(live: Live, foreign: Iterable[Machine]) -> frozenset[str]:
    """Return the launches that need their group: open launches, and launches of machines that have not ended.

    `foreign` are the machines whose launch is not in this store.
    """
    return frozenset(
        (
            *(launch.id for launch in live.launches),
            *(machine.launch for machine in live.machines),
            *(machine.launch for machine in foreign),
        )
    )


def spare(listed: Iterable[PlacementGroup], needed: Collection[str]) -> list[PlacementGroup]:
    """Return the groups to delete; a group without a launch's tag was not made by a launch."""
    return [each for each in listed if each.launch and each.launch not in needed]


def _sorted(launches: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(launches))
