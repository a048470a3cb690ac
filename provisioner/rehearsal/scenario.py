"""Parse a scenario file: the EC2 double's initial content, capacity and prices, and the events of its machines.

The parsed values are frozen. A duration is a whole number of seconds, or `500ms`, `0.2s`, `90s`, `1h30m`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from provisioner.core.errors import Invalid
from provisioner.core.recipe import duration, errors, yaml
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.ec2.conditions import (
    Absence,
    Breakdown,
    Capacity,
    Conditions,
    FleetLimit,
    GpuFault,
    Impairment,
    Interruption,
    Lapse,
    PriceRule,
    Quota,
    Rebalance,
    Reserved,
    Unheeded,
    Verification,
    Where,
    ZoneTrouble,
)
from provisioner.rehearsal.machines.script import CommandScript, Script


class Kind(StrEnum):
    """The kind of machine host that runs the machines."""

    LIGHT = "light"
    SCRIPTED = "scripted"
    QEMU = "qemu"


@dataclass(frozen=True)
class Scenario:
    #: The default delays are short, but long enough that every state can be seen.
    conditions: Conditions = field(default_factory=lambda: Conditions(boot_delay=0.2, end_delay=0.2))
    machine: Kind = Kind.LIGHT
    #: The buckets' objects at the start: for each bucket, the contents by key.
    buckets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    #: Parameters of SSM by name, all of them SecureStrings, and secrets of Secrets Manager by id.
    parameters: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Rule, ...] = ()
    #: The owner's policy in addition to machine.json. None allows all of S3 on `buckets`, reading the parameters and
    #: secrets, and ECR logins.
    job_policy: Mapping[str, Any] | None = None
    #: Scripts of scripted machines; a machine follows the first one whose job pattern fits.
    scripts: tuple[Script, ...] = (Script(),)
    #: Whether the account has no network, no installation's bucket and no roles: `provision setup` makes them.
    empty: bool = False


def load(path: Path) -> Scenario:
    """Return the scenario in the file. Raises Invalid; its message has one line for each problem, with its place."""
    try:
        document = yaml.read(path.read_bytes(), str(path))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    return parse(document.value, str(path), document.lines)


def parse(data: Any, where: str = "the scenario", lines: Mapping[yaml.Path, int] | None = None) -> Scenario:
    """Return the scenario that the file's content describes, the default one for an empty file; raises Invalid."""
    try:
        return _File.model_validate({} if data is None else data).scenario()
    except ValidationError as error:
        raise errors.invalid(where, errors.told(error, _File), lines or {}) from error


def _seconds(value: Any) -> Any:
    return float(duration.exact(value)) if isinstance(value, str) else value


_Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


def _none_of(word: str) -> BeforeValidator:
    """Return a validator that converts this word to None."""
    return BeforeValidator(lambda value: None if value == word else value)


_Times = Annotated[Annotated[int, Field(ge=1)] | None, _none_of("always")]


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Fitting(_Edge):
    """A rule for the offers that fit its patterns."""

    market: Literal["spot", "on-demand", "*"] = "*"
    type: str = "*"
    zone: str = "*"

    def fields(self) -> dict[str, Any]:
        rest = self.model_dump(exclude={"market", "type", "zone"})
        return {**rest, "where": Where(self.market, self.type, self.zone)}


class _Capacity(_Fitting):
    machines: Annotated[Annotated[int, Field(ge=0)] | None, _none_of("unlimited")]
    at: _Duration = 0.0
    code: str = Capacity.code
    message: str = Capacity.message

    def made(self) -> Capacity:
        return Capacity(**self.fields())


class _Price(_Fitting):
    dollars: Annotated[float, Field(ge=0)]
    at: _Duration = 0.0


class _Disk(_Edge):
    gib: Annotated[float, Field(ge=0)]
    iops: Annotated[float, Field(ge=0)] = 0.0
    throughput: Annotated[float, Field(ge=0)] = 0.0


class _Quota(_Fitting):
    vcpus: Annotated[int, Field(ge=0)]


class _Interruption(_Fitting):
    at: _Duration
    notice: _Duration = Interruption.notice
    times: _Times = 1


class _Rebalance(_Fitting):
    at: _Duration
    times: _Times = 1


class _Breakdown(_Fitting):
    at: _Duration = 0.0
    code: str = Breakdown.code
    message: str = Breakdown.message
    times: _Times = 1


class _GpuFault(_Fitting):
    fault: Literal["hangs", "fabric"]
    times: _Times = 1


class _Impairment(_Fitting):
    at: _Duration = 0.0


class _Fault(_Edge):
    effect: Effect
    when: When = Rule.when
    service: str = "*"
    action: str = "*"
    resource: str = "*"
    principal: str = "*"
    code: str = Rule.code
    message: str = Rule.message
    status: Annotated[int, Field(ge=400, le=599)] = Rule.status
    seconds: _Duration = 0.0
    skip: Annotated[int, Field(ge=0)] = 0
    times: _Times = None


class _Commands(_Edge):
    seconds: _Duration = CommandScript.seconds
    spread: Annotated[float, Field(ge=0)] = 0.0
    fails: frozenset[Annotated[int, Field(ge=0)]] = frozenset()
    all_fail: bool = False
    panics: frozenset[Annotated[int, Field(ge=0)]] = frozenset()
    output: Annotated[int, Field(ge=0)] = 0
    chunk: Annotated[int, Field(ge=1)] = CommandScript.chunk


