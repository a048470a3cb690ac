"""Parse and check recipes, the documents with which users define jobs.

The schema is the `type: job` of Saturn Cloud's recipes (2025.10.01), with additional optional fields: `placement`,
`limits`, `retry`, `gang`, `nprocs`, `list`, `git`, `registry`, `shm_size`, `timezone`, `schedule_catchup` and
`checkpoint`. Saturn's fields that this version does not support are refused, each with a message of its own.
"""

import bisect
import json
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from provisioner.core.cloud.offers import Market
from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Attachment
from provisioner.core.recipe import errors, fields, flat, kinds, lists
from provisioner.core.recipe.attachments import ConfigFiles, Git, GitRepository, Packages, Registry, Secret
from provisioner.core.recipe.git import repository_name
from provisioner.core.recipe.jobs import SCHEMA, Catchup, Concurrency, Job, Schedule
from provisioner.core.recipe.kinds import Ignored, Part, later, or_nothing
from provisioner.core.recipe.parts import Gang, Limits, Placement, Retry, of_reservation
from provisioner.core.recipe.yaml import LARGEST, Path, read

#: The folder that relative paths of files start from.
HOME = "/home/jovyan"
#: A machine that may work for several attempts exists for at most this many times the lifetime of one attempt.
MACHINE_LIFETIMES = 3


class Spec(Part):
    """The definition of one job."""

    name: fields.Name
    #: `org/identity` or `identity`; if unset, the first owner of the caller that applies the recipe.
    owner: (
        Annotated[
            fields.OwnerName,
            kinds.picked("name", frozenset(), "name the owner, by text or by {name}; ids come later"),
        ]
        | None
    ) = None
    description: Annotated[fields.Text, Field(max_length=2048)] = ""
    tags: Mapping[str, fields.Text] | None = None
    image: Annotated[
        fields.ImageUri,
        kinds.picked("uri", frozenset({"enforce_trusted"}), "write text or {uri}; a catalogue of images comes later"),
    ]
    instance_type: fields.InstanceType
    #: Executed by `sh -c`, or by the interpreter of a `#!` line. Each command of a list runs once.
    command: lists.Command
    working_directory: fields.AbsolutePath = "/home/jovyan/workspace"
    environment_variables: Mapping[fields.VariableName, fields.VariableValue] = Field(default_factory=dict)
    #: Executed in the container after the clone and before the command, by `sh` or the interpreter of a `#!` line.
    start_script: fields.Script | None = None
    git_repositories: tuple[GitRepository, ...] = ()
    #: Number of machines, which all execute the command; if there are several, they are launched and start together.
    scale: Annotated[int, kinds.between(1, 1000, "the number of machines of a run")] = 1
    #: Number of commands of a list that run at once on a machine.
    nprocs: lists.Slots = 1
    use_spot_instance: fields.Flag = False
    #: How often a run is tried again after its command failed.
    retries: fields.Count = 0
    extra_packages: Annotated[Packages, or_nothing({})] = Packages()
    config_files: ConfigFiles = Field(default_factory=dict)
    secrets: Annotated[tuple[Secret, ...], or_nothing([])] = ()
    git: Git = Git()
    registry: Registry = Registry()
    placement: Placement = Placement()
    limits: Limits = Limits()
    retry: Retry = Retry()
    gang: Gang = Gang()
    list: lists.ListOptions = lists.ListOptions()
    #: Bytes of /dev/shm, which data loaders fill; if unset, half of the machine's memory.
    shm_size: Annotated[fields.Size, kinds.sized("1Mi", "16Ti")] | None = None
    #: The time zone of the schedule, UTC if unset. The job gets it as the variable TZ, unless the recipe sets TZ.
    timezone: fields.Timezone | None = None
    #: Cron's five fields, a name such as `@daily`, or `@every 4h`.
    schedule: fields.Schedule = None
    #: Applies only to runs that the schedule started: other runs neither prevent a start nor are stopped.
    concurrency_policy: Annotated[Concurrency, or_nothing("Allow")] = Concurrency.ALLOW
    #: Which of the starts that were due while no control plane ran are made later.
    schedule_catchup: Catchup = Catchup.LAST
    #: Whether the run gets a folder in S3 that its attempts share.
    checkpoint: fields.Flag = False

    shared_folders: Annotated[None, later("shared folders; use S3", [])] = None
    token_scope: Annotated[
        None, later("API tokens in jobs; keep one of `provision token create` as a secret, and name it in secrets", "")
    ] = None
    start_dind: Annotated[None, later("Docker in Docker", False, *fields.NO)] = None
    dask_cluster: Annotated[None, later("Dask clusters")] = None
    status: Annotated[None, later("start and stop by apply; use apply --start, start or stop")] = None
    subdomain: Ignored = None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a list; empty for a single command."""
        return () if isinstance(self.command, str) else self.command

    @property
    def line(self) -> str:
        """The single command; empty for a list."""
        return self.command if isinstance(self.command, str) else ""

    @property
    def together(self) -> int:
        """Number of machines that are launched and start together: 1 for a list."""
        return 1 if self.commands else self.scale

    @property
    def bounds(self) -> Limits:
        """The limits that apply: only runs with several machines have `gather`, by default pull and setup together."""
        limits = self.limits
        if self.together == 1:
            return limits if limits.gather is None else limits.model_copy(update={"gather": None})
        return limits.model_copy(update={"gather": limits.gather or limits.pull + limits.setup})

    @property
    def keeps_survivors(self) -> bool:
        """Whether the other machines wait for the next attempt after one of them was lost or interrupted."""
        joinable = self.use_spot_instance and self.placement.group is None
        choice = self.gang.survivors or ("keep" if joinable else "release")
        return self.together > 1 and choice == "keep"

    @property
    def lifetime(self) -> float:
        """Seconds that a machine may exist for one attempt: the longest of the recipe's instance types."""
        return max(self.bounds.on(name).lifetime for name in self.instance_types)

    @property
    def machine_lifetime(self) -> float:
        """Seconds that a machine may exist: longer than one attempt if it may be used for several."""
        return self.lifetime * (MACHINE_LIFETIMES if self.keeps_survivors else 1)

    @property
    def image_uri(self) -> str:
        return self.image

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The instance types that may be launched, in order of preference."""
        return tuple(dict.fromkeys((self.instance_type, *self.placement.instance_types)))

    @property
    def markets(self) -> tuple[Market, ...]:
        """The markets in which machines may be launched, in order of preference."""
        if not self.use_spot_instance:
            return (Market.ON_DEMAND,)
        return (Market.SPOT, Market.ON_DEMAND) if self.placement.spot_fallback else (Market.SPOT,)

    @property
    def plan(self) -> Schedule | None:
        """The job's schedule, or None."""
        if self.schedule is None:
            return None
        return Schedule(self.schedule, self.timezone or "UTC", self.concurrency_policy, self.schedule_catchup)

    @property
    def checkouts(self) -> tuple[str, ...]:
        """The absolute path of each repository. A single repository without a path gets the working directory."""
        alone = len(self.git_repositories) == 1
        return tuple(
            posixpath.normpath(
                posixpath.join(self.working_directory, item.path or ("" if alone else repository_name(item.url)))
            )
            for item in self.git_repositories
        )


