"""Read the recipe of a run, and make the work orders of its nodes."""

import functools
import math
from collections.abc import Iterable, Mapping

from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import ConfigFile, ListWork, Packages, Secret, WorkOrder
from provisioner.core.protocol.words import Engine
from provisioner.core.recipe import defaults as granted
from provisioner.core.recipe import git
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.recipe.recipe import Recipe, Spec
from provisioner.core.run.records import Run, Variant
from provisioner.core.run.survivors import LONGEST


@functools.lru_cache(maxsize=64)
def loaded(text: str) -> Recipe:
    """Return the recipe that `Recipe.dump` wrote; cached, because the nodes of a run share it. Raises Invalid."""
    return Recipe.load(text)


def recipe_of(run: Run) -> Recipe | None:
    """Return the recipe that is stored in the run; None if another version wrote it and this one cannot read it."""
    try:
        # Every pass reads the recipes of unfinished runs, and reading a long list of commands takes milliseconds.
        return loaded(run.recipe) if run.commands else Recipe.load(run.recipe)
    except Invalid:
        return None


def recipes_of(runs: Iterable[Run]) -> Mapping[Variant, Recipe | None]:
    """Return one recipe for each variant of a job: its runs differ only in variables and commands.

    This saves time: a pass may read ten thousand runs every second, and most belong to few jobs.
    """
    return {variant: recipe_of(run) for variant, run in {run.variant: run for run in runs}.items()}


def work_order(
    run: Run,
    recipe: Recipe,
    *,
    attempt: int,
    rank: int,
    gpus: int,
    engine: Engine,
    terms: RecipeDefaults,
    authorized_key: str = "",
    used_before: float = 0.0,
    paid_for: float | None = None,
) -> WorkOrder:
    """Return the work order of one node with all values resolved: the agent never gets the recipe.

    `used_before` is how long the machine has existed for earlier attempts of the run, in seconds. `paid_for` is how
    long it may exist under `limits.cost`, if that is set.
    """
    spec, limits = recipe.spec, recipe.spec.bounds
    repositories = granted.repositories(spec, terms)
    over_ssh = any(git.host_of(repository.url) for repository in repositories)
    return WorkOrder(
        run=run.id,
        attempt=attempt,
        rank=rank,
        scale=spec.together,
        job=run.job_name,
        job_id=run.job_id,
        owner=run.owner,
        engine=engine,
        image=spec.image_uri,
        gpus=gpus,
        command=spec.line,
        start_script=spec.start_script or "",
        working_directory=spec.working_directory,
        environment=_environment(spec),
        repositories=repositories,
        pull_limit=limits.pull,
        setup_limit=limits.setup,
        runtime_limit=limits.runtime,
        stop_grace=limits.stop_grace,
        lifetime=min(used_before + spec.lifetime, math.inf if paid_for is None else paid_for),
        secrets=tuple(Secret(each.name, each.attachment, each.location) for each in spec.secrets),
        config_files=tuple(ConfigFile(path, each.content, each.mode) for path, each in spec.config_files.items()),
        packages=Packages(
            spec.extra_packages.apt.install, spec.extra_packages.pip.install, spec.extra_packages.pip.requirements_txt
        ),
        registry_credential=spec.registry.credential or terms.registry_credential,
        known_hosts="".join(f"{line}\n" for line in granted.trusted(terms)) if over_ssh else "",
        shm_size=spec.shm_size,
        checkpoint=f"{terms.checkpoint_url}{run.id}/" if spec.checkpoint else "",
        authorized_key=authorized_key,
        gather_limit=limits.gather or 0.0,
        launcher_variables=spec.gang.env,
        waiting_limit=LONGEST if spec.keeps_survivors else 0.0,
        commands=_list_work(run, spec) if spec.commands else None,
    )


def _list_work(run: Run, spec: Spec) -> ListWork:
    return ListWork(spec.nprocs, run.commands, spec.list.limit, machines=spec.scale)


def _environment(spec: Spec) -> Mapping[str, str]:
    own = dict(spec.environment_variables)
    if spec.timezone is None or any(secret.location == "TZ" for secret in spec.secrets):
        return own
    return {"TZ": spec.timezone} | own
