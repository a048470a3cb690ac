"""The recipe: what a user writes to define a job, checked whole at the edge and frozen inside.

The schema is the `type: job` of Saturn Cloud's recipes (2025.10.01), with two optional groups of
our own: `placement` and `limits`. What this version cannot do is refused by name.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provisioner.core import field, problems
from provisioner.core.errors import Invalid
from provisioner.core.field import Ignored, later
from provisioner.core.launch import Market
from provisioner.core.source import Path, read
from provisioner.core.work import Repository

#: After its command a machine may still ship the log that waits on its disk.
LOGS_TIME = 600.0
#: The boot fuse's time: a machine without an assignment is gone by then, whatever a recipe says.
_BOOT_FUSE = 1200.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GitRepository(_Part):
    """A repository to clone, at the head of a reference."""

    url: field.RepositoryUrl
    #: Absolute, or below the working directory; unset: see `Spec.repositories`.
    path: field.Path | None = None
    #: Unset: the remote's default branch.
    reference: field.Reference | None = None
    reference_type: Literal["branch", "tag", "commit"] = "branch"
    #: Both mean the same here: a run has a fresh machine, so it always clones.
    on_restart: Literal["preserve changes", "reclone"] = "reclone"
    #: Taken and passed over: the machine finds out.
    public: field.Flag = False


class Placement(_Part):
    """Where else a machine may come from when the first choice has none."""

    #: Tried with `instance_type`, after it.
    instance_types: tuple[field.InstanceType, ...] = ()
    #: Empty: every zone of the installation.
    zones: tuple[field.Zone, ...] = ()
    #: On-demand when no spot machine is to be had: dearer, so it is the user's choice.
    spot_fallback: field.Flag = False


class Limits(_Part):
    """How long each part of a run may take, in seconds."""

    #: Long enough for a day's training; a hung command must not cost more than a day.
    runtime: Annotated[field.Duration, field.lasting()] = 86400.0
    #: None is `never`: waiting for a machine costs nothing.
    queue_time: field.DurationOrNever = None
    #: From launch to the agent's first report; large GPU machines take most of it, and a broken one all.
    boot: Annotated[field.Duration, field.lasting(_BOOT_FUSE)] = 600.0
    #: The image, and the clones beside it: tens of GB from a slow registry take half of this.
    pull: Annotated[field.Duration, field.lasting()] = 3600.0
    #: The start script: compiling an extension or fetching weights takes a good part of it.
    setup: Annotated[field.Duration, field.lasting()] = 3600.0
    #: From SIGTERM to SIGKILL: time for a checkpoint, well within a spot notice's two minutes.
    stop_grace: Annotated[field.Duration, field.lasting()] = 30.0

    @property
    def lifetime(self) -> float:
        """The most seconds a machine may live for a run: every part at its limit, and the log's end."""
        return self.boot + self.pull + self.setup + self.runtime + self.stop_grace + LOGS_TIME


def _one(scale: int) -> int:
    if scale != 1:
        raise ValueError("not in this version: more than one machine a run; start one run for each")
    return scale


