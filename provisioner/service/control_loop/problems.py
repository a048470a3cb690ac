"""Log each error of the passes: when it first occurs, every ten minutes while it lasts, and when it is over."""

import math
import traceback
from collections.abc import Sequence

from provisioner.core.errors import CloudError, ProvisionError
from provisioner.service.control_loop.one_pass import PassError
from provisioner.service.installation import Installation

#: Identifies an error: its run, launch and instance id, and its text.
_Key = tuple[str, str, str, str]
#: Seconds after which an error that still lasts is logged again.
AGAIN = 600.0
_FIELDS = ("run", "launch", "instance")


class Troubles:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: By error, the number of consecutive passes that had it, and the monotonic time at which it was last logged.
        self._standing: dict[_Key, tuple[int, float]] = {}

    def met(self, troubles: Sequence[PassError]) -> None:
        """Log the errors of a pass that are due, and the end of each error that lasted for several passes before it."""
        journal, clock = self._installation.journal, self._installation.clock
        now, elapsed = clock.now(), clock.elapsed()
        seen = {(each.run, each.launch, each.instance_id, words(each.error)): each for each in troubles}
        for key, (passes, _) in self._standing.items():
            if key not in seen and passes > 1:
                journal.tell(f"resolved after {passes} passes: {key[-1]}", now, **dict(zip(_FIELDS, key, strict=False)))
        standing = {}
        for key, trouble in seen.items():
            passes, told_at = self._standing.get(key, (0, -math.inf))
            if elapsed >= told_at + AGAIN:
                still = f"still failing after {passes} passes: " if passes else ""
                about = dict(zip(_FIELDS, key, strict=False))
                journal.complain(still + key[-1], now, **about, **_detail(trouble.error))
                told_at = elapsed
            standing[key] = passes + 1, told_at
        self._standing = standing


def words(error: Exception) -> str:
    return str(error) if isinstance(error, ProvisionError) else f"internal error: {error!r}"


def line(trouble: PassError) -> str:
    """Return one line with the error, and the run or machine that it concerns."""
    whose = f"run {trouble.run[:12]}" if trouble.run else trouble.instance_id
    return f"{whose}: {words(trouble.error)}" if whose else words(trouble.error)


def _detail(error: Exception) -> dict[str, str]:
    if isinstance(error, CloudError):
        return {"code": error.code}
    if isinstance(error, ProvisionError):
        return {}
    # Any other error is a bug of ours: log where it was raised.
    return {"traceback": "".join(traceback.format_exception(error))}
