"""Delete launch templates that no launch has used for a week.

The use of a template is noted in the store before its launch is stored, at most once a day. The templates with the
installation's tag are listed once a day. If one is deleted too early, for instance because the store was restored, the
next launch makes it again.
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from provisioner.core.cloud.launch_templates import Uses
from provisioner.core.errors import Misconfigured
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.run.records import Launch, Live
from provisioner.service.installation import Installation

#: Key of the stored Uses.
KEY = "launch templates"
#: Seconds between two listings.
EVERY = 86400.0


def note(installation: Installation, launches: Iterable[Launch]) -> None:
    """Note that these launches use their templates, before they are stored."""
    names, now = {launch.request.template.name for launch in launches}, installation.clock.now()
    if names:
        known = _uses(installation) or Uses(listed_at=now)
        if (after := known.after(names, now)) is not known:
            _remember(installation, after)


class TemplateCollector:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Monotonic time before which the templates are not listed.
        self._next_at = -math.inf

    def collect(self, live: Callable[[], Live]) -> None:
        """Delete the spare templates, once a day, if launches were made. `live` returns the unfinished records.

        Raises CloudError.
        """
        installation, elapsed = self._installation, self._installation.clock.elapsed()
        if elapsed < self._next_at:
            return
        now, uses = installation.now(), _uses(installation)
        since = now - uses.listed_at if uses else 0.0
        # After an error, too, the next try is after EVERY seconds.
        self._next_at = elapsed + EVERY - (since if 0 < since < EVERY else 0.0)
        if uses and not 0 <= since < EVERY:
            self._sweep(uses, live(), now)

    def _sweep(self, uses: Uses, live: Live, now: float) -> None:
        cloud = self._installation.cloud
        needed = {launch.request.template.name for launch in live.launches}
        with contextlib.suppress(Misconfigured):
            # A role with a policy of an earlier version may not list templates. It launches all the same.
            listed = cloud.launch_templates()
            spare = uses.spare(listed, needed, now)
            for name in spare:
                cloud.delete_launch_template(name)
            uses = uses.without(spare)
        _remember(self._installation, replace(uses, listed_at=now))


def _uses(installation: Installation) -> Uses | None:
    found = installation.store.remembered(KEY)
    return decode(Uses, found[0].encode()) if found else None


def _remember(installation: Installation, uses: Uses) -> None:
    installation.store.remember(KEY, encode(uses).decode(), installation.clock.now())
