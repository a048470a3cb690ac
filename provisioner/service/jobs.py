"""Apply, list, change and delete jobs, within the rights of one caller."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import UNLIMITED
from provisioner.core.check import quotas
from provisioner.core.cloud.machine_images import driven_families, raised_disk
from provisioner.core.cloud.offers import Catalog, Market, Size
from provisioner.core.commands.records import CommandList
from provisioner.core.commands.uploads import Upload
from provisioner.core.cost.estimate import hourly, price_notes
from provisioner.core.errors import CloudError, Conflict, Forbidden, Misconfigured
from provisioner.core.not_found import no_job, no_upload
from provisioner.core.recipe import lists
from provisioner.core.recipe import recipe as recipes
from provisioner.core.recipe.defaults import gpu_notes, reservation, ungranted, unoffered, unreserved
from provisioner.core.recipe.jobs import Job, applied, revision_of
from provisioner.core.recipe.yaml import Path
from provisioner.core.run.records import Record, Run
from provisioner.core.views import from_records
from provisioner.core.views.job import Job as View
from provisioner.core.views.job import Prices
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.store import Store
from provisioner.service.installation import Policy
from provisioner.service.recorder import Recorder

if TYPE_CHECKING:
    from provisioner.service.control_loop.launch_sites import LaunchSites

#: Maximum number of tries of a change, while other processes keep changing the same job or run.
TRIES = 20
#: Maximum age in seconds of the catalog that confirms a problem with a recipe's types and zones.
CONFIRMED = 60.0
#: A job's id.
ID = re.compile("[0-9a-f]{32}")


class Jobs:
    """The implementation of provisioner.ports.control.jobs.Jobs, and methods for Saturn's client and other services."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        ids: Ids,
        policy: Policy,
        sites: Callable[[], LaunchSites],
        caller: Caller,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._ids = ids
        self._policy = policy
        self._sites = sites
        self._caller = caller

    def apply(self, text: str, source: str) -> View:
        return self._checked_and_saved(text, source, new=False)

    def create(self, text: str, source: str) -> View:
        """Store the recipe as a new job, without starting its schedule. Raises Conflict if the job exists."""
        return self._checked_and_saved(text, source, new=True)

    def _checked_and_saved(self, text: str, source: str, *, new: bool) -> View:
        default, warnings = self._caller.owner, list[str]()

        def problems(spec: recipes.Spec) -> Iterator[tuple[Path, str]]:
            yield from (found := list(self.ungranted(spec, spec.owner or default)))
            if found:
                return
            warnings.extend(() if spec.commands else lists.notes(spec.nprocs, spec.list))
            try:
                yield from self._unoffered(spec)
                catalog = self._sites().catalog_to_check(spec.instance_types)
                warnings.extend(gpu_notes(spec, catalog))
                warnings.extend(self._quota_notes(spec, catalog))
                warnings.extend(self._disk_notes(spec))
                warnings.extend(self._price_notes(spec))
                for path, reason in self._unreserved(spec):
                    if path:
                        yield path, reason
                    else:
                        warnings.append(reason)
            except CloudError as error:
                warnings.append(f"the recipe is stored, but its instance types and zones were not checked: {error}")

        recipe = recipes.parse_recipe(text, source, problems)
        job = self._apply(recipe, source, new=new)
        answer = replace(from_records.job(job), warnings=tuple(warnings))
        if recipe.spec.scale == 1:
            return answer
        hourly = self._hourly_dollars(recipe.spec)
        return replace(answer, hourly_dollars=hourly, machine_lifetime=recipe.spec.machine_lifetime)

    def _price_notes(self, spec: recipes.Spec) -> Iterator[str]:
        """Yield why the caps allow no run of the recipe, if so. Raises CloudError."""
        caps, sites, types = self._policy.caps, self._sites(), spec.instance_types
        if caps.dollars_a_day is None and spec.limits.cost is None and spec.placement.max_price is None:
            return
        if reservation(spec, self._policy.terms):
            # Machines in a reservation are paid for already.
            return
        listed = types if Market.ON_DEMAND in spec.markets else ()
        on_demand = {name: sites.price_list(name).machines.get(name) for name in listed}
        yield from price_notes(spec, sites.catalog_to_check(types), on_demand, caps, self._clock.now())

    def _quota_notes(self, spec: recipes.Spec, catalog: Catalog) -> Iterator[str]:
        """Yield a note if the account's quotas are too small for every offer of the recipe."""
        wanted = quotas.need(spec.name, spec)
        known = {code: self._sites().quota(code) for code in quotas.concerned([wanted])}
        values = {code: value for code, value in known.items() if value is not None}
        if problem := quotas.too_small(wanted, values, {name: kind.vcpus for name, kind in catalog.types.items()}):
            text, page = problem
            yield f"{text}, so runs cannot start; ask for more at {page}"

    def _hourly_dollars(self, spec: recipes.Spec) -> float | None:
        """Return the list price of an hour of all machines, if they are of the dearest type; None if it is unknown."""
        types = spec.instance_types
        prices = [price for name in types if (price := self._sites().price_list(name).machines.get(name))]
        return max(price.dollars for price in prices) * spec.scale if len(prices) == len(types) else None

    def _unoffered(self, spec: recipes.Spec) -> list[tuple[Path, str]]:
        """Return the problems with the recipe's instance types and zones. Raises CloudError."""
        sites = self._sites()
        types = spec.instance_types

        def known() -> tuple[str, ...]:
            # A suggestion is not worth an error.
            with contextlib.suppress(CloudError):
                return sites.gpu_types()
            return ()

        driven = driven_families(sites.image_reference())
        found = list(unoffered(spec, sites.catalog_to_check(types), known, driven))
        if found:
            # The cached catalog may be older than the settings' subnets.
            found = list(unoffered(spec, sites.catalog_to_check(types, CONFIRMED), known, driven))
        return found

    def _disk_notes(self, spec: recipes.Spec) -> list[str]:
        """Return a note if the AMI needs a larger disk than the recipe asks for. Raises CloudError."""
        asked, sites = spec.placement.disk_gib, self._sites()
        note = asked and raised_disk(asked, sites.image(sites.image_reference()))
        return [note] if note else []

    def _unreserved(self, spec: recipes.Spec) -> Iterator[tuple[Path | None, str]]:
        """Yield the problems with the reservation that the recipe names, as `unreserved` does. Raises CloudError."""
        if not spec.placement.reserved:
            return
        sites = self._sites()
        try:
            reserved = sites.reserved(spec.placement.reserved)
        except Misconfigured as error:
            yield ("spec", "placement", "reservation"), str(error)
        else:
            catalog = sites.catalog_to_check(spec.instance_types)
            yield from unreserved(spec, catalog, reserved, self._clock.now())

    def _apply(self, recipe: recipes.Recipe, source: str, *, new: bool) -> Job:
        default = self._caller.owner
        now, owner, name = self._clock.now(), recipe.spec.owner or default, recipe.spec.name
        if not self._caller.may(owner):
            own = ", ".join(self._caller.owners)
            raise Forbidden(f"{source}: spec.owner: you may not apply jobs of {owner}; your token has the owners {own}")
        if self._store.job(owner, name) is None:
            fresh = Job(self._ids.new(), owner, name, recipe.dump(), 1, now, now)
            try:
                return self._save(fresh if new else applied(fresh, recipe.dump(), recipe.spec.plan, now), "apply")
            except Conflict:
                pass  # Another process has just stored the job.
        if new:
            raise Conflict(f"job {name!r} already exists; use apply to change it")
        return self.amend(f"{owner}/{name}", lambda job: applied(job, recipe.dump(), recipe.spec.plan, now), "apply")

    def change(self, name: str, fields: Mapping[str, str]) -> View:
        """Apply the job's recipe again, with these fields of its spec replaced. Raises Invalid."""

        def changed(job: Job) -> Job:
            stored = recipes.Recipe.load(job.recipe)
            recipe = recipes.with_fields(stored, fields, "the recipe", lambda spec: self.ungranted(spec, job.owner))
            return applied(job, recipe.dump(), recipe.spec.plan, self._clock.now())

        return from_records.job(self.amend(name, changed, "apply"))

    def ungranted(self, spec: recipes.Spec, owner: str) -> Iterator[tuple[Path, str]]:
        """Yield the path of each part of the spec that the installation cannot grant `owner`, with the reason."""
        yield from ungranted(spec, owner, self._policy.terms)
        if spec.together > 1 and (others := self._policy.beside(owner)):
            own = self._policy.profile_of(owner)
            reason = (
                f"the machines of a run trust every machine of their security group, but those with the instance "
                f"profile {others[0]} have the same group: give {own} a group of its own in profile_security_groups "
                "of the settings"
            )
            yield ("spec", "scale"), reason

    def all(self) -> tuple[View, ...]:
        return tuple(map(from_records.job, self._store.jobs(self._caller.sees)))

    def scheduled(self) -> tuple[Job, ...]:
        """Return the caller's jobs that have a schedule, sorted by owner and name."""
        return self._store.scheduled(self._caller.sees)

    def get(self, name: str) -> View:
        return from_records.job(self.record(name))

    def prices(self, name: str) -> Prices:
        recipe, _ = _loaded(self.record(name).recipe)
        spec, sites = recipe.spec, self._sites()
        try:
            catalog = sites.catalog_to_check(spec.instance_types)
        except CloudError:
            return Prices(None, None)
        types = spec.instance_types if Market.ON_DEMAND in spec.markets else ()
        found = hourly(spec, catalog, {each: sites.price_list(each).machines.get(each) for each in types})
        return Prices(found.least, found.most) if found else Prices(None, None)

    def record(self, name: str) -> Job:
        """Return the job's record. Raises NotFound."""
        owner, _, short = name.rpartition("/")
        store = self._store
        found = store.job_by_id(name) if ID.fullmatch(name) else None
        found = found or store.job(owner or self._caller.owner, short)
        if found is None or not self._caller.may(found.owner):
            raise no_job(name, self._names())
        return found

    def _names(self) -> Iterator[str]:
        """Yield the names by which the caller can name its jobs."""
        for job in self._store.jobs(self._caller.sees):
            yield job.name if job.owner == self._caller.owner else f"{job.owner}/{job.name}"

    def delete(self, name: str) -> View:
        def deleted(job: Job) -> Job:
            running = [run for run in self._store.live().runs if run.job_id == job.id]
            if running:
                ids = " ".join(run.id[:12] for run in running[:5])
                raise Conflict(f"cannot delete {name}: {len(running)} runs are not done; first `provision stop {ids}`")
            return replace(job, deleted_at=self._clock.now(), schedule=None)

        return from_records.job(self.amend(name, deleted, "delete"))

    def amend(self, name: str, change: Callable[[Job], Job], what: str) -> Job:
        """Save a change of the job, with an audit record of the action `what`, and return the job.

        If another process changes the job meanwhile, `change` is called again with the changed job. Raises NotFound,
        and Conflict after TRIES tries.
        """
        for _ in range(TRIES):
            job = self.record(name)
            changed = change(job)
            if changed == job:
                return job
            try:
                return self._save(changed, what, job)
            except Conflict:
                continue
        raise Conflict(f"other processes keep changing job {name}: try again")

    def _save(self, job: Job, what: str, before: Job | None = None) -> Job:
        """Save a new job, or the changed job `before`, with its revision if that is new; return the job."""
        records: list[Record] = [job, self._recorder.audit(self._caller, what, job.owner, job.name)]
        if before is None or before.revision != job.revision:
            records.append(revision_of(job, self._caller.name))
            if before and self._store.revision(job.id, before.revision) is None:
                # An earlier version of this program stored the job.
                records.append(revision_of(before, ""))
        limits = UNLIMITED if self._caller.admin or what != "apply" else self._policy.limits
        return next(each for each in self._recorder.save(records, limits=limits) if isinstance(each, Job))

    def fresh_run(
        self,
        job: Job,
        env: Mapping[str, str],
        command: str | None,
        scale: int | None,
        idempotency_key: str,
        now: float,
        upload: Upload | None = None,
    ) -> Run:
        """Return a new run of the job, not stored yet; `upload` is its list of commands, in place of the recipe's.

        Raises Invalid if the settings do not grant the recipe.
        """
        own = bool(env) or command is not None or scale is not None or upload is not None
        recipe, dump = self._overridden(job, env, command, scale, upload) if own else self._checked(job)
        # Without a scale and an upload, the digest is that of earlier versions, which knew neither.
        said: list[object] = [sorted(env.items()), command, *([] if scale is None else [scale])]
        # The digest has the lines of the upload instead of its id, so that a client may upload the same lines again and
        # repeat its request.
        said += [] if upload is None else [{"upload": upload.sha256}]
        inputs = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        return Run(
            id=self._ids.new(),
            job_id=job.id,
            job_name=job.name,
            job_revision=job.revision,
            owner=job.owner,
            recipe=dump,
            created_at=now,
            scale=recipe.spec.scale,
            commands=upload.total if upload else len(recipe.spec.commands),
            upload=upload.id if upload else "",
            idempotency_key=idempotency_key,
            inputs=inputs,
            next_try_at=now,
        )

    def uploaded(self, job: Job, id: str) -> Upload:
        """Return an upload for a run of the job. Raises NotFound if it does not exist, or has another owner."""
        found = self._store.upload(id)
        if found is None or found.owner != job.owner:
            raise no_upload(id)
        return found

    def repeated(
        self, run: Run, commands: Sequence[str], idempotency_key: str, now: float, upload: Upload | None = None
    ) -> Run:
        """Return a new run, not stored yet, with these of an ended run's commands and the rest of its recipe.

        If `upload` has these commands, `commands` is empty. Raises Invalid if the settings do not grant the recipe any
        more.
        """
        recipe, _ = _loaded(run.recipe)
        if not upload:
            recipe = recipes.with_fields(recipe, {"command": list(commands)}, "rerun")
        recipes.grant(recipe, "start", lambda spec: self.ungranted(spec, run.owner))
        said = ["rerun", run.id, {"upload": upload.sha256} if upload else list(commands)]
        return Run(
            id=self._ids.new(),
            job_id=run.job_id,
            job_name=run.job_name,
            job_revision=run.job_revision,
            owner=run.owner,
            recipe=recipe.dump(),
            created_at=now,
            scale=run.scale,
            commands=upload.total if upload else len(commands),
            upload=upload.id if upload else "",
            idempotency_key=idempotency_key,
            inputs=hashlib.sha256(json.dumps(said).encode()).hexdigest(),
            next_try_at=now,
        )

    def _checked(self, job: Job) -> tuple[recipes.Recipe, str]:
        recipe, dump = _loaded(job.recipe)
        # The settings may have changed since the recipe was applied.
        recipes.grant(recipe, "start", lambda spec: self.ungranted(spec, job.owner))
        return recipe, dump

    def _overridden(
        self, job: Job, env: Mapping[str, str], command: str | None, scale: int | None, upload: Upload | None
    ) -> tuple[recipes.Recipe, str]:
        stored, _ = _loaded(job.recipe)
        if upload and stored.spec.line:
            # Store the job's own command as a list of one, so that the rules for lists apply to the recipe.
            command = json.dumps([stored.spec.line])
        recipe = recipes.with_overrides(stored, env, command, lambda spec: self.ungranted(spec, job.owner), scale=scale)
        return recipe, recipe.dump()

    def sizes(self) -> tuple[Size, ...]:
        return self._sites().sizes()


def commands_of(run: Run, upload: Upload | None = None) -> list[Record]:
    """Return the list of the run's commands, to be stored with the run; nothing for a single command."""
    most = upload.batch_most if upload else None
    return [CommandList(run.id, run.commands, batch_most=most)] if run.commands else []


@functools.lru_cache(maxsize=64)
def _loaded(dump: str) -> tuple[recipes.Recipe, str]:
    """Return a stored recipe, and its text as this version writes it. Cached, because a job starts many runs."""
    recipe = recipes.Recipe.load(dump)
    return recipe, recipe.dump()
