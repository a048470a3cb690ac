"""Show the state of the control plane, and do the work that only the control host may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Forbidden, NotFound
from provisioner.ports.clock import Clock
from provisioner.ports.connection import Connection
from provisioner.ports.control.operator import ignore
from provisioner.ports.store import Store
from provisioner.service.runs import Runs

if TYPE_CHECKING:
    from provisioner.service.acting import Acting
    from provisioner.service.ssh_entry.entrance import Entrance


class Operator:
    """The implementation of provisioner.ports.control.operator.Operator."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        runs: Runs,
        entrance: Callable[[], Entrance],
        caller: Caller,
        acting: Callable[[], Acting | None],
    ) -> None:
        """`acting()` acts on the cloud; None for a caller with a token, who may not do the control host's work."""
        self._store = store
        self._clock = clock
        self._runs = runs
        self._entrance = entrance
        self._caller = caller
        self._acting = acting

    def now(self) -> float:
        return self._clock.now()

    def served(self) -> bool:
        lease, now = self._store.lease(), self._clock.now()
        return bool(lease and lease.holder and lease.kind == "daemon" and lease.expires_at > now)

    def unfinished(self) -> bool:
        live = self._store.live()
        if self._caller.admin and (live.machines or live.launches):
            return True
        return any(self._caller.may(run.owner) for run in live.runs)

    def foreign(self) -> tuple[str, ...]:
        from provisioner.service.overview import foreign

        return tuple(each.id for each in foreign(self._store)) if self._caller.admin else ()

    def owners(self) -> tuple[str, ...]:
        return self._caller.owners

    def hindrance(self) -> str:
        from provisioner.service.overview import hindrance

        return hindrance(self._store)

    def enter(self, run: str, *, rank: int = 0, host: bool = False) -> Connection:
        found = self._runs.record(run)
        if rank >= found.scale and not found.commands:
            raise NotFound(f"run {found.id[:12]} has no rank {rank}: its ranks are 0 to {found.scale - 1}")
        nodes = self._store.nodes(found.id)
        node = next((node for node in nodes if (node.attempt, node.rank) == (found.attempt, rank)), None)
        return self._entrance().enter(found, node, host=host)

    def drive(
        self, until: Callable[[], bool], told: Callable[[Sequence[str]], None] = ignore, *, schedules: bool = False
    ) -> None:
        self._host.drive(until, told, schedules=schedules)

    def ring(self, until: Callable[[], bool]) -> None:
        self._host.ring(until)

    def step(self) -> Sequence[str]:
        return self._host.step()

    def other_store(self) -> str:
        return self._host.other_store()

    def takeover(self) -> Sequence[str]:
        return self._host.take_over(self._caller)

    @property
    def _host(self) -> Acting:
        acting = self._acting()
        if acting is None:
            raise Forbidden("only the control host may do this: run the command there")
        return acting
