"""provisioner.ports.control.lists.Commands over HTTP."""

from collections.abc import Iterator

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import run_path
from provisioner.core.views.commands import Command, CommandPage
from provisioner.ports.control.lists import ALL, CommandFilter


class RemoteCommands:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        query: Query = [
            ("limit", which.limit),
            *(("state", state) for state in which.states),
            *([("cursor", which.after)] if which.after >= 0 else []),
        ]
        return self._calls.ask(CommandPage, "GET", f"{run_path(run)}/commands", query)

    def get(self, run: str, index: int) -> Command:
        return self._calls.ask(Command, "GET", f"{run_path(run)}/commands/{index}")

    def output(self, run: str, index: int) -> Iterator[bytes]:
        return self._calls.download(f"{run_path(run)}/commands/{index}/output")
