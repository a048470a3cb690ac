"""Parse and check recipes, the documents with which users define jobs.

The schema is the `type: job` of Saturn Cloud's recipes (2025.10.01), with additional optional fields: `placement`,
`limits`, `retry`, `git`, `registry`, `shm_size`, `timezone`, `schedule_catchup` and `checkpoint`. Saturn's fields that
this version does not support are refused, each with a message of its own.
"""

import bisect
import json
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from provisioner.core.cloud.offers import Market
from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Attachment
from provisioner.core.recipe import duration, errors, fields, flat, kinds
from provisioner.core.recipe.attachments import ConfigFiles, Git, GitRepository, Packages, Registry, Secret
from provisioner.core.recipe.git import repository_name
from provisioner.core.recipe.jobs import SCHEMA, Catchup, Concurrency, Job, Schedule
from provisioner.core.recipe.kinds import Ignored, Part, later, or_nothing
from provisioner.core.recipe.yaml import LARGEST, Path, read

#: Maximum number of seconds after the command's end in which a machine ships the log that is still on its disk.
LOGS_TIME = 600.0
#: The folder that relative paths of files start from.
HOME = "/home/jovyan"
#: Seconds of the boot fuse, which powers off a machine without a work order, whatever the recipe's limits are.
_BOOT_FUSE = 1200.0
#: The least `limits.silence`, in seconds: heartbeats may be lost, and no machine counts as silent earlier.
_SHORTEST_SILENCE = 180.0


class Placement(Part):
    """Where machines may be launched, and alternatives if the first choice has no capacity."""

    #: Instance types to try after `instance_type`.
    instance_types: tuple[fields.InstanceType, ...] = ()
    #: Zones to launch in; if empty, all zones of the installation.
    zones: tuple[fields.Zone, ...] = ()
    #: Whether to launch on-demand if no spot machine is available. On-demand costs more, so the user decides.
    spot_fallback: fields.Flag = False
    #: Some of the installation's subnets; if empty, all of them.
    subnets: tuple[fields.Subnet, ...] = ()
    #: Bytes for the AMI, the job's unpacked image and its data; if unset, the installation's size. EBS allows 16 TiB.
    disk_size: Annotated[fields.Size, kinds.sized("8Gi", "16Ti")] | None = None
    #: MiB/s of the disk; if unset, EBS's default of 125.
    disk_throughput: Annotated[int, kinds.between(125, 1000, "MiB a second")] | None = None
    #: With `none`, instance types without an NVIDIA GPU are accepted; otherwise such a type counts as a mistake.
    gpu: Literal["required", "none"] = "required"


def _patient(silence: float | None) -> float | None:
    if silence is not None and silence < _SHORTEST_SILENCE:
        raise ValueError(f"write at least {duration.text(_SHORTEST_SILENCE)}, or never")
    return silence


class Limits(Part):
    """The longest duration of each part of a run, in seconds."""

    #: For the command. The default allows a day of training, and limits the cost of a command that hangs.
    runtime: Annotated[fields.Duration, fields.lasting()] = 86400.0
    #: For the wait for a machine. The default is `never` (None), because waiting costs nothing.
    queue_time: fields.DurationOrNever = None
    #: From launch to the agent's first report, or from delivery of the work order if that was later: an agent without a
    #: work order cannot report. Large GPU machines need most of the default, and a broken machine uses all of it.
    boot: Annotated[fields.Duration, fields.lasting(_BOOT_FUSE)] = 600.0
    #: For pulling the image and cloning, which are parallel: tens of GB from a slow registry take half of the default.
    pull: Annotated[fields.Duration, fields.lasting()] = 3600.0
    #: For the start script: compiling an extension or fetching weights takes a large part of the default.
    setup: Annotated[fields.Duration, fields.lasting()] = 3600.0
    #: From SIGTERM to SIGKILL after a stop or a limit, to save a checkpoint. A spot notice leaves about 100 s instead.
    stop_grace: Annotated[fields.Duration, fields.lasting()] = 30.0
    #: A machine that sends no report for this long counts as lost, even if EC2's status checks pass. With `never`
    #: (None), silence alone does not make it lost before the end of its lifetime.
    silence: Annotated[fields.DurationOrNever, AfterValidator(_patient)] = None

    @property
    def lifetime(self) -> float:
        """Seconds that a machine may exist for a run: the sum of the limits, and the time to ship the log."""
        return self.boot + self.pull + self.setup + self.runtime + self.stop_grace + LOGS_TIME


