"""Fields of Saturn Cloud and of later versions: known, and accepted or refused by name."""

import json
from typing import Any

import jsonschema
import pytest
import yaml

from provisioner.core.recipe.attachments import Packages
from provisioner.core.recipe.jobs import Catchup, Concurrency, Schedule
from provisioner.core.recipe.recipe import (
    Spec,
    parse_recipe,
    planned,
)
from tests.support.recipes import REQUIRED, SCHEMA, problem

LATER: list[tuple[str, Any]] = [
    ("shared_folders", [{"name": "a"}]),
    ("token_scope", "job"),
    ("start_dind", True),
    ("dask_cluster", {"num_workers": 3}),
    ("status", "running"),
    ("extra_packages.conda", {"install": "numpy"}),
    ("extra_packages.cran", "dplyr"),
    ("extra_packages.remotes", ["a/b"]),
    ("extra_packages.bioconductor", "limma"),
]

#: A job's fields in Saturn Cloud's OpenAPI document of 2026.02.01.
SATURN = {
    *("name", "owner", "description", "tags", "image", "instance_type", "command", "working_directory", "scale"),
    *("environment_variables", "start_script", "extra_packages", "config_files", "git_repositories", "secrets"),
    *("shared_folders", "use_spot_instance", "schedule", "concurrency_policy", "retries", "token_scope", "start_dind"),
    *("dask_cluster", "status"),
}  # fmt: skip
SATURN_PACKAGES = {"pip", "conda", "apt", "cran", "remotes", "bioconductor"}


def test_every_field_of_saturns_is_known() -> None:
    """Each field is supported, or refused by name. A refused field must be in LATER, whose fields another test uses."""
    assert set(Spec.model_fields) >= SATURN
    assert set(Packages.model_fields) == SATURN_PACKAGES
    for at, model in (("", Spec), ("extra_packages.", Packages)):
        refused = {f"{at}{name}" for name, info in model.model_fields.items() if info.annotation is type(None)}
        # Fields that another server fills in are ignored.
        assert refused - {"subdomain"} <= {name for name, _ in LATER}


@pytest.mark.parametrize(("field", "value"), LATER)
def test_field_of_a_later_version_is_refused_by_name(field: str, value: Any) -> None:
    """The field is known, and the error gives the reason."""
    group, _, inner = field.rpartition(".")
    text = problem(**({group: {inner: value}} if group else {field: value}))
    assert text.startswith(f"{field}: found ")
    _, _, reason = text.partition("not in this version: ")
    assert reason


@pytest.mark.parametrize("group", ["conda", "cran", "remotes", "bioconductor"])
@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            "",
            {},
            [],
            {"install": "", "use_mamba": True},
            {"use_mamba": False},
            {"install": [], "use_mamba": "no"},
        ),
        {"install": " ", "environment_yml": None},
    ],
)
def test_group_of_packages_that_installs_nothing_is_accepted(group: str, value: Any) -> None:
    """Saturn's recipes contain such groups."""
    document = {"type": "job", "spec": {**REQUIRED, "extra_packages": {group: value}}}
    assert parse_recipe(json.dumps(document), "f").spec.extra_packages == Packages()
    jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("value", [{"install": ["numpy"]}, {"environment_yml": "name: x"}, {"channels": []}, 3])
def test_group_of_packages_that_installs_something_is_refused(value: Any) -> None:
    """A job without its packages would fail on a paid machine."""
    assert "not in this version" in problem(extra_packages={"conda": value})


def test_recipe_from_a_saturn_server_can_be_applied() -> None:
    """`get` and `apply` form a round trip: defaults and read-only fields are accepted."""
    spec: dict[str, Any] = {
        **REQUIRED, "owner": {"name": "org/me"}, "image": {"uri": "busybox:1", "enforce_trusted": True}, "tags": None,
        "extra_packages": {}, "config_files": None, "secrets": [], "shared_folders": [], "scale": 1, "schedule": None,
        "concurrency_policy": "Allow", "retries": 0, "token_scope": None, "start_dind": False, "start_script": "",
        "dask_cluster": None, "status": None, "subdomain": "gpu", "environment_variables": {}, "git_repositories": [],
    }  # fmt: skip
    text = yaml.safe_dump({"type": "job", "spec": spec, "state": {"id": "3", "status": "stopped", "routes": []}})
    found = parse_recipe(text, "f")
    assert (found.spec.owner, found.spec.image_uri) == ("org/me", "busybox:1")
    jsonschema.validate(yaml.safe_load(text), SCHEMA)


def test_a_schedule_is_saturns_and_two_fields_of_ours() -> None:
    """The default zone is UTC; wrong values are refused with valid ones."""
    plain = parse_recipe(json.dumps({"type": "job", "spec": {**REQUIRED, "schedule": " 0  2 * * * "}}), "f")
    assert plain.spec.plan == Schedule("0 2 * * *", "UTC", Concurrency.ALLOW, Catchup.LAST)
    own = {"timezone": "Europe/Berlin", "concurrency_policy": "Forbid", "schedule_catchup": "all"}
    changed = planned(plain, own)
    assert changed == Schedule("0 2 * * *", "Europe/Berlin", Concurrency.FORBID, Catchup.ALL)
    for nothing in (None, "", " "):
        assert planned(plain, {"schedule": nothing}) is None  # type: ignore[dict-item]
    assert problem(schedule="* * *").startswith("schedule: found '* * *'; write five fields")
    assert problem(concurrency_policy="Queue").endswith("write 'Allow', 'Forbid' or 'Replace'")
    assert problem(schedule_catchup="some").endswith("write 'none', 'last' or 'all'")
