"""The contract with whoever counts what happens; like a journal, it never raises and never makes anybody wait."""

from typing import Protocol

from provisioner.core.cost.receipt import Receipt


class Meter(Protocol):
    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        """A pass took so long; `whole` is one that saw all there is."""

    def refused(self, code: str) -> None:
        """The cloud refused a launch, or an offer of one, with this word of its own."""

    def ended(self, receipt: Receipt) -> None:
        """A run is over, with all that it left; now and then told twice."""


class Unmetered:
    """For processes that nobody asks for figures."""

    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        pass

    def refused(self, code: str) -> None:
        pass

    def ended(self, receipt: Receipt) -> None:
        pass
