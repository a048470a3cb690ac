"""The use cases on jobs and runs: nothing here touches the cloud."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.cost.receipt import Receipt
from provisioner.core.errors import Conflict, Forbidden, Invalid
from provisioner.core.not_found import no_job, no_run
from provisioner.core.protocol.messages import Outcome, Stop
from provisioner.core.recipe import recipe as recipes
from provisioner.core.recipe.defaults import ungranted
from provisioner.core.recipe.jobs import Job
from provisioner.core.recipe.yaml import Path
from provisioner.core.run import story
from provisioner.core.run.records import Assignment, Event, Node, Record, Run
from provisioner.core.run.states import State
from provisioner.ports.control import Status
from provisioner.ports.store import NEWEST, RunFilter
from provisioner.service.control_loop.archive import bill
from provisioner.service.installation import Installation

#: A trigger's key is remembered this long.
KEY_TTL = 24 * 3600.0
#: Writers of one run outrun each other a few times at most.
TRIES = 20
#: Of a job.
ID = re.compile("[0-9a-f]{32}")


class Runs:
    """Jobs and runs as the store has them."""

    def __init__(self, installation: Installation, caller: Caller) -> None:
        """Every look-up is the caller's: what belongs to others is not there."""
        self._installation = installation
        self._caller = caller

    def apply(self, text: str, source: str, *, new: bool = False) -> Job:
        default = self._caller.owner
        recipe = recipes.parse_recipe(text, source, lambda spec: self._ungranted(spec, spec.owner or default))
        now, owner, name = self._installation.clock.now(), recipe.spec.owner or default, recipe.spec.name
        if not self._caller.may(owner):
            raise Forbidden(f"{source}: spec.owner: {owner} is not yours; you act for {', '.join(self._caller.owners)}")
        if self._installation.store.job(owner, name) is None:
            fresh = Job(self._installation.ids.new(), owner, name, recipe.dump(), 1, now, now)
            try:
                return self._save(fresh if new else _applied(fresh, recipe, now), "apply")
            except Conflict:
                pass  # Somebody else has just made it.
        if new:
            raise Conflict(f"there is a job {name!r} already; apply changes it")
        return self.amend_job(f"{owner}/{name}", lambda job: _applied(job, recipe, now), "apply")

    def change(self, name: str, fields: Mapping[str, str]) -> Job:
        def changed(job: Job) -> Job:
            stored = recipes.Recipe.load(job.recipe)
            recipe = recipes.with_fields(stored, fields, "the recipe", lambda spec: self._ungranted(spec, job.owner))
            return _applied(job, recipe, self._installation.clock.now())

        return self.amend_job(name, changed, "apply")

    def _ungranted(self, spec: recipes.Spec, owner: str) -> Iterator[tuple[Path, str]]:
        return ungranted(spec, owner, self._installation.policy.terms)

    def jobs(self) -> tuple[Job, ...]:
        return self._installation.store.jobs(self._caller.sees)

    def scheduled(self) -> tuple[Job, ...]:
        return self._installation.store.scheduled(self._caller.sees)

    def job(self, name: str) -> Job:
        owner, _, short = name.rpartition("/")
        store = self._installation.store
        found = store.job_by_id(name) if ID.fullmatch(name) else None
        found = found or store.job(owner or self._caller.owner, short)
        if found is None or not self._caller.may(found.owner):
            raise no_job(name)
        return found

    def delete(self, name: str) -> Job:
        def deleted(job: Job) -> Job:
            running = [run for run in self._installation.store.live().runs if run.job_id == job.id]
            if running:
                ids = " ".join(run.id[:12] for run in running[:5])
                raise Conflict(f"{name} has {len(running)} runs that are not done: `provision stop {ids}` first")
            return replace(job, deleted_at=self._installation.clock.now(), schedule=None)

        return self.amend_job(name, deleted, "delete")

    def amend_job(self, name: str, change: Callable[[Job], Job], what: str) -> Job:
        """Save a change of the job as it now is, again and again until nobody was faster; the audit says `what`."""
        for _ in range(TRIES):
            job = self.job(name)
            changed = change(job)
            if changed == job:
                return job
            try:
                return self._save(changed, what)
            except Conflict:
                continue
        raise Conflict(f"job {name} is being changed by others all the time: try again")

    def _save(self, job: Job, what: str) -> Job:
        records: list[Record] = [job, self._installation.audit(self._caller, what, job.owner, job.name)]
        limits = self._limits if what == "apply" else UNLIMITED
        return next(each for each in self._installation.save(records, limits=limits) if isinstance(each, Job))

    @property
    def _limits(self) -> OwnerLimits:
        return UNLIMITED if self._caller.admin else self._installation.policy.limits

    def start(self, name: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        now = self._installation.clock.now()
        fresh = self.fresh(self.job(name), env, command, idempotency_key, now)
        audit = self._installation.audit(self._caller, "start", fresh.owner, fresh.id)
        queued = story.triggered(fresh, self._installation.clock.now())
        run = self._installation.add_run(fresh, now - KEY_TTL, [queued, audit], self._limits)
        if run.inputs != fresh.inputs:
            raise Conflict(f"the key {idempotency_key!r} was used for run {run.id[:12]} with other inputs")
        if run.id == fresh.id:
            self._installation.clock.wake()
        return run

    def fresh(self, job: Job, env: Mapping[str, str], command: str | None, idempotency_key: str, now: float) -> Run:
        """A run of the job, not stored yet; raises Invalid where the installation cannot grant it."""
        dump = self._checked(job) if not env and command is None else self._overridden(job, env, command)
        inputs = hashlib.sha256(json.dumps([sorted(env.items()), command]).encode()).hexdigest()
        return Run(
            id=self._installation.ids.new(),
            job_id=job.id,
            job_name=job.name,
            job_revision=job.revision,
            owner=job.owner,
            recipe=dump,
            created_at=now,
            idempotency_key=idempotency_key,
            inputs=inputs,
            next_try_at=now,
        )

    def _checked(self, job: Job) -> str:
        recipe, dump = _loaded(job.recipe)
        # Once more: the settings may have changed since it was applied.
        recipes.grant(recipe, "start", lambda spec: self._ungranted(spec, job.owner))
        return dump

    def _overridden(self, job: Job, env: Mapping[str, str], command: str | None) -> str:
        stored, _ = _loaded(job.recipe)
        return recipes.with_overrides(stored, env, command, lambda spec: self._ungranted(spec, job.owner)).dump()

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
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
        return self._installation.store.runs(which)

    def tried(self, which: RunFilter) -> tuple[tuple[Run, tuple[Node, ...]], ...]:
        runs, nodes = self.runs(which), dict[str, list[Node]]()
        for node in self._installation.store.nodes(*(run.id for run in runs)):
            nodes.setdefault(node.run, []).append(node)
        return tuple((run, tuple(nodes.get(run.id, ()))) for run in runs)

    def run(self, name: str) -> Run:
        found = self._installation.store.runs_like(name.lower(), self._caller.sees) if name else ()
        if not found:
            raise no_run(name)
        if len(found) > 1 and found[0].id != name.lower():
            raise Invalid(f"several runs begin with {name!r}: give more of the id")
        return found[0]

    def status(self, name: str) -> Status:
        run, store = self.run(name), self._installation.store
        nodes = store.nodes(run.id)
        return Status(run, nodes, store.machines([node.instance_id for node in nodes]), store.events(run.id))

    def stop(self, name: str) -> Run:
        def stopped(run: Run) -> Run:
            if run.stop or run.ended_at is not None or run.state is State.DONE:
                return run
            return replace(run, stop=Stop(Outcome.CANCELLED, "stopped by a user", self._installation.clock.now()))

        run = self.amend(self.run(name).id, stopped, story.stopped_by_user, "stop")
        self._installation.clock.wake()
        return run

    def amend(
        self,
        id: str,
        change: Callable[[Run], Run],
        event: Callable[[Run, float], Event] | None = None,
        what: str = "",
    ) -> Run:
        """Save a change of the run, with the event and the audit of it, and return the run.

        If another process changes the run meanwhile, `change` is called again with the changed run. Raises NotFound,
        and Conflict after TRIES times.
        """
        store = self._installation.store
        for _ in range(TRIES):
            run = store.run(id)
            if run is None:
                raise no_run(id)
            changed = change(run)
            if changed is run:
                return run
            records: list[Record] = [changed]
            if event:
                records.append(event(changed, self._installation.clock.now()))
            if what:
                records.append(self._installation.audit(self._caller, what, run.owner, run.id))
            try:
                return next(each for each in self._installation.save(records) if isinstance(each, Run))
            except Conflict:
                continue
        raise Conflict(f"run {id[:12]} is being changed by others all the time: try again")

    def receipt(self, name: str) -> Receipt:
        status = self.status(name)
        machines = {machine.id: machine for machine in status.machines}
        held = [Assignment(node, machines[node.instance_id]) for node in status.nodes]
        return bill(self._installation, status.run, held)


def _applied(job: Job, recipe: recipes.Recipe, now: float) -> Job:
    """The job with that recipe, and its schedule where that is the recipe's to say."""
    dump, plan = recipe.dump(), recipe.spec.plan
    if job.recipe != dump:
        job = replace(job, recipe=dump, revision=job.revision + 1, applied_at=now)
    if plan is None and job.schedule_of_recipe:
        return replace(job, schedule=None, schedule_of_recipe=False)
    if plan is not None and plan != job.schedule:
        job = replace(job, schedule=plan, scheduled_at=now)
    return job if plan is None or job.schedule_of_recipe else replace(job, schedule_of_recipe=True)


@functools.lru_cache(maxsize=64)
def _loaded(dump: str) -> tuple[recipes.Recipe, str]:
    """A stored recipe, and how this version writes it: parsed once, for a job starts many runs from the same text."""
    recipe = recipes.Recipe.load(dump)
    return recipe, recipe.dump()
