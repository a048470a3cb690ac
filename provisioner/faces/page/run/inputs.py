"""What a run executes, as the page shows it: the most important parts of its recipe, and the whole recipe as YAML."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from provisioner.core.views.run import RunRecipe

#: Maximum number of characters of the recipe, of a command and of a value that the page shows, and of rows.
RECIPE_MOST, COMMAND_MOST, VALUE_MOST, ROWS_MOST = 12_000, 4_000, 400, 100


@dataclass(frozen=True)
class Inputs:
    command: str
    #: Name and value of each variable.
    environment: tuple[tuple[str, str], ...]
    #: Name and text of other parts: image, repositories, machine.
    facts: tuple[tuple[str, str], ...]
    recipe: str
    #: Whether the recipe is longer than what is shown.
    cut: bool


def inputs_of(item: RunRecipe) -> Inputs:
    spec: Mapping[str, Any] = item.recipe.get("spec") or {}
    command = spec.get("command")
    if isinstance(command, list):
        command = f"a list of {len(command):,} commands"
    variables = spec.get("environment_variables") or {}
    text = as_yaml(item)
    return Inputs(
        command=_cut(str(command or ""), COMMAND_MOST),
        environment=tuple((str(name), _cut(str(value), VALUE_MOST)) for name, value in _first(variables.items())),
        facts=tuple(_facts(spec)),
        recipe=text[:RECIPE_MOST],
        cut=len(text) > RECIPE_MOST,
    )


def as_yaml(item: RunRecipe) -> str:
    """Return the recipe as YAML that `apply` accepts."""
    return yaml.safe_dump(dict(item.recipe), sort_keys=False, allow_unicode=True, width=100)


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
