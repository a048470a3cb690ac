"""Recipes from text, and the problems of bad ones."""

import json
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import Recipe, json_schema, parse_recipe

SCHEMA = json_schema()
REQUIRED = {"name": "a", "image": "busybox", "instance_type": "g5.xlarge", "command": "true"}


def recipe(**spec: Any) -> Recipe:
    return parse_recipe(json.dumps({"type": "job", "spec": {**REQUIRED, **spec}}), "f")


def problems(text: str) -> list[str]:
    with pytest.raises(Invalid) as error:
        parse_recipe(text, "f")
    return str(error.value).splitlines()


def problem(**spec: Any) -> str:
    """Return the only problem of a recipe with these fields, without the prefix `f:1: spec.`."""
    (line,) = problems(json.dumps({"type": "job", "spec": {**REQUIRED, **spec}}))
    return line.removeprefix("f:1: spec.")
