"""What the settings grant is asked where a user still listens: when a job is applied, and when it starts."""

import json

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import parse_recipe
from tests.service.world import World

SPEC = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"}


def text(**spec: object) -> str:
    return json.dumps({"type": "job", "spec": SPEC | spec})


def test_what_cannot_be_granted_is_not_applied() -> None:
    """No job is stored that could never start."""
    world = World()
    for spec, path in (
        ({"git_repositories": [{"url": "git@github.com:a/b.git"}]}, r"git_repositories\[0\]\.url"),
        ({"checkpoint": True}, "checkpoint"),
        ({"placement": {"subnets": ["subnet-z"]}}, r"placement\.subnets\[0\]"),
    ):
        with pytest.raises(Invalid, match=rf"f:1: spec\.{path}: "):
            world.jobs.apply(text(**spec), "f")
    assert not world.jobs.all()


def test_what_is_granted_no_longer_does_not_start() -> None:
    """The settings may have changed since it was applied; no run is stored."""
    world = World()
    world.jobs.apply(text(), "f")
    (job,) = world.store.jobs()
    changed = parse_recipe(text(checkpoint=True), "f").dump()
    world.store.save([type(job)(**{**vars(job), "recipe": changed})])
    with pytest.raises(Invalid, match=r"start: spec\.checkpoint: "):
        world.runs.start("job", {})
    assert not world.store.runs()
