"""The use cases on jobs and runs: nothing here touches the cloud."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from provisioner.core import recipe as recipes
from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.receipt import Receipt
from provisioner.core.record import Held, Job, Record, Run
from provisioner.core.run import State
from provisioner.core.source import Path
from provisioner.core.terms import ungranted
from provisioner.core.work import Outcome, Stop
from provisioner.ports.control import Status
from provisioner.service.archive import bill
from provisioner.service.installation import Installation

#: A trigger's key is remembered this long.
KEY_TTL = 24 * 3600.0
#: Writers of one run outrun each other a few times at most.
TRIES = 20


class Runs:
    """Jobs and runs as the store has them."""

    def __init__(self, installation: Installation, owner: str) -> None:
        """`owner` is whose job a recipe or a name without an owner means."""
        self._installation = installation
        self._owner = owner

    def apply(self, text: str, source: str) -> Job:
        recipe = recipes.parse_recipe(text, source, lambda spec: self._ungranted(spec, spec.owner or self._owner))
        now, dump, plan = self._installation.clock.now(), recipe.dump(), recipe.spec.plan
        owner = recipe.spec.owner or self._owner

        def applied(job: Job) -> Job:
            if job.recipe != dump:
                job = replace(job, recipe=dump, revision=job.revision + 1, applied_at=now)
            if plan is None and job.schedule_of_recipe:
                return replace(job, schedule=None, schedule_of_recipe=False)
            if plan is not None and plan != job.schedule:
                job = replace(job, schedule=plan, scheduled_at=now)
            return job if plan is None or job.schedule_of_recipe else replace(job, schedule_of_recipe=True)

        if self._installation.store.job(owner, recipe.spec.name):
            return self.amend_job(f"{owner}/{recipe.spec.name}", applied)
        fresh = Job(self._installation.ids.new(), owner, recipe.spec.name, dump, 1, now, now)
        return self._installation.save([applied(fresh)])[0]

    def _ungranted(self, spec: recipes.Spec, owner: str) -> Iterator[tuple[Path, str]]:
        return ungranted(spec, owner, self._installation.policy.terms)

    def jobs(self) -> tuple[Job, ...]:
        return self._installation.store.jobs()

    def job(self, name: str) -> Job:
        owner, _, short = name.rpartition("/")
        found = self._installation.store.job(owner or self._owner, short)
        if found is None:
            raise NotFound(f"there is no job {name!r}; `provision jobs` lists them, `provision apply FILE` makes one")
        return found

    def delete(self, name: str) -> Job:
        def deleted(job: Job) -> Job:
            running = [run for run in self._installation.store.live().runs if run.job_id == job.id]
            if running:
                ids = " ".join(run.id[:12] for run in running[:5])
                raise Conflict(f"{name} has {len(running)} runs that are not done: `provision stop {ids}` first")
            return replace(job, deleted_at=self._installation.clock.now(), schedule=None)

        return self.amend_job(name, deleted)

    def amend_job(self, name: str, change: Callable[[Job], Job]) -> Job:
        """Save a change of the job as it now is, again and again until nobody was faster."""
        for _ in range(TRIES):
            job = self.job(name)
            changed = change(job)
            if changed is job:
                return job
            try:
                return self._installation.save([changed])[0]
            except Conflict:
                continue
        raise Conflict(f"job {name} is being changed by others all the time: try again")

    def start(self, name: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        now = self._installation.clock.now()
        fresh = self.fresh(self.job(name), env, command, idempotency_key, now)
        run = self._installation.store.add_run(fresh, since=now - KEY_TTL)
        if run.inputs != fresh.inputs:
            raise Conflict(f"the key {idempotency_key!r} was used for run {run.id[:12]} with other inputs")
        if run.id == fresh.id:
            self._installation.save([self._installation.event(run, "queued: triggered")])
            self._installation.clock.wake()
        return run

    def fresh(self, job: Job, env: Mapping[str, str], command: str | None, idempotency_key: str, now: float) -> Run:
        """A run of the job, not stored yet; raises Invalid where the installation cannot grant it."""
        stored = recipes.Recipe.load(job.recipe)
        # Once more: the settings may have changed since it was applied.
        recipe = recipes.with_overrides(stored, env, command, lambda spec: self._ungranted(spec, job.owner))
        inputs = hashlib.sha256(json.dumps([sorted(env.items()), command]).encode()).hexdigest()
        return Run(
            id=self._installation.ids.new(),
            job_id=job.id,
            job_name=job.name,
            job_revision=job.revision,
            owner=job.owner,
            recipe=recipe.dump(),
            created_at=now,
            idempotency_key=idempotency_key,
            inputs=inputs,
            next_try_at=now,
        )

    def runs(self, job: str = "", limit: int = 50) -> tuple[Run, ...]:
        owner, _, short = job.rpartition("/")
        return self._installation.store.runs(job=short, owner=owner or self._owner if job else "", limit=limit)

    def run(self, name: str) -> Run:
        found = self._installation.store.runs_like(name.lower()) if name else ()
        if not found:
            raise NotFound(f"there is no run {name!r}; `provision runs` lists them")
        if len(found) > 1 and found[0].id != name:
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

        run = self.amend(self.run(name).id, stopped, "a user wishes it to stop")
        self._installation.clock.wake()
        return run

    def amend(self, id: str, change: Callable[[Run], Run], story: str = "") -> Run:
        """Save a change of the run as it now is, and its story, again and again until nobody was faster."""
        store = self._installation.store
        for _ in range(TRIES):
            run = store.run(id)
            if run is None:
                raise NotFound(f"there is no run {id!r}")
            changed = change(run)
            if changed is run:
                return run
            records: list[Record] = [changed]
            if story:
                records.append(self._installation.event(changed, story))
            try:
                return next(each for each in self._installation.save(records) if isinstance(each, Run))
            except Conflict:
                continue
        raise Conflict(f"run {id[:12]} is being changed by others all the time: try again")

    def receipt(self, name: str) -> Receipt:
        status = self.status(name)
        machines = {machine.id: machine for machine in status.machines}
        held = [Held(node, machines[node.instance_id]) for node in status.nodes]
        return bill(self._installation, status.run, held)
