"""The contract for metrics; like a journal, the methods never raise and never wait."""

from typing import Protocol

from provisioner.core.cost.receipt import Receipt


class Meter(Protocol):
    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        """Record a pass of `seconds` that ended at `at`, in Unix seconds; `whole` if it read everything."""

    def refused(self, code: str) -> None:
        """Record that the cloud refused a launch or one of its offers with this error code."""

    def ended(self, receipt: Receipt) -> None:
        """Record that a run is done; occasionally called twice for one run."""


class Unmetered:
    """A meter that records nothing, for processes without metrics."""

    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        pass

    def refused(self, code: str) -> None:
        pass

    def ended(self, receipt: Receipt) -> None:
        pass
