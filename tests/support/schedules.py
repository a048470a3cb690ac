"""A world's jobs, runs and time, for schedule tests."""

import json
from collections.abc import Callable
from typing import Any

from provisioner.core.run.records import Run
from provisioner.ports.store import RunFilter
from tests.service.world import World


def apply(world: World, **spec: Any) -> None:
    whole = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"} | spec
    world.jobs.apply(json.dumps({"type": "job", "spec": whole}), "f")


def until(world: World, after: float) -> Callable[[], bool]:
    return lambda: world.now() >= world.began + after


def runs(world: World) -> list[Run]:
    """Return the world's runs, oldest first."""
    return sorted(world.store.runs(RunFilter(limit=1000)), key=lambda run: run.created_at)
