"""provisioner.ports.control.usage.Usage over HTTP."""

from provisioner.adapters.remote.calls import Calls
from provisioner.core.views.costs.usage import Usage
from provisioner.ports.control.usage import UsageQuery


class RemoteUsage:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def read(self, query: UsageQuery) -> Usage:
        return self._calls.ask(Usage, "GET", "/api/usage", query.query())
