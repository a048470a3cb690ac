"""Saturn's recipes of before 2023, which are flat: a group (`job:`) names the kind, and there is no `spec`.

Their schema is saturncloud/recipes, resources/schema.json. A flat recipe becomes one of today's where it asks for
nothing else than those can say.
"""

from collections.abc import Mapping
from typing import Any

from provisioner.core.source import Path

#: Groups that name a kind of resource; of these only jobs are run here.
_OTHER_KINDS = ("deployment", "jupyter_server", "rstudio_server")
#: What fields are called today.
_RENAMED = {"image_uri": "image", "backoff_limit": "retries", "credentials": "secrets"}
#: Who may clone the recipe: `owner` asks for nothing, for nobody else sees it here.
_VISIBILITY = ("", None, "owner")
#: What says nothing about the job.
_PASSED_OVER = ("schema_version", "version", "state", "visibility")


def is_flat(value: Any) -> bool:
    """Return whether a document's content is a flat recipe."""
    return (
        isinstance(value, dict) and not {"type", "spec"} & value.keys() and bool({"job", *_OTHER_KINDS} & value.keys())
    )


class FlatRecipe:
    """One flat recipe."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        job = value.get("job")
        self._job: Mapping[str, Any] = job if isinstance(job, dict) else {}
        #: Where each field of `spec` is written.
        self._places: dict[str, Path] = {_RENAMED.get(name, name): ("job", name) for name in self._job}
        top = [name for name in value if name not in ("job", *_PASSED_OVER)]
        self._places = {_RENAMED.get(name, name): (name,) for name in top} | self._places

    def problems(self) -> list[tuple[Path, str]]:
        """Return what a recipe of today cannot say."""
        found: list[tuple[Path, str]] = [
            ((kind,), "not in this version: only jobs") for kind in _OTHER_KINDS if self._value.get(kind) is not None
        ]
        if "job" in self._value and not self._job:
            found.append((("job",), "write a mapping with instance_type and command"))
        if self._value.get("visibility") not in _VISIBILITY:
            found.append((("visibility",), "not in this version: jobs that others clone; leave it out"))
        names = [*self._job, *(name for name in self._value if name not in ("job", *_PASSED_OVER))]
        for name in names:
            if [_RENAMED.get(each, each) for each in names].count(_RENAMED.get(name, name)) > 1:
                place: Path = ("job", name) if name in self._job else (name,)
                found.append((place, "it is there twice, perhaps by another name; leave one of them out"))
        return found

    def recipe(self) -> dict[str, Any]:
        """Return the same as a recipe of today."""
        spec: dict[str, Any] = {}
        for name, place in self._places.items():
            group = self._job if place[0] == "job" else self._value
            spec[name] = group[str(place[-1])]
        if isinstance(packages := spec.get("extra_packages"), dict):
            spec["extra_packages"] = {name: _installed(group) for name, group in packages.items()}
        return {"type": "job", "spec": {name: each for name, each in spec.items() if name not in _OTHER_KINDS}}

    def written(self, path: Path) -> Path:
        """Return where the user wrote what today's recipes have at `path`."""
        if len(path) < 2 or path[0] != "spec":
            return path
        name = str(path[1])
        known = ("job", name) if name in ("command", "instance_type") else (name,)
        return (*self._places.get(name, known), *path[2:])


def _installed(group: Any) -> Any:
    if not isinstance(group, dict) or "install" in group:
        return group
    return {"install" if name == "packages" else name: each for name, each in group.items()}
