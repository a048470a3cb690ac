"""Stored recipes as text for people."""

import json

from provisioner.core.history.texts import as_yaml, short_yaml
from provisioner.core.recipe.recipe import parse_recipe
from tests.support.recipes import SEED, recipe


def test_recipe_is_shown_in_the_order_of_its_fields() -> None:
    lines = as_yaml({"type": "job", "spec": {"name": "ä", "command": "a"}}).splitlines()
    assert lines == ["type: job", "spec:", "  name: ä", "  command: a"]


def test_text_of_several_lines_is_shown_as_lines() -> None:
    assert as_yaml({"command": "set -e\n./go\n", "odd": "a \nb"}).splitlines()[:3] == [
        "command: |",
        "  set -e",
        "  ./go",
    ]


def test_characters_that_hide_or_reorder_text_are_escaped() -> None:
    assert as_yaml({"command": "a\u202eb\x1b[2J"}) == 'command: "a\\u202Eb\\e[2J"\n'


def test_short_form_has_only_the_fields_that_differ_from_their_default() -> None:
    stored = json.loads(parse_recipe(SEED, "f").dump())
    assert short_yaml(stored).splitlines()[2:7] == [
        "spec:",
        "  name: gpu-inference",
        "  image: saturncloud/saturn:2025.06.01",
        "  instance_type: g5.xlarge",
        "  command: python run_inference.py",
    ]
    assert "scale" not in short_yaml(stored)


def test_short_form_is_applied_as_the_same_recipe() -> None:
    whole = recipe(
        limits={"runtime": "2h"},
        retries=3,
        placement={"max_price": 1.5},
        environment_variables={"A": "1"},
        command="a\n\u202e b \n",
    )
    assert parse_recipe(short_yaml(whole.plain()), "f").dump() == whole.dump()


def test_stored_recipe_that_apply_refuses_now_is_shown_whole() -> None:
    stored = json.loads(recipe().dump())
    stored["spec"]["command"] = "--epochs 3"
    assert short_yaml(stored) == as_yaml(stored)
