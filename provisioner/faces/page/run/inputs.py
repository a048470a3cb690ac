"""What a run executes, as the page shows it: the most important parts of its recipe, and the recipe as YAML."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.core.history.differences import changed_fields
from provisioner.core.history.texts import short_yaml
from provisioner.core.views.run import RunRecipe

#: Maximum number of characters of the recipe, of a command and of a value that the page shows, and of rows.
RECIPE_MOST, COMMAND_MOST, VALUE_MOST, ROWS_MOST = 12_000, 4_000, 400, 100


@dataclass(frozen=True)
class Inputs:
    command: str
    #: Name and value of each variable, and whether the start changed it.
    environment: tuple[tuple[str, str, bool], ...]
    #: Name and text of other parts: image, repositories, machine.
    facts: tuple[tuple[str, str], ...]
    recipe: str
    #: Whether the page shows only the beginning of the recipe.
    cut: bool
    #: Names of the fields in which the run differs from its job's revision: inputs of its start.
    changed: tuple[str, ...]
    #: Whether the recipe of the job's revision is known.
    known: bool


def inputs_of(item: RunRecipe, revision: Mapping[str, Any] | None) -> Inputs:
    """Return the inputs; `revision` is the recipe of the job's revision, or None if it is unknown."""
    spec: Mapping[str, Any] = item.recipe.get("spec") or {}
    command = spec.get("command")
    if isinstance(command, list):
        command = f"a list of {len(command):,} commands"
    variables = spec.get("environment_variables") or {}
    text = short_yaml(item.recipe)
    changed = changed_fields(revision.get("spec") or {}, spec) if revision else ()
    ours = {name.removeprefix("environment_variables.") for name in changed}
    return Inputs(
        command=_cut(str(command or ""), COMMAND_MOST),
        environment=tuple(
            (str(name), _cut(str(value), VALUE_MOST), name in ours) for name, value in _first(variables.items())
        ),
        facts=tuple(_facts(spec)),
        recipe=text[:RECIPE_MOST],
        cut=len(text) > RECIPE_MOST,
        changed=changed[:ROWS_MOST],
        known=revision is not None,
    )


def _facts(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Image", _cut(str(spec.get("image", "")), VALUE_MOST)
    for each in _first(spec.get("git_repositories") or ()):
        reference = each.get("reference")
        yield "Git", _cut(f"{each.get('url', '')}{f' at {reference}' if reference else ''}", VALUE_MOST)
    for each in _first(spec.get("secrets") or ()):
        yield "Secret", _cut(f"{each.get('location', '')} from {each.get('name', '')}", VALUE_MOST)
    placement = spec.get("placement") or {}
    types = " or ".join(map(str, [spec.get("instance_type"), *_first(placement.get("instance_types") or ())]))
    market = "spot" if spec.get("use_spot_instance") else "on-demand"
    count = spec.get("scale") or 1
    yield "Machines" if count != 1 else "Machine", f"{f'{count} x ' if count != 1 else ''}{market} {types}"


def _first(items: Any) -> Any:
    return list(items)[:ROWS_MOST]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