class Recipe(Part):
    """A checked recipe."""

    schema_version: fields.SchemaVersion = SCHEMA
    type: Literal["job"]
    spec: Spec
    #: `get` adds this field, so `apply` must accept it.
    state: Ignored = None

    def dump(self) -> str:
        """Return canonical JSON with every default written out: a new version does not change a stored recipe."""
        return json.dumps(self.plain(), sort_keys=True)

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain values, as `dump` writes it."""
        return self.model_dump(mode="json", exclude={"state": True, "spec": _REFUSED})

    @classmethod
    def load(cls, text: str) -> "Recipe":
        """Load a recipe that `dump` wrote; raises Invalid if this version cannot run it.

        Checks that are only for `apply` are skipped: a recipe that an earlier version accepted keeps running.
        """
        try:
            return cls.model_validate(json.loads(text), context=kinds.STORED)
        except ValidationError as error:
            raise errors.invalid("the stored recipe", errors.told(error, cls), {}) from error


#: Saturn's fields that this version does not support: they are declared only to be refused with a message of their own.
_REFUSED: dict[str, Any] = {name: True for name, info in Spec.model_fields.items() if info.annotation is type(None)}
#: A function that returns the parts of a spec that an installation cannot grant, as (path, reason).
Ungranted = Callable[["Spec"], Iterable[tuple[Path, str]]]


def parse_recipe(text: str | bytes, source: str, ungranted: Ungranted = lambda _: ()) -> Recipe:
    """Return the recipe in YAML or JSON `text`; raises Invalid with all problems, each with its line number."""
    document = read(text, source)
    if flat.is_flat(document.value):
        old = flat.FlatRecipe(document.value)
        if wrong := old.problems():
            raise errors.invalid(source, wrong, document.lines)
        return _checked(old.recipe(), source, document.lines, ungranted, old.written)
    if not isinstance(document.value, dict) or not {"type", "spec"} & document.value.keys():
        raise Invalid(f"{source}: not a recipe: it should begin with 'type: job' and 'spec:'")
    kind = document.value.get("type")
    if kind in ("deployment", "workspace", "image"):
        reason = f"found {kind!r}; not in this version: only jobs"
        raise errors.invalid(source, [(("type",), reason)], document.lines)
    return _checked(document.value, source, document.lines, ungranted)


def with_overrides(
    recipe: Recipe,
    env: Mapping[str, str],
    command: str | None,
    ungranted: Ungranted = lambda _: (),
    *,
    scale: int | None = None,
) -> Recipe:
    """Return the recipe for one start, with these variables, command and number of machines.

    A value of None keeps that of the recipe. Raises Invalid like `parse_recipe`.
    """
    if sum(map(len, (*env, *env.values(), command or ""))) > LARGEST:
        raise Invalid(f"start: variables and command exceed {LARGEST >> 10} KiB; pass data through S3 instead")
    data = recipe.plain()
    data["spec"]["environment_variables"] |= env
    changed: list[Path] = [("spec", "environment_variables", name) for name in env]
    if command is not None:
        data["spec"]["command"] = command
        changed.append(("spec", "command"))
    if scale is not None:
        data["spec"]["scale"] = scale
        changed.append(("spec", "scale"))
        if scale == 1:
            # `start` cannot change the placement, and one machine loses nothing without the group. So the group is left
            # out, as the options of `gang` are.
            data["spec"]["placement"]["group"] = None
    return _amended(recipe, data, changed, "start", ungranted)


def grant(recipe: Recipe, source: str, ungranted: Ungranted) -> None:
    """Raise Invalid, like `parse_recipe`, if the installation cannot grant a part of a checked recipe."""
    if wrong := list(ungranted(recipe.spec)):
        raise errors.invalid(source, wrong, {})


def with_fields(recipe: Recipe, changed: Mapping[str, Any], source: str, ungranted: Ungranted = lambda _: ()) -> Recipe:
    """Return the recipe with these fields of its spec replaced; raises Invalid like `parse_recipe`."""
    data = recipe.plain()
    data["spec"] |= changed
    return _amended(recipe, data, [("spec", name) for name in changed], source, ungranted)


def planned(recipe: Recipe, schedule: Mapping[str, str]) -> Schedule | None:
    """Return the recipe's schedule with these fields replaced, or None; raises Invalid like `parse_recipe`."""
    return with_fields(recipe, schedule, "schedule").spec.plan


