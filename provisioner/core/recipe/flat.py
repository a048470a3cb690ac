"""Saturn's flat recipes, from before 2023: a mapping such as `job:` names the kind of resource; there is no `spec`.

Their schema is saturncloud/recipes, resources/schema.json. A flat recipe is translated to a current recipe if current
recipes have a field for each of its fields.
"""

from collections.abc import Mapping
from typing import Any

from provisioner.core.recipe.yaml import Path

#: The kinds of resource in flat recipes that are refused, because they are not jobs.
_OTHER_KINDS = ("deployment", "jupyter_server", "rstudio_server")
#: Current names of renamed fields.
_RENAMED = {"image_uri": "image", "backoff_limit": "retries", "credentials": "secrets"}
#: Accepted values of `visibility`. `owner` changes nothing: users see only their own jobs.
_VISIBILITY = ("", None, "owner")
#: Fields that are ignored, because they do not describe the job.
_PASSED_OVER = ("schema_version", "version", "state", "visibility")


def is_flat(value: Any) -> bool:
    """Return whether the parsed document is a flat recipe."""
    return (
        isinstance(value, dict) and not {"type", "spec"} & value.keys() and bool({"job", *_OTHER_KINDS} & value.keys())
    )


class FlatRecipe:
    """One flat recipe."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        job = value.get("job")
        self._job: Mapping[str, Any] = job if isinstance(job, dict) else {}
        #: By field of a current recipe's `spec`: the path of the same field in the flat recipe.
        self._places: dict[str, Path] = {_RENAMED.get(name, name): ("job", name) for name in self._job}
        top = [name for name in value if name not in ("job", *_PASSED_OVER)]
        self._places = {_RENAMED.get(name, name): (name,) for name in top} | self._places

    def problems(self) -> list[tuple[Path, str]]:
        """Return the problems as (path, message): the parts that a current recipe cannot express."""
        found: list[tuple[Path, str]] = [
            ((kind,), "not in this version: only jobs") for kind in _OTHER_KINDS if self._value.get(kind) is not None
        ]
        if "job" in self._value and not self._job:
            found.append((("job",), "write a mapping with instance_type and command"))
        if self._value.get("visibility") not in _VISIBILITY:
            found.append((("visibility",), "not in this version: jobs that others can clone; leave visibility out"))
        names = [*self._job, *(name for name in self._value if name not in ("job", *_PASSED_OVER))]
        for name in names:
            if [_RENAMED.get(each, each) for each in names].count(_RENAMED.get(name, name)) > 1:
                place: Path = ("job", name) if name in self._job else (name,)
                found.append((place, "it is set twice, perhaps under its old and its new name; leave one out"))
        return found

    def recipe(self) -> dict[str, Any]:
        """Return the flat recipe translated to a current recipe."""
        spec: dict[str, Any] = {}
        for name, place in self._places.items():
            group = self._job if place[0] == "job" else self._value
            spec[name] = group[str(place[-1])]
        if isinstance(packages := spec.get("extra_packages"), dict):
            spec["extra_packages"] = {name: _installed(group) for name, group in packages.items()}
        return {"type": "job", "spec": {name: each for name, each in spec.items() if name not in _OTHER_KINDS}}

    def written(self, path: Path) -> Path:
        """Return the path in the flat recipe for a path in the current one, so that errors show the user's names."""
        if len(path) < 2 or path[0] != "spec":
            return path
        name = str(path[1])
        known = ("job", name) if name in ("command", "instance_type") else (name,)
        return (*self._places.get(name, known), *path[2:])


def _installed(group: Any) -> Any:
    if not isinstance(group, dict) or "install" in group:
        return group
    return {"install" if name == "packages" else name: each for name, each in group.items()}
