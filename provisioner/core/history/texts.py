"""Write stored recipes as text for people."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import yaml

from provisioner.core.errors import Invalid
from provisioner.core.recipe.recipe import Recipe, parse_recipe


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, if YAML allows this."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None),
)


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as YAML, in the order of its fields. Characters that hide or reorder text are escaped."""

    def written(*, unicode: bool) -> str:
        return yaml.dump(dict(recipe), None, _Dumper, sort_keys=False, allow_unicode=unicode, width=100)

    text = written(unicode=True)
    return text if all(line.isprintable() for line in text.split("\n")) else written(unicode=False)


def short_yaml(recipe: Mapping[str, Any]) -> str:
    """Return a stored recipe as YAML without the fields that have their default.

    If `apply` would not store the same recipe from it, as some recipes of earlier versions are refused now, return the
    whole recipe.
    """
    return _short(json.dumps(recipe))


@functools.lru_cache(maxsize=256)
def _short(text: str) -> str:
    # The result is cached: reading a recipe takes milliseconds, and a page shows several.
    recipe = json.loads(text)
    try:
        found = Recipe.load(text)
        short = as_yaml(
            {"schema_version": found.schema_version, **found.model_dump(mode="json", exclude_defaults=True)}
        )
        if parse_recipe(short, "recipe").dump() == found.dump():
            return short
    except Invalid:
        pass
    return as_yaml(recipe)
