"""provisioner.ports.control.lists.Commands over HTTP.

`rerun` always has an idempotency key, and `stop` is idempotent, so both are retried after a lost answer.
"""

import json
from collections.abc import Iterator

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import run_path
from provisioner.core.views.commands import Command, CommandPage
from provisioner.core.views.run import Run
from provisioner.ports.control.lists import ALL, CommandFilter
from provisioner.ports.ids import Ids

CSV = "text/csv"


class RemoteCommands:
    def __init__(self, calls: Calls, ids: Ids) -> None:
        self._calls = calls
        self._ids = ids

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

    def csv(self, run: str) -> Iterator[bytes]:
        return self._calls.download(f"{run_path(run)}/commands.csv", CSV)

    def stop(self, run: str, index: int) -> Command:
        return self._calls.ask(Command, "POST", f"{run_path(run)}/commands/{index}/stop")

    def rerun(self, run: str, idempotency_key: str = "", *, unfinished: bool = False) -> Run:
        body = {"idempotency_key": idempotency_key or self._ids.new(), "unfinished": unfinished}
        return self._calls.ask(Run, "POST", f"{run_path(run)}/rerun", (), json.dumps(body).encode())
