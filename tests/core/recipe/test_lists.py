"""Recipes with a list of commands."""

import json
from typing import Any

import jsonschema
import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.lists import ListOptions, notes
from provisioner.core.recipe.recipe import Recipe, parse_recipe, with_overrides
from tests.support.recipes import REQUIRED, SCHEMA, SEED, problem, problems, recipe

LINES = ["echo 0", "false", "echo 2"]
#: The options of a list as they are stored.
DEFAULTS = {
    "limit": "never",
    "retries": 0,
    "retry_on": [],
    "max_failures": "never",
    "on_max": "finish",
    "restart_lost": True,
}
OPTION = "the shell would read a command that begins with - as an option; begin with the program"


@pytest.mark.parametrize("command", [LINES, json.dumps(LINES), f"\n {json.dumps(LINES, indent=2)}\n"])
def test_command_is_a_list_or_the_text_of_a_json_array(command: Any) -> None:
    """Saturn's API has only text for a command; `sc split` writes a list there."""
    spec = recipe(command=command).spec
    assert (spec.commands, spec.line, spec.together, spec.nprocs) == (tuple(LINES), "", 1, 1)
    jsonschema.validate({"type": "job", "spec": {**REQUIRED, "command": command}}, SCHEMA)


def test_single_command_is_no_list() -> None:
    """A shell line may begin with the shell's `[`."""
    for command in ("true", "[ -e a ] && true", "[[ -e a ]]", "[" * 100_000, "[1, 2"):
        spec = recipe(command=command, scale=3).spec
        assert (spec.commands, spec.line, spec.together) == ((), command, 3)


def test_stored_list_is_read_as_it_was_written() -> None:
    made = recipe(command=["a\r\nb", "ü"], nprocs=8, list={"limit": "90s"})
    assert Recipe.load(made.dump()) == made
    spec = json.loads(made.dump())["spec"]
    assert (spec["command"], spec["nprocs"], spec["list"]) == (["a\nb", "ü"], 8, {**DEFAULTS, "limit": "90s"})
    assert recipe(command=LINES).spec.list.limit is None
    # A recipe of an earlier version has neither field.
    spec = json.loads(recipe().dump())
    del spec["spec"]["nprocs"], spec["spec"]["list"]
    assert Recipe.load(json.dumps(spec)) == recipe(nprocs=None)


def test_list_in_a_yaml_document_has_a_line_for_each_problem() -> None:
    text = SEED.replace("command: python run_inference.py", "command:\n  - echo 0\n  - ' '\n  - [a]\n  - 7\n  - -x")
    assert problems(text) == [
        "f:9: spec.command[1]: found ' '; write the shell line to run",
        "f:10: spec.command[2]: found a list; write a shell line",
        f"f:12: spec.command[4]: found '-x'; {OPTION}",
    ]


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"command": []}, "command: found a list; write at least one shell line"),
    ({"command": "[]"}, "command: found '[]'; write at least one shell line"),
    ({"command": None}, "command: found nothing; write a shell line, or a list of shell lines"),
    ({"command": {"a": "b"}}, "command: found a mapping; write a shell line, or a list of shell lines"),
    ({"command": ["a", None]}, "command[1]: found nothing; write a shell line"),
    ({"command": ["a", ""]}, "command[1]: found ''; write the shell line to run"),
    ({"command": ["a", "b\0"]}, "command[1]: found 'b\\x00'; it must not contain a NUL character"),
    (
        {"command": '["a", 1]'},
        """command: found '["a", 1]'; the JSON array has something else than text at 1; write a list of shell lines""",
    ),
    (
        {"command": '["a", "\\ud800"]'},
        "command[1]: found '\\ud800'; an unpaired surrogate is not a valid character",
    ),
    (
        {"command": ["a"] * 10_001},
        "command: found a list; a recipe has at most 10,000 commands; write several jobs",
    ),
    (
        {"command": LINES, "nprocs": 257},
        "nprocs: found '257'; write the number of commands that run at once on a machine, 1 to 256",
    ),
    (
        {"command": LINES, "nprocs": 0},
        "nprocs: found '0'; write the number of commands that run at once on a machine, 1 to 256",
    ),
    (
        {"command": LINES, "retry": {"on": [1]}},
        "retry.on: retry.on is for a single command; for a list, write list.retries and list.retry_on",
    ),
    (
        {"command": LINES, "retry": {"requeue_on": [1]}},
        "retry.requeue_on: retry.requeue_on is for a single command; for a list, write list.retries and list.retry_on",
    ),
    (
        {"command": LINES, "retry": {"rerun": "before_start"}},
        "retry.rerun: retry.rerun is for a single command; for a list, write list.restart_lost",
    ),
    ({"command": LINES, "list": {"limt": "1m"}}, "list.limt: unknown field; did you mean limit?"),
    (
        {"command": LINES, "list": {"retries": 101}},
        "list.retries: found '101'; write how often a command that failed runs again, 0 to 100",
    ),
    (
        {"command": LINES, "list": {"retry_on": ["oom", 0]}},
        "list.retry_on[1]: found '0'; write an exit code, 1 to 255, or oom or limit",
    ),
    (
        {"command": LINES, "list": {"retry_on": ["stop"]}},
        "list.retry_on[0]: found 'stop'; write an exit code, 1 to 255, or oom or limit",
    ),
    (
        {"command": LINES, "list": {"max_failures": -1}},
        "list.max_failures: found '-1'; write the number of commands that may fail, 0 to 999999999, or never",
    ),
    ({"command": LINES, "list": {"on_max": "stop"}}, "list.on_max: found 'stop'; write 'finish' or 'kill'"),
    ({"command": LINES, "list": {"restart_lost": "maybe"}}, "list.restart_lost: found 'maybe'; write true or false"),
]


