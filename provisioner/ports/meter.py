"""The contract for metrics. As in the journal, no method raises or waits."""

from typing import Protocol

from provisioner.core.cost.receipt import Receipt


class Meter(Protocol):
    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        """Record a pass of `seconds` that ended at the Unix time `at`; `whole`: whether it could list machines."""

    def refused(self, code: str) -> None:
        """Record that the cloud refused a launch or one of its offers with this error code."""

    def ended(self, receipt: Receipt) -> None:
        """Record that a run is done. In rare cases it is called twice for one run."""


class Unmetered:
    """A meter that records nothing, for processes without metrics."""

    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        pass

    def refused(self, code: str) -> None:
        pass

    def ended(self, receipt: Receipt) -> None:
        pass
