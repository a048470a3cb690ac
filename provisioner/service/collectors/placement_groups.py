"""Delete placement groups that no launch and no machine needs, after a crash at any step too.

A launch that makes a group is noted in the store before it is stored itself. While a noted launch needs its group, no
call is made. When it no longer does, the groups are listed by the installation's tag, and the spare ones are deleted.
An installation without such launches makes no call.
"""

import math
from collections.abc import Callable, Iterable

from provisioner.core.cloud.machines import Machine
from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.errors import CloudError, Misconfigured
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.run import placement_groups
from provisioner.core.run.placement_groups import ExpectedGroups
from provisioner.core.run.records import Launch, Live
from provisioner.service.installation import Installation

#: Key of the stored ExpectedGroups.
KEY = "placement groups"
#: Seconds until the next try if a group could not be deleted: its machines may take minutes to shut down.
AGAIN = 60.0


def expect(installation: Installation, launches: Iterable[Launch]) -> None:
    """Note the launches that make groups, for use before the launches are stored."""
    makers = [launch.id for launch in launches if launch.request.placement_group]
    if makers:
        expected = _expected(installation) or ExpectedGroups(listed_at=installation.clock.now())
        _note(installation, expected.with_launches(makers))


def expect_any(installation: Installation) -> None:
    """Let the next pass list the groups: this store may lack launches that made some."""
    known = _expected(installation) or ExpectedGroups()
    _note(installation, ExpectedGroups(known.launches))


class GroupCollector:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Monotonic time before which there is no other try.
        self._next_at = -math.inf

    def collect(self, read: Callable[[], Live], foreign: Iterable[Machine]) -> None:
        """Delete the spare groups. Raises CloudError, after all spare groups were tried.

        `read` returns the unfinished records; `foreign` are the machines whose launch is not in this store.
        """
        installation = self._installation
        elapsed, now = installation.clock.elapsed(), installation.now()
        expected = _expected(installation) if elapsed >= self._next_at else None
        if expected is None:
            return
        needed = placement_groups.needed(read(), foreign)
        if not expected.are_due(needed, now):
            return
        self._next_at = elapsed + AGAIN
        try:
            listed = installation.cloud.placement_groups()
        except Misconfigured:
            if expected.launches:
                raise
            # A role that may not list groups has made none: its policy is older than placement groups.
            listed = ()
        kept, errors = self._delete(placement_groups.spare(listed, needed))
        _note(installation, expected.after_listing(listed, needed, now))
        if errors:
            raise errors[0]
        if not kept:
            self._next_at = -math.inf

    def _delete(self, groups: Iterable[PlacementGroup]) -> tuple[int, list[CloudError]]:
        """Return how many groups still have machines, and the errors of the others that could not be deleted."""
        kept, errors = 0, list[CloudError]()
        for group in groups:
            try:
                kept += not self._installation.cloud.delete_placement_group(group.name)
            except CloudError as error:
                errors.append(error)
        return kept, errors


def _expected(installation: Installation) -> ExpectedGroups | None:
    noted = installation.store.remembered(KEY)
    return decode(ExpectedGroups, noted[0].encode()) if noted else None


def _note(installation: Installation, expected: ExpectedGroups) -> None:
    installation.store.remember(KEY, encode(expected).decode(), installation.clock.now())
