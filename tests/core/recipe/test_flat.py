"""Saturn's flat recipes from before 2023, read as present recipes."""

import json
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import Recipe, parse_recipe

#: A recipe as downloaded from Saturn in 2022.
OLD: dict[str, Any] = {
    "name": "nightly",
    "owner": "ann",
    "image_uri": "public.ecr.aws/saturncloud/saturn:2022.04.01",
    "description": "trains",
    "environment_variables": {"A": "1"},
    "working_directory": "/home/jovyan/workspace",
    "start_script": "",
    "git_repositories": [{"url": "https://h/a", "on_restart": "preserve changes"}],
    "extra_packages": {"pip": {"packages": "numpy 'pandas<3'"}, "conda": {"packages": "", "use_mamba": True}},
    "secrets": [],
    "job": {
        "instance_type": "g5.xlarge",
        "command": "python train.py",
        "schedule": "@daily",
        "backoff_limit": 3,
        "concurrency_policy": "Forbid",
    },
    "visibility": "owner",
    "schema_version": "2022.05.01",
}


def parsed(**changes: Any) -> Recipe:
    return parse_recipe(json.dumps(OLD | changes), "f")


def problems(document: object) -> list[str]:
    with pytest.raises(Invalid) as error:
        parse_recipe(json.dumps(document, indent=1), "f")
    return str(error.value).splitlines()


def test_flat_recipe_of_a_job_is_a_recipe() -> None:
    """Every field is read under its present name."""
    spec = parsed().spec
    assert (spec.name, spec.owner, spec.image, spec.instance_type) == ("nightly", "ann", OLD["image_uri"], "g5.xlarge")
    assert (spec.command, spec.schedule, spec.retries, spec.concurrency_policy) == (
        *("python train.py", "@daily", 3, "Forbid"),
    )
    assert spec.extra_packages.pip.install == ("numpy", "pandas<3")
    assert spec.environment_variables == {"A": "1"}
    assert spec.checkouts == ("/home/jovyan/workspace",)
    assert Recipe.load(parsed().dump()) == parsed()


def test_job_group_may_hold_every_field() -> None:
    """No field is required at the top level."""
    whole = {"name": "a", "image": "busybox", "instance_type": "g5.xlarge", "command": "true"}
    assert parse_recipe(json.dumps({"job": whole}), "f").spec.name == "a"


def test_problem_of_a_flat_recipe_is_named_where_it_is_written() -> None:
    """The error has the field and line of the user's document."""
    wrong = {**OLD, "job": {"instance_type": "large", "backoff_limit": "many"}, "image_uri": "A:b:c"}
    paths = [line.split(": ")[:2] for line in problems(wrong)]
    assert paths == [
        ["f:4", "image_uri"],
        ["f:27", "job.command"],
        ["f:28", "job.instance_type"],
        ["f:29", "job.backoff_limit"],
    ]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"visibility": "org"}, "visibility"),
        ({"job": None}, "job"),
        ({"job": []}, "job"),
        ({"deployment": {"command": "x"}}, "deployment"),
        ({"dask_cluster": {"num_workers": 1}}, "dask_cluster"),
        ({"extra_packages": {"conda": {"packages": "numpy"}}}, "extra_packages.conda"),
        ({"job": OLD["job"] | {"gpus": 1}}, "job.gpus"),
        ({"image": "busybox"}, "image"),
        ({"secrets": [{"name": "key", "type": "file", "location": "/key"}]}, "secrets[0].name"),
    ],
)
def test_flat_field_without_a_present_equivalent_is_refused(changes: dict[str, Any], path: str) -> None:
    """No field is dropped silently."""
    assert path in [line.split(": ")[1] for line in problems(OLD | changes)]


@pytest.mark.parametrize("kind", ["jupyter_server", "rstudio_server", "deployment"])
def test_flat_recipe_of_another_kind_is_refused(kind: str) -> None:
    """A notebook server is not a job."""
    other = {name: value for name, value in OLD.items() if name != "job"} | {kind: {"instance_type": "large"}}
    (line,) = problems(other)
    assert line.split(": ")[1:] == [kind, "not in this version", "only jobs"]
