"""From a run to its recipe, and to the work order of one of its nodes."""

import functools

from provisioner.core.errors import Invalid
from provisioner.core.recipe import Recipe
from provisioner.core.record import Run
from provisioner.core.work import Engine, WorkOrder


def recipe_of(run: Run) -> Recipe | None:
    """The recipe the run was frozen with; None when another version wrote it, and this one cannot read it."""
    return _parsed(run.recipe)


@functools.lru_cache(maxsize=1000)
def _parsed(text: str) -> Recipe | None:
    # Asked at every pass, and it never changes.
    try:
        return Recipe.load(text)
    except Invalid:
        return None


def work_order(run: Run, recipe: Recipe, *, attempt: int, rank: int, gpus: int, engine: Engine) -> WorkOrder:
    """Everything resolved: the agent never sees a recipe."""
    spec, limits = recipe.spec, recipe.spec.limits
    return WorkOrder(
        run=run.id,
        attempt=attempt,
        rank=rank,
        scale=spec.scale,
        job=run.job_name,
        job_id=run.job_id,
        owner=run.owner,
        engine=engine,
        image=spec.image_uri,
        gpus=gpus,
        command=spec.command,
        start_script=spec.start_script or "",
        working_directory=spec.working_directory,
        environment=dict(spec.environment_variables),
        repositories=spec.repositories,
        pull_limit=limits.pull,
        setup_limit=limits.setup,
        runtime_limit=limits.runtime,
        stop_grace=limits.stop_grace,
        lifetime=limits.lifetime,
    )