class _Script(_Edge):
    job: str = "*"
    pull: _Duration = 0.0
    clone: _Duration = 0.0
    setup: _Duration = 0.0
    command: _Duration = Script.command
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    output: Annotated[int, Field(ge=0)] = Script.output
    silent_at: _Duration | None = None
    off_at: _Duration | None = None
    commands: _Commands = _Commands()

    def made(self) -> Script:
        return Script(**{**self.model_dump(), "commands": CommandScript(**self.commands.model_dump())})


class _ZoneTrouble(_Edge):
    at: _Duration = 0.0
    ends: _Duration
    zone: str = "*"


class _Absence(_Fitting):
    at: _Duration = 0.0
    ends: _Duration


class _FleetLimit(_Edge):
    at: _Duration = 0.0
    ends: _Duration


class _Verification(_Edge):
    at: _Duration = 0.0
    ends: _Duration


class _Lapse(_Edge):
    at: _Duration = 0.0
    ends: _Duration


class _Unheeded(_Fitting):
    times: Annotated[int, Field(ge=1)] = 1


class _Reserved(_Edge):
    id: str
    type: str
    zone: str
    machines: Annotated[int, Field(ge=1)]
    at: _Duration = 0.0
    ends: _Duration | None = None
    block: bool = False
    group: str = ""


#: A value of SSM or Secrets Manager; neither service accepts an empty one.
_Text = Annotated[str, Field(min_length=1)]


class _File(_Edge):
    account: Literal["ready", "empty"] = "ready"
    machine: Kind = Kind.LIGHT
    boot_delay: _Duration = 0.2
    end_delay: _Duration = 0.2
    lag: _Duration = 0.0
    flap: _Duration = 0.0
    template_lag: _Duration = 0.0
    forget_after: _Duration = Conditions.forget_after
    image_delay: _Duration = 0.0
    placement_groups: Annotated[int, Field(ge=0)] = Conditions.placement_groups
    group_lag: _Duration = 0.0
    capacity: list[_Capacity] = []
    prices: list[_Price] = []
    disk: _Disk | None = None
    quotas: list[_Quota] = []
    interruptions: list[_Interruption] = []
    rebalances: list[_Rebalance] = []
    breakdowns: list[_Breakdown] = []
    gpu_faults: list[_GpuFault] = []
    impairments: list[_Impairment] = []
    zone_troubles: list[_ZoneTrouble] = []
    absences: list[_Absence] = []
    fleet_limits: list[_FleetLimit] = []
    verifications: list[_Verification] = []
    lapses: list[_Lapse] = []
    unheeded: list[_Unheeded] = []
    no_way_out: list[str] = []
    reservations: list[_Reserved] = []
    replay_errors: bool = False
    buckets: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")], dict[str, str]] = {}
    parameters: dict[str, _Text] = {}
    secrets: dict[str, _Text] = {}
    faults: list[_Fault] = []
    job_policy: dict[str, Any] | None = None
    scripts: list[_Script] = []

    def scenario(self) -> Scenario:
        conditions = Conditions(
            boot_delay=self.boot_delay,
            end_delay=self.end_delay,
            lag=self.lag,
            flap=self.flap,
            template_lag=self.template_lag,
            forget_after=self.forget_after,
            image_delay=self.image_delay,
            placement_groups=self.placement_groups,
            group_lag=self.group_lag,
            capacity=tuple(one.made() for one in self.capacity),
            prices=tuple(PriceRule(**one.fields()) for one in self.prices),
            disk=(self.disk.gib, self.disk.iops, self.disk.throughput) if self.disk else None,
            quotas=tuple(Quota(**one.fields()) for one in self.quotas),
            interruptions=tuple(Interruption(**one.fields()) for one in self.interruptions),
            rebalances=tuple(Rebalance(**one.fields()) for one in self.rebalances),
            breakdowns=tuple(Breakdown(**one.fields()) for one in self.breakdowns),
            gpu_faults=tuple(GpuFault(**one.fields()) for one in self.gpu_faults),
            impairments=tuple(Impairment(**one.fields()) for one in self.impairments),
            zone_troubles=tuple(ZoneTrouble(**one.model_dump()) for one in self.zone_troubles),
            absences=tuple(Absence(**one.fields()) for one in self.absences),
            fleet_limits=tuple(FleetLimit(**one.model_dump()) for one in self.fleet_limits),
            verifications=tuple(Verification(**one.model_dump()) for one in self.verifications),
            lapses=tuple(Lapse(**one.model_dump()) for one in self.lapses),
            unheeded=tuple(Unheeded(**one.fields()) for one in self.unheeded),
            no_way_out=tuple(self.no_way_out),
            reservations=tuple(Reserved(**one.model_dump()) for one in self.reservations),
            replay_errors=self.replay_errors,
        )
        return Scenario(
            empty=self.account == "empty",
            conditions=conditions,
            machine=self.machine,
            buckets={
                bucket: {key: text.encode() for key, text in objects.items()}
                for bucket, objects in self.buckets.items()
            },
            parameters=self.parameters,
            secrets=self.secrets,
            faults=tuple(Rule(**one.model_dump()) for one in self.faults),
            job_policy=self.job_policy,
            scripts=(*(one.made() for one in self.scripts), Script()),
        )