def refusals(job: Job) -> tuple[str, ...]:
    """Return one line for each reason for which `apply` would refuse the job's stored recipe or schedule now.

    Such a job was stored by an earlier version, which had fewer rules. It can still be started, also by its schedule.
    """
    try:
        stored = Recipe.load(job.recipe)
    except Invalid as error:
        return tuple(str(error).splitlines())
    _, wrong = _wrong(stored.plain())
    if job.schedule is not None and not job.schedule_of_recipe:
        said = {**stored.plain()["spec"], "schedule": job.schedule.cron}
        wrong += [each for each in _wrong({**stored.plain(), "spec": said})[1] if each not in wrong]
    return errors.lines(wrong)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes, for editors: it accepts every valid recipe, and a few invalid ones."""
    schema = Recipe.model_json_schema()
    for group in (Limits(), Retry(), lists.ListOptions()):
        properties = schema["$defs"][type(group).__name__]["properties"]
        for name, default in group.model_dump(mode="json").items():
            properties[name]["default"] = default
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _checked(
    data: Any,
    source: str,
    lines: Mapping[Path, int],
    ungranted: Ungranted = lambda _: (),
    written: Callable[[Path], Path] = lambda path: path,
) -> Recipe:
    """Return the recipe; raises Invalid with all errors. `written` maps a path in `data` to the path in the source."""
    recipe, wrong = _wrong(data)
    wrong += ungranted(recipe.spec) if recipe and not wrong else ()
    if recipe is None or wrong:
        raise errors.invalid(source, [(written(path), text) for path, text in wrong], lines)
    return recipe


def _amended(
    recipe: Recipe, data: Any, changed: Collection[Path], source: str, ungranted: Ungranted = lambda _: ()
) -> Recipe:
    """Return the recipe in `data`: a stored recipe with new values at the paths in `changed`.

    Raises Invalid for errors in the new values. Values that were stored before a rule existed are accepted.
    """
    amended, wrong = _wrong(data)
    if wrong:
        known = {each for each in _wrong(recipe.plain())[1] if not any(each[0][: len(at)] == at for at in changed)}
        wrong = [each for each in wrong if each not in known]
    if amended is not None and not wrong:
        wrong = list(ungranted(amended.spec))
    if amended is None or wrong:
        raise errors.invalid(source, wrong, {})
    return amended


def _wrong(data: Any) -> tuple[Recipe | None, list[tuple[Path, str]]]:
    """Return the recipe, or None if it is invalid even as a stored one; and the problems that `apply` finds in it."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        wrong = errors.told(error, Recipe)
    else:
        return recipe, list(_clashes(recipe.spec))
    try:
        recipe = Recipe.model_validate(data, context=kinds.STORED)
    except ValidationError:
        return None, wrong
    return recipe, [*wrong, *_clashes(recipe.spec)]


