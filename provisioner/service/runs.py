"""Trigger, find, show and stop runs, within the rights of one caller."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import UNLIMITED
from provisioner.core.commands.uploads import Upload
from provisioner.core.errors import Conflict, Invalid
from provisioner.core.not_found import no_job, no_run
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.run import story
from provisioner.core.run.records import Assignment, Event, Node, Record, Run
from provisioner.core.run.states import State
from provisioner.core.views import from_records
from provisioner.core.views.commands import Progress
from provisioner.core.views.overview import Machines, Top
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Attempt, RunRecipe, Status
from provisioner.core.views.run import Run as View
from provisioner.core.views.run import Runs as Page
from provisioner.ports.clock import Clock
from provisioner.ports.store import NEWEST, RunFilter, Store
from provisioner.service.installation import Policy
from provisioner.service.jobs import ID, TRIES, Jobs, commands_of
from provisioner.service.recorder import Recorder

#: Seconds for which an idempotency key is remembered.
KEY_TTL = 24 * 3600.0


class Runs:
    """The implementation of provisioner.ports.control.runs.Runs, and methods for Saturn's client and other services."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        policy: Policy,
        jobs: Jobs,
        caller: Caller,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._policy = policy
        self._jobs = jobs
        self._caller = caller

    def start(
        self,
        job: str,
        env: Mapping[str, str],
        command: str | None = None,
        idempotency_key: str = "",
        scale: int | None = None,
        upload: str = "",
    ) -> View:
        now, found = self._clock.now(), self._jobs.record(job)
        if upload and command is not None:
            raise Invalid("start: found a command and an upload; a run has one of them: leave the other out")
        uploaded = self._jobs.uploaded(found, upload) if upload else None
        fresh = self._jobs.fresh_run(found, env, command, scale, idempotency_key, now, uploaded)
        return self.view(self.add(fresh, "start", uploaded))

    def add(self, fresh: Run, what: str, upload: Upload | None = None) -> Run:
        """Store and return a new run, with its list of commands and an audit record of the action `what`.

        `upload` has the list's commands, if the recipe does not. If the run's key was used within KEY_TTL, return that
        run. Raises Conflict if the inputs differ, LimitReached, and NotFound for a deleted upload.
        """
        fresh = replace(fresh, started_by=self._caller.name)
        audit = self._recorder.audit(self._caller, what, fresh.owner, fresh.id)
        queued = replace(story.triggered(fresh, self._clock.now()), who=self._caller.name)
        limits = UNLIMITED if self._caller.admin else self._policy.limits
        also = [*commands_of(fresh, upload), queued, audit]
        run = self._recorder.add_run(fresh, fresh.created_at - KEY_TTL, also, limits)
        if run.inputs != fresh.inputs:
            raise Conflict(f"the key {fresh.idempotency_key!r} was used for run {run.id[:12]} with other inputs")
        if run.id == fresh.id:
            self._clock.wake()
        return run

    def find(self, which: RunFilter = NEWEST) -> tuple[View, ...]:
        return self.page(which).runs

    def page(self, which: RunFilter) -> Page:
        records = self.records(which)
        if not records and which.job and which.after is None:
            self._check_job(which)
        lists = {run.id: found for run in records if (found := self._progress(run))}
        return from_records.runs(records, lists, which.limit)

    def _check_job(self, which: RunFilter) -> None:
        """Raise NotFound if the filter names a job that does not exist.

        Any job id is accepted, because it may be the id of a deleted job.
        """
        if ID.fullmatch(which.job):
            return
        if "/" in which.job or which.owners is None:
            self._jobs.record(which.job)
        elif not any(self._store.job(owner, which.job) for owner in which.owners if self._caller.may(owner)):
            raise no_job(which.job)

    def records(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """Return the records of the runs that match `which`, the newest first."""
        if ID.fullmatch(which.job):
            which = replace(which, job="", job_id=which.job)
        elif which.job:
            owner, _, short = which.job.rpartition("/")
            named = (owner,) if owner else (self._caller.owner,) if which.owners is None else which.owners
            which = replace(which, job=short, owners=named)
        if which.owners is None:
            which = replace(which, owners=self._caller.sees)
        else:
            which = replace(which, owners=tuple(filter(self._caller.may, which.owners)))
        return self._store.runs(which)

    def tried(self, which: RunFilter) -> tuple[tuple[View, tuple[Attempt, ...]], ...]:
        """Return the runs that match `which`, the newest first, each with its attempts."""
        runs, nodes, now = self.records(which), dict[str, list[Node]](), self._clock.now()
        for node in self._store.nodes(*(run.id for run in runs)):
            nodes.setdefault(node.run, []).append(node)
        return tuple((self.view(run), from_records.attempts(run, nodes.get(run.id, ()), (), now)) for run in runs)

    def get(self, name: str) -> View:
        return self.view(self.record(name))

    def view(self, run: Run) -> View:
        """Return the view of a run's record."""
        return from_records.run(run, self._progress(run))

    def _progress(self, run: Run) -> Progress | None:
        """Return how many commands of the run's list are in which state; None if it has one command."""
        found = self._store.command_list(run.id) if run.commands else None
        return from_records.counted(found) if found else None

    def record(self, name: str) -> Run:
        """Return the run whose id begins with `name`. Raises NotFound, and Invalid for an ambiguous name."""
        found = self._store.runs_like(name.lower(), self._caller.sees) if name else ()
        if not found:
            raise no_run(name)
        if len(found) > 1 and found[0].id != name.lower():
            raise Invalid(f"ambiguous run {name!r}: several ids begin with it; write more characters of the id")
        return found[0]

    def status(self, name: str) -> Status:
        run = self.record(name)
        nodes = self._store.nodes(run.id)
        machines = self._store.machines([node.instance_id for node in nodes])
        now, commands = self._clock.now(), self.progress(run, nodes)
        return from_records.status(run, nodes, machines, self._store.events(run.id), now, commands)

    def progress(self, run: Run, nodes: Sequence[Node] | None = None) -> Progress | None:
        """Return the progress of the run's list with its speed; None if it has one command."""
        found = self._store.command_list(run.id) if run.commands else None
        if found is None:
            return None
        known = self._store.nodes(run.id) if nodes is None else nodes
        return from_records.progress(found, self._store.workers(run.id), known, self._clock.now())

    def stop(self, name: str) -> View:
        def stopped(run: Run) -> Run:
            if run.stop or run.ended_at is not None or run.state is State.DONE:
                return run
            return replace(run, stop=Stop(Outcome.CANCELLED, "stop requested", self._clock.now()))

        def asked(run: Run, at: float) -> Event:
            return replace(story.stopped_by_user(run, at), who=self._caller.name)

        run = self.amend(self.record(name).id, stopped, asked, "stop")
        self._clock.wake()
        return self.view(run)

    def amend(
        self,
        id: str,
        change: Callable[[Run], Run],
        event: Callable[[Run, float], Event] | None = None,
        what: str = "",
    ) -> Run:
        """Save a change of the run, and return the run.

        With `event`, its event is saved too; with `what`, an audit record of this action. If another process changes
        the run meanwhile, `change` is called again with the changed run. Raises NotFound, and Conflict after TRIES
        tries.
        """
        store = self._store
        for _ in range(TRIES):
            run = store.run(id)
            if run is None:
                raise no_run(id)
            changed = change(run)
            if changed is run:
                return run
            records: list[Record] = [changed]
            if event:
                records.append(event(changed, self._clock.now()))
            if what:
                records.append(self._recorder.audit(self._caller, what, run.owner, run.id))
            try:
                return next(each for each in self._recorder.save(records) if isinstance(each, Run))
            except Conflict:
                continue
        raise Conflict(f"other processes keep changing run {id[:12]}: try again")

    def recipe(self, name: str) -> RunRecipe:
        return from_records.run_recipe(self.record(name))

    def receipt(self, name: str) -> Receipt:
        from provisioner.service.control_loop.archive import bill

        run = self.record(name)
        nodes = self._store.nodes(run.id)
        machines = {machine.id: machine for machine in self._store.machines([node.instance_id for node in nodes])}
        held = [Assignment(node, machines[node.instance_id]) for node in nodes]
        return from_records.receipt(bill(self._store, run, held, self._clock.now()))

    def overview(self, limit: int) -> Top:
        from provisioner.service.overview import live_overview

        return live_overview(self._store, self._caller, limit, self._clock.now(), self._policy.caps)

    def machines(self, limit: int) -> Machines:
        from provisioner.service.overview import live_machines

        return live_machines(self._store, self._caller, limit, self._clock.now())