class Retry(Part):
    """Which attempts are followed by another attempt, and when."""

    #: Exit codes after which the run is tried again, up to `retries` times; it fails at once with any other code. If
    #: empty, all codes.
    on: tuple[fields.ExitCode, ...] = ()
    #: Exit codes with which the command reports that its work is saved but not finished. The command then runs again
    #: without using up `retries`, at most as often as after failures of the infrastructure.
    requeue_on: tuple[fields.ExitCode, ...] = ()
    #: Pause after a failed attempt, in seconds. After a failure of the infrastructure, other pauses apply.
    backoff: fields.DurationOrNow = 0.0
    #: Whether a command that had begun may run again on another machine, if the first machine is lost or interrupted.
    rerun: Literal["always", "before_start"] = "always"


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
    #: Executed by `sh -c`, or by the interpreter of a `#!` line.
    command: fields.Command
    working_directory: fields.AbsolutePath = "/home/jovyan/workspace"
    environment_variables: Mapping[fields.VariableName, fields.VariableValue] = Field(default_factory=dict)
    #: Executed in the container after the clone and before the command, by `sh` or the interpreter of a `#!` line.
    start_script: fields.Script | None = None
    git_repositories: tuple[GitRepository, ...] = ()
    scale: Annotated[
        fields.Count, kinds.Kind(fields.one_machine, {"type": ["integer", "string"], "pattern": "^0*1$", "maximum": 1})
    ] = 1
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

    nprocs: Annotated[None, later("many commands on one machine; start one run for each")] = None
    shared_folders: Annotated[None, later("shared folders; use S3", [])] = None
    token_scope: Annotated[
        None, later("API tokens in jobs; keep one of `provision token create` as a secret, and name it in secrets", "")
    ] = None
    start_dind: Annotated[None, later("Docker in Docker", False, *fields.NO)] = None
    dask_cluster: Annotated[None, later("Dask clusters")] = None
    status: Annotated[None, later("start and stop by apply; use apply --start, start or stop")] = None
    subdomain: Ignored = None

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
_REFUSED = {name for name, info in Spec.model_fields.items() if info.annotation is type(None)}
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
    recipe: Recipe, env: Mapping[str, str], command: str | None, ungranted: Ungranted = lambda _: ()
) -> Recipe:
    """Return the recipe for one start, with these variables and this command; raises Invalid like `parse_recipe`."""
    if sum(map(len, (*env, *env.values(), command or ""))) > LARGEST:
        raise Invalid(f"start: variables and command exceed {LARGEST >> 10} KiB; pass data through S3 instead")
    data = recipe.plain()
    data["spec"]["environment_variables"] |= env
    changed: list[Path] = [("spec", "environment_variables", name) for name in env]
    if command is not None:
        data["spec"]["command"] = command
        changed.append(("spec", "command"))
    return _amended(recipe, data, changed, "start", ungranted)


def grant(recipe: Recipe, source: str, ungranted: Ungranted) -> None:
    """Raise Invalid, like `parse_recipe`, if the installation cannot grant a part of a checked recipe."""
    if wrong := list(ungranted(recipe.spec)):
        raise errors.invalid(source, wrong, {})


def with_fields(recipe: Recipe, changed: Mapping[str, str], source: str, ungranted: Ungranted = lambda _: ()) -> Recipe:
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
    for group in (Limits(), Retry()):
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
    yield from _files_that_are_folders(spec)
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
