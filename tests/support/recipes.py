"""Recipes from text, and the problems of bad ones."""

import json
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import Recipe, json_schema, parse_recipe

#: The example of Saturn Cloud's page about recipes.
SEED = """\
schema_version: 2025.10.01
type: job
spec:
  name: gpu-inference
  image: saturncloud/saturn:2025.06.01
  instance_type: g5.xlarge
  command: python run_inference.py
  working_directory: /home/jovyan/workspace
  git_repositories:
    - url: git@github.com:your-org/your-repo.git
      reference: main
  scale: 1
  use_spot_instance: false
"""
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
