"""The errors of passes, as the journal tells them: when they begin and, if they last, when they are over."""

import traceback
from collections.abc import Sequence

from provisioner.core.errors import CloudError, ProvisionError
from provisioner.service.control_loop.one_pass import PassError
from provisioner.service.installation import Installation

#: What tells one trouble from another: whose it is, and its words.
_Key = tuple[str, str, str, str]
_FIELDS = ("run", "launch", "instance")


class Troubles:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: In how many passes in a row each was met.
        self._standing: dict[_Key, int] = {}

    def met(self, troubles: Sequence[PassError]) -> None:
        """All that one pass met; what the one before it met and this one did not is over."""
        journal, now = self._installation.journal, self._installation.clock.now()
        seen = {(each.run, each.launch, each.instance_id, words(each.error)): each for each in troubles}
        for key, passes in self._standing.items():
            if key not in seen and passes > 1:
                journal.tell(f"over, after {passes} passes: {key[-1]}", now, **dict(zip(_FIELDS, key, strict=False)))
        for key, trouble in seen.items():
            if key not in self._standing:
                about = dict(zip(_FIELDS, key, strict=False))
                journal.complain(key[-1], now, **about, **_detail(trouble.error))
        self._standing = {key: self._standing.get(key, 0) + 1 for key in seen}


def words(error: Exception) -> str:
    return str(error) if isinstance(error, ProvisionError) else f"a fault of ours: {error!r}"


def line(trouble: PassError) -> str:
    """The error and whose it is, for a reader who sees nothing else."""
    whose = f"run {trouble.run[:12]}" if trouble.run else trouble.instance_id
    return f"{whose}: {words(trouble.error)}" if whose else words(trouble.error)


def _detail(error: Exception) -> dict[str, str]:
    if isinstance(error, CloudError):
        return {"code": error.code}
    if isinstance(error, ProvisionError):
        return {}
    # A bug of ours can be found by where it was met alone.
    return {"traceback": "".join(traceback.format_exception(error))}