class Spec(_Part):
    """One job."""

    name: field.Name
    #: `org/identity` or `identity`; unset: whoever applies it.
    owner: (
        Annotated[
            field.OwnerName,
            field.picked("name", frozenset(), "name the owner, by text or by {name}; ids come later"),
        ]
        | None
    ) = None
    description: Annotated[field.Text, Field(max_length=2048)] = ""
    tags: Mapping[str, field.Text] | None = None
    image: Annotated[
        field.ImageUri,
        field.picked("uri", frozenset({"enforce_trusted"}), "write text or {uri}; a catalogue of images comes later"),
    ]
    instance_type: field.InstanceType
    #: One line for `sh -c`.
    command: field.Command
    working_directory: field.AbsolutePath = "/home/jovyan/workspace"
    environment_variables: Mapping[field.VariableName, field.VariableValue] = Field(default_factory=dict)
    #: Shell, run in the container after the clone and before the command.
    start_script: field.Text | None = None
    git_repositories: tuple[GitRepository, ...] = ()
    scale: Annotated[
        field.Count, field.Kind(_one, {"type": ["integer", "string"], "pattern": "^0*1$", "maximum": 1})
    ] = 1
    use_spot_instance: field.Flag = False
    #: How often a run whose command failed is tried again.
    retries: field.Count = 0
    placement: Placement = Placement()
    limits: Limits = Limits()

    extra_packages: Annotated[None, later("packages by name; install them in start_script", {})] = None
    config_files: Annotated[None, later("files written at start; write them in start_script", {})] = None
    secrets: Annotated[None, later("secrets; the machine's own role can read what it is allowed to", [])] = None
    shared_folders: Annotated[None, later("shared folders; use S3", [])] = None
    schedule: Annotated[None, later("schedules; let cron call provision start", "")] = None
    concurrency_policy: Annotated[None, later("schedules, which this is about", "Allow")] = None
    token_scope: Annotated[None, later("API tokens in jobs", "")] = None
    start_dind: Annotated[None, later("Docker in Docker", False, *field.NO)] = None
    dask_cluster: Annotated[None, later("Dask clusters")] = None
    status: Annotated[None, later("start and stop by apply; use apply --start, start or stop")] = None
    subdomain: Ignored = None

    @property
    def image_uri(self) -> str:
        return self.image

    @property
    def instance_types(self) -> tuple[str, ...]:
        """What may be launched, in the order of preference."""
        return tuple(dict.fromkeys((self.instance_type, *self.placement.instance_types)))

    @property
    def markets(self) -> tuple[Market, ...]:
        """Where machines are bought, in the order of preference."""
        if not self.use_spot_instance:
            return (Market.ON_DEMAND,)
        return (Market.SPOT, Market.ON_DEMAND) if self.placement.spot_fallback else (Market.SPOT,)

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """What is cloned where. A single one without a path is checked out as the working directory."""
        alone = len(self.git_repositories) == 1
        return tuple(
            Repository(
                item.url,
                posixpath.normpath(
                    posixpath.join(
                        self.working_directory, item.path or ("" if alone else field.repository_name(item.url))
                    )
                ),
                item.reference or "",
                item.reference_type,
            )
            for item in self.git_repositories
        )


class Recipe(_Part):
    """A checked recipe."""

    schema_version: field.Text = "2025.10.01"
    type: Literal["job"]
    spec: Spec
    #: What `get` adds; a recipe that comes back brings it along.
    state: Ignored = None

    def dump(self) -> str:
        """Canonical JSON, every default written out: it means the same when defaults change."""
        empty = {name for name, info in Spec.model_fields.items() if info.annotation is type(None)}
        return json.dumps(self.model_dump(mode="json", exclude={"state": True, "spec": empty}), sort_keys=True)

    @classmethod
    def load(cls, text: str) -> "Recipe":
        """What `dump` wrote; raises Invalid when this version cannot run it."""
        return _checked(json.loads(text), "the stored recipe", {})


def parse_recipe(text: str | bytes, source: str) -> Recipe:
    """The recipe in YAML or JSON `text`; raises Invalid that tells every problem, each with its line."""
    document = read(text, source)
    if not isinstance(document.value, dict):
        raise Invalid(f"{source}: not a recipe: it should begin with 'type: job' and 'spec:'")
    kind = document.value.get("type")
    if kind in ("deployment", "workspace", "image"):
        reason = f"found {kind!r}; not in this version: only jobs"
        raise problems.invalid(source, [(("type",), reason)], document.lines)
    return _checked(document.value, source, document.lines)


def with_overrides(recipe: Recipe, env: Mapping[str, str], command: str | None) -> Recipe:
    """The recipe as one start wants it; raises Invalid as for a recipe."""
    data = json.loads(recipe.dump())
    data["spec"]["environment_variables"] |= env
    if command is not None:
        data["spec"]["command"] = command
    return _checked(data, "start", {})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of recipes, for editors: it takes what `parse_recipe` takes, and a little more."""
    schema = Recipe.model_json_schema()
    limits = schema["$defs"]["Limits"]["properties"]
    for name, default in Limits().model_dump(mode="json").items():
        limits[name]["default"] = default
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _checked(data: Any, source: str, lines: Mapping[Path, int]) -> Recipe:
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise problems.invalid(source, problems.told(error, Recipe), lines) from error
    clashes = list(_clashes(recipe.spec))
    if clashes:
        raise problems.invalid(source, clashes, lines)
    return recipe


def _clashes(spec: Spec) -> Iterator[tuple[Path, str]]:
    """What is right by itself and wrong beside the rest."""
    taken: dict[str, int] = {}
    for index, repository in enumerate(spec.repositories):
        first = taken.setdefault(repository.path, index)
        if first != index:
            where = ("spec", "git_repositories", index)
            yield where, f"{repository.path} is taken by git_repositories[{first}]; give one of them a path"
