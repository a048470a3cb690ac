"""Records with plausible values, so that a test states only the fields it tests."""

import functools
import json
from dataclasses import replace
from typing import Any

from provisioner.core.cloud.launches import Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer
from provisioner.core.protocol.messages import Notice, Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.recipe import Recipe, parse_recipe
from provisioner.core.run.launching import Site
from provisioner.core.run.records import Assignment, KnownMachine, Node, Run
from provisioner.core.run.states import State

NOW = 1_800_000_000.0
ZONES = ("a", "b", "c")
SPOT_A = Offer(Market.SPOT, "g5.xlarge", "a")


def recipe(**spec: Any) -> Recipe:
    """Return a recipe with these fields."""
    return _recipe(json.dumps({"name": "train", "image": "i", "instance_type": "g5.xlarge", "command": "true"} | spec))


@functools.cache
def _recipe(spec: str) -> Recipe:
    return parse_recipe(json.dumps({"type": "job", "spec": json.loads(spec)}), "test")


def run(id: str = "r1", **fields: Any) -> Run:
    return replace(Run(id, "j1", "train", 1, "ann", recipe().dump(), NOW, next_try_at=NOW), **fields)


def node(**fields: Any) -> Node:
    made = Node("r1.1.0", "r1", 1, 0, "l1", "t", "i-1", "A:i-1", NOW, 1, work_put_at=NOW)
    return replace(made, **fields)


def machine(**fields: Any) -> KnownMachine:
    return replace(KnownMachine("i-1", "l1", SPOT_A, NOW, launch_time=NOW), **fields)


def at_work(state: State = State.RUNNING, **fields: Any) -> Run:
    """Return a run in its first attempt."""
    return run(state=state, attempt=1, launch="l1", **fields)


def held(node_fields: dict[str, Any] | None = None, **machine_fields: Any) -> Assignment:
    return Assignment(node(**node_fields or {}), machine(**machine_fields))


def report(step: Step, *, began: float = NOW, at: float = NOW, notice: Notice | None = None, **fields: Any) -> Report:
    """Return a report that a step has begun."""
    return Report(1, at, "p", step, {step.value: Span(began)}, notice=notice, **fields)


def result(outcome: Outcome, code: int | None = None, step: Step = Step.COMMAND, **fields: Any) -> Result:
    spans = {"spans": {step.value: Span(NOW + 10, NOW + 50)}}
    return Result("r1", 1, 0, "p", outcome, step, code, "its reason", NOW + 50, **(spans | fields))


def kind(name: str = "g5.xlarge", **fields: Any) -> InstanceType:
    return replace(InstanceType(name, "x86_64", 1, 4, 16384, ZONES, spot=True), **fields)


def site(*kinds: InstanceType) -> Site:
    """Return a site with these types, or with g5.xlarge if none is given."""
    types = {each.name: each for each in kinds or (kind(),)}
    subnets = {zone: f"subnet-{zone}" for zone in ZONES}
    template = Template(Image("ami-1", "/dev/sda1", "x86_64"), "arn", (), 100, "#!/bin/sh\n")
    return Site("here", Catalog(types, subnets, {}, NOW), template)