def _clashes(spec: Spec) -> Iterator[tuple[Path, str]]:
    """Yield the problems of fields that are valid alone but not together, as (path, message)."""
    if spec.placement.group and spec.gang.survivors == "keep":
        yield (
            ("spec", "gang", "survivors"),
            "machines in a placement group cannot be kept, because EC2 seldom has room for another one in it",
        )
    if spec.placement.group and spec.together == 1:
        needs = "set scale to 2 or more, or leave placement.group out"
        if spec.commands:
            needs = "the machines of a list do not work together; leave placement.group out"
        yield ("spec", "placement", "group"), f"a placement group is for several machines: {needs}"
    if spec.gang.workers == "ignore" and spec.gang.success != "leader":
        yield ("spec", "gang", "workers"), "ignore needs success: leader, because then rank 0 decides when the run ends"
    taken: dict[str, int] = {}
    for index, path in enumerate(spec.checkouts):
        first = taken.setdefault(path, index)
        if first != index:
            where = ("spec", "git_repositories", index)
            yield where, f"{path} is taken by git_repositories[{first}]; give one of them a path"
    holders = {name: f"environment_variables.{name}" for name in spec.environment_variables}
    holders |= {posixpath.join(HOME, path): f"config_files.{path}" for path in spec.config_files}
    for index, secret in enumerate(spec.secrets):
        is_file = secret.attachment is Attachment.FILE
        place = posixpath.join(HOME, secret.location) if is_file else secret.location
        holder = holders.setdefault(place, f"secrets[{index}]")
        if holder != f"secrets[{index}]":
            yield (
                ("spec", "secrets", index, "location"),
                f"{secret.location} is taken by {holder}; leave one of them out",
            )
    yield from (*_files_that_are_folders(spec), *of_reservation(spec.placement, spot=spec.use_spot_instance))
    yield from lists.of_single(spec.retry) if spec.commands else ()
    for index, code in enumerate(spec.retry.requeue_on):
        if code in spec.retry.on:
            yield (
                ("spec", "retry", "requeue_on", index),
                f"{code} is in retry.on too, where it uses up retries; leave it out of one of them",
            )


def _files_that_are_folders(spec: Spec) -> Iterator[tuple[Path, str]]:
    files: dict[str, Path] = {posixpath.join(HOME, path): ("spec", "config_files", path) for path in spec.config_files}
    for index, secret in enumerate(spec.secrets):
        if secret.attachment is Attachment.FILE:
            files.setdefault(posixpath.join(HOME, secret.location), ("spec", "secrets", index, "location"))
    needed = {path: path for path in files} | {f"{path}/": f"the repository in {path}" for path in spec.checkouts}
    needed[f"{spec.working_directory}/"] = "the working directory"
    # A recipe may have thousands of files: search in sorted order, where the paths below a file begin at `file/`.
    paths = sorted(needed)
    for file, where in files.items():
        at = bisect.bisect_left(paths, f"{file}/")
        if at < len(paths) and paths[at].startswith(f"{file}/"):
            yield where, f"{file} cannot be a file: {needed[paths[at]]} needs a folder there"
