"""Save records and audit records, and log the events of runs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from provisioner.core.access.callers import Audit, Caller
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.run.records import Event, Record, Run
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.journal import Journal
from provisioner.ports.store import Store

R = TypeVar("R", bound=Record)


class Recorder:
    """Writes to the store, and writes each stored event of a run to the journal too."""

    def __init__(self, store: Store, ids: Ids, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._ids = ids
        self._clock = clock
        self._journal = journal

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        """Save the records with `Store.save`, then log the events. An event without an id gets a new id."""
        stored = self._store.save([self._named(each) for each in records], epoch=epoch, limits=limits)
        self._log(stored)
        return stored

    def add_run(self, run: Run, since: float, also: Sequence[Record], limits: OwnerLimits = UNLIMITED) -> Run:
        """Call `Store.add_run`, then log the events among `also` if the run is new."""
        also = [self._named(each) for each in also]
        stored = self._store.add_run(run, since, also, limits)
        if stored.id == run.id:
            self._log(also)
        return stored

    def audit(self, caller: Caller, what: str, owner: str, target: str) -> Audit:
        """Return the audit record of a change that the caller makes now; save it together with the change."""
        return Audit(self._ids.new(), self._clock.now(), caller.name, caller.source, what, owner, target)

    def _named(self, record: R) -> R:
        return replace(record, id=self._ids.new()) if isinstance(record, Event) and not record.id else record

    def _log(self, stored: Sequence[Record]) -> None:
        for each in stored:
            if isinstance(each, Event):
                self._journal.tell(
                    each.text,
                    each.at,
                    run=each.run,
                    job=each.job,
                    owner=each.owner,
                    attempt=each.attempt,
                    instance=each.instance_id,
                    launch=each.launch,
                )
