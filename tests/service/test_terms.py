"""The settings' limits are checked while the user can still react: at `apply` and at `start`."""

import json

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import parse_recipe
from tests.service.world import World

SPEC = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"}


def text(**spec: object) -> str:
    return json.dumps({"type": "job", "spec": SPEC | spec})


def test_recipe_beyond_the_settings_is_refused_at_apply() -> None:
    """A job that could never start is not stored."""
    world = World()
    for spec, path in (
        ({"git_repositories": [{"url": "git@github.com:a/b.git"}]}, r"git_repositories\[0\]\.url"),
        ({"checkpoint": True}, "checkpoint"),
        ({"placement": {"subnets": ["subnet-z"]}}, r"placement\.subnets\[0\]"),
    ):
        with pytest.raises(Invalid, match=rf"f:1: spec\.{path}: "):
            world.jobs.apply(text(**spec), "f")
    assert not world.jobs.all()


def test_run_beyond_the_settings_is_refused_at_start() -> None:
    """The settings may have changed since the job was applied; no run is stored."""
    world = World()
    world.jobs.apply(text(), "f")
    (job,) = world.store.jobs()
    changed = parse_recipe(text(checkpoint=True), "f").dump()
    world.store.save([type(job)(**{**vars(job), "recipe": changed})])
    with pytest.raises(Invalid, match=r"start: spec\.checkpoint: "):
        world.runs.start("job", {})
    assert not world.store.runs()
