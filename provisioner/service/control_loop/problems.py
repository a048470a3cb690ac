"""Log each error of the passes: when it first occurs, every ten minutes while it lasts, and when it is over.

All errors that need the operator have one cause, so they are one error: a pass without credentials logs one line.
"""

import math
import traceback
from collections.abc import Iterable, Mapping, Sequence

from provisioner.core.errors import CloudError, NeedsOperator, ProvisionError
from provisioner.service.control_loop.one_pass import PassError
from provisioner.service.installation import Installation

#: Identifies an error: its run, launch and instance id, and its text.
_Key = tuple[str, str, str, str]
#: Seconds after which an error that still lasts is logged again.
AGAIN = 600.0
_FIELDS = ("run", "launch", "instance")
#: The key of all errors that need the operator.
_OPERATOR: _Key = ("", "", "", "")


class Troubles:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: By error, the number of consecutive passes that had it, the monotonic time at which it was last logged, and
        #: the texts that it has had.
        self._standing: dict[_Key, tuple[int, float, frozenset[str]]] = {}

    def met(self, troubles: Sequence[PassError]) -> None:
        """Log the errors of a pass that are due, and the end of each error that lasted for several passes before it."""
        journal, clock = self._installation.journal, self._installation.clock
        now, elapsed = clock.now(), clock.elapsed()
        seen = _by_key(troubles)
        for key, (passes, _, texts) in self._standing.items():
            if key not in seen and passes > 1:
                about = dict(zip(_FIELDS, key, strict=False))
                journal.tell(f"resolved after {passes} passes: {min(texts)}", now, **about)
        standing = {}
        for key, same in seen.items():
            passes, told_at, before = self._standing.get(key, (0, -math.inf, frozenset[str]()))
            texts = frozenset(words(each.error) for each in same)
            # The calls of a pass may fail with several texts for one fault; it is logged again when all are new.
            if elapsed >= told_at + AGAIN or not texts & before:
                still = f"still failing after {passes} passes: " if texts & before else ""
                about = dict(zip(_FIELDS, key, strict=False))
                journal.complain(still + words(same[0].error), now, **about, **_detail(same[0].error))
                told_at = elapsed
            standing[key] = passes + 1, told_at, texts | before if texts & before else texts
        self._standing = standing


def _by_key(troubles: Iterable[PassError]) -> Mapping[_Key, Sequence[PassError]]:
    seen: dict[_Key, list[PassError]] = {}
    for each in troubles:
        person = isinstance(each.error, NeedsOperator)
        key = _OPERATOR if person else (each.run, each.launch, each.instance_id, words(each.error))
        seen.setdefault(key, []).append(each)
    return seen


def words(error: Exception) -> str:
    return str(error) if isinstance(error, ProvisionError) else f"internal error: {error!r}"


def operators(troubles: Iterable[PassError]) -> str:
    """Return what the operator must do, from the first error that needs the operator; or ""."""
    return next((words(each.error) for each in troubles if isinstance(each.error, NeedsOperator)), "")


def lines(troubles: Iterable[PassError]) -> Sequence[str]:
    """Return one line for each error, with the run or machine that it concerns."""
    return [_line(same[0]) for same in _by_key(troubles).values()]


def _line(trouble: PassError) -> str:
    whose = f"run {trouble.run[:12]}" if trouble.run else trouble.instance_id
    about_all = not whose or isinstance(trouble.error, NeedsOperator)
    return words(trouble.error) if about_all else f"{whose}: {words(trouble.error)}"


def _detail(error: Exception) -> dict[str, str]:
    if isinstance(error, CloudError):
        return {"code": error.code}
    if isinstance(error, ProvisionError):
        return {}
    # Any other error is a bug of ours: log where it was raised.
    return {"traceback": "".join(traceback.format_exception(error))}