@pytest.mark.parametrize(("spec", "text"), PROBLEMS, ids=lambda value: str(value)[:60])
def test_wrong_list_has_one_line_that_says_what_to_write(spec: dict[str, Any], text: str) -> None:
    assert problem(**spec) == text


def test_limit_of_a_command_is_a_duration_or_never() -> None:
    text = problem(command=LINES, list={"limit": "1 minute"})
    assert text.startswith("list.limit: found '1 minute'; write a duration")
    assert text.endswith(", or never")


def test_longest_command_and_longest_list_are_accepted() -> None:
    assert "128 KiB" in problem(command=["true", f"echo {'x' * 140_000}"])
    assert len(recipe(command=["true"] * 10_000).spec.commands) == 10_000
    text = SEED.replace("command: python run_inference.py", "command:\n" + "  - date -u\n" * 10_000)
    assert len(parse_recipe(text, "f").spec.commands) == 10_000


def test_fields_without_effect_are_accepted() -> None:
    """A list in a recipe of Saturn's, or in one that `get` has shown, keeps its defaults."""
    nothing = dict.fromkeys(("retries", "retry_on", "max_failures", "on_max", "restart_lost"))
    spec = {"command": LINES, "nprocs": None, "list": {"limit": "never", **nothing}, "scale": 1}
    assert recipe(**spec) == recipe(**spec | {"list": DEFAULTS}) == recipe(command=LINES)
    jsonschema.validate({"type": "job", "spec": {**REQUIRED, **spec}}, SCHEMA)


def test_failed_commands_run_again_as_the_recipe_says() -> None:
    """Stored options are read as they were written, also those of an earlier version, which had only the limit."""
    options = {"retries": 3, "retry_on": [75, "oom"], "max_failures": 0, "on_max": "kill", "restart_lost": False}
    made = recipe(command=LINES, list=options)
    found = made.spec.list
    assert (found.retries, found.retry_on, found.max_failures) == (3, (75, "oom"), 0)
    assert (found.on_max, found.restart_lost) == ("kill", False)
    assert Recipe.load(made.dump()) == made
    assert json.loads(made.dump())["spec"]["list"] == {"limit": "never", **options}
    jsonschema.validate({"type": "job", "spec": {**REQUIRED, "command": LINES, "list": options}}, SCHEMA)
    older = json.loads(recipe(command=LINES).dump())
    older["spec"]["list"] = {"limit": "never"}
    assert Recipe.load(json.dumps(older)) == recipe(command=LINES)


def test_list_keeps_no_machines_for_another_attempt() -> None:
    spec = recipe(command=LINES, use_spot_instance=True, gang={"survivors": "keep"}).spec
    assert not spec.keeps_survivors
    assert (spec.machine_lifetime, spec.bounds.gather) == (spec.bounds.lifetime, None)


def test_single_command_may_have_the_options_of_lists() -> None:
    """`provision map` makes a list of a job with one command."""
    spec = recipe(nprocs=4, list={"limit": "1m"}, scale=2).spec
    assert (spec.commands, spec.nprocs, spec.list.limit, spec.together) == ((), 4, 60.0, 2)
    told = [
        f"{name} is for lists: `provision map` uses it, and runs of the single command ignore it"
        for name in ("nprocs", "list")
    ]
    assert list(notes(spec.nprocs, spec.list)) == told
    assert list(notes(1, ListOptions())) == []


def test_start_replaces_a_list_by_a_command_or_a_command_by_a_list() -> None:
    several = recipe(command=LINES, nprocs=2, list={"limit": "1m"})
    assert with_overrides(several, {}, "date") == recipe(command="date", nprocs=2, list={"limit": "1m"})
    other = with_overrides(several, {"A": "1"}, '["x", "y"]').spec
    assert (other.commands, other.nprocs, other.list.limit) == (("x", "y"), 2, 60.0)
    assert with_overrides(recipe(), {}, '["x"]').spec.commands == ("x",)
    assert with_overrides(several, {}, None, scale=2).spec.scale == 2
    with pytest.raises(Invalid, match=r"^start: spec\.command\[1\]: found ' '; write the shell line to run"):
        with_overrides(several, {}, '["x", " "]')
