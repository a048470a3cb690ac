"""Read the settings of an installation from one TOML file, once, as frozen values."""

import getpass
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from provisioner.core.access.owner_limits import MIB, OwnerLimits
from provisioner.core.cloud.caps.budget import Caps
from provisioner.core.cloud.policies import PolicyValues
from provisioner.core.cloud.setup.stack import Wishes
from provisioner.core.errors import Invalid
from provisioner.core.recipe import errors
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.recipe.fields import UNRESERVED, Reservation, SecretName, dollars_or_never
from provisioner.core.recipe.git import KNOWN_HOST
from provisioner.core.recipe.kinds import matching

#: AWS's own AMI with the NVIDIA driver and container toolkit (Deep Learning AMI guide, "Deep Learning Base OSS Nvidia
#: Driver GPU AMI (Ubuntu 24.04)"). The one for Ubuntu 22.04 ends on 2027-04-30.
DEFAULT_IMAGE = "ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"

_PLACES = ("./provision.toml", "~/.config/provision/settings.toml")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _placed(path: Path, info: ValidationInfo) -> Path:
    """Return a path with `~` expanded; a relative path is relative to the settings file's folder. Raises ValueError."""
    if str(path).startswith("$"):
        raise ValueError("variables are not expanded in settings: write an absolute path, or one that begins with ~/")
    try:
        placed = Path((info.context or {}).get("folder", "."), path.expanduser())
    except RuntimeError as error:
        raise ValueError("~USER names a user that does not exist on this computer: write an absolute path") from error
    if not path.is_absolute() and path.exists() and not placed.exists():
        # Earlier versions did not expand `~`, so the store may be at the unexpanded path. A new store at the expanded
        # path would have no runs and no machines.
        raise ValueError(
            f"{path.absolute()} exists, but this setting now means {placed}: move the store with the files beside"
            " it, or write its absolute path"
        )
    return placed


def _own(value: str) -> str:
    if re.search("your-bucket|^(subnet|sg)-(a{4}|b{4}|c{4})$", value):
        raise ValueError("this is a placeholder: write your own")
    return value


#: A name for which `config/settings.toml` has a placeholder that the user must replace.
OwnName = Annotated[str, AfterValidator(_own)]


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("write at least one")
    return names


#: A path on the computer that reads the settings.
LocalPath = Annotated[Path, AfterValidator(_placed)]


class Rehearsal(_Part):
    """Settings of a rehearsal. Only `provision rehearse` writes this group, which lets jobs run without a container."""

    endpoint: str
    #: The endpoint that machines use; empty: `endpoint`, for machines that are processes of this computer.
    machine_endpoint: str = ""
    engine: str = "process"
    boot_fuse: float = 1200.0
    busy_interval: float = 0.3
    idle_interval: float = 60.0
    reaper_grace: float = 900.0


class Git(_Part):
    """How jobs read private repositories."""

    #: Name of the default secret, in the form that recipes use. The secret contains an SSH key or a token.
    credential: SecretName | None = None
    #: Lines of known_hosts for hosts other than github.com, gitlab.com and bitbucket.org.
    known_hosts: tuple[Annotated[str, Field(pattern=f"^{KNOWN_HOST}$")], ...] = ()


class Registry(_Part):
    """How jobs pull private images."""

    #: Name of the default secret, for recipes that name none. The secret contains `user:password`.
    credential: SecretName | None = None


class Ssh(_Part):
    """Settings for SSH connections from this computer to machines."""

    #: Whether the machines of runs accept SSH. Machines from which AMIs are made always accept it.
    open: bool = False
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    #: The user for which the AMI's cloud-init allows logins: `ubuntu`, `ec2-user`, `admin`.
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = "ubuntu"
    #: Security groups that allow SSH from this computer; only machines that accept SSH have them.
    security_groups: tuple[OwnName, ...] = ()
    #: `private` if this computer is in the VPC or has a route into it.
    address: Literal["public", "private"] = "public"


class Limits(_Part):
    """Limits of one owner. Admins and commands on the control host have no limits."""

    #: Maximum number of unfinished runs.
    unfinished_runs: Annotated[int, Field(ge=1)] = 1000
    #: Maximum MiB of the owner's jobs and unfinished runs in the store, variables included: the control plane keeps
    #: these in memory.
    stored_mib: Annotated[int, Field(ge=1)] = 64


class Settings(_Part):
    #: The installation's name: it covers this store, bucket prefix and region. Every machine has it as a tag.
    installation: Annotated[
        str, matching("[a-z0-9][a-z0-9-]{0,62}", "write at most 63 lower-case letters, digits and hyphens")
    ]
    region: Annotated[str, matching("[a-z]{2,4}(-[a-z]+)+-[0-9]+", "write a region such as us-east-1")]
    #: `name`, or `name/prefix`.
    bucket: OwnName
    #: One subnet per zone, each with a route to S3 and to the registries.
    subnets: Annotated[tuple[OwnName, ...], AfterValidator(_some)]
    #: Security groups of machines. Empty: the VPC's default group, which accepts no connection from outside.
    security_groups: tuple[OwnName, ...] = ()
    #: An AMI's id `ami-…`, or `ssm:/path` of a parameter that contains one.
    image: str = DEFAULT_IMAGE
    instance_profile: str = "provision-machine"
    #: Instance profiles by owner, for owners whose jobs need other rights than those of `instance_profile`.
    profiles: dict[str, str] = {}
    #: Roles by instance profile, for profiles whose role has another name, or a path before its name.
    profile_roles: dict[str, str] = {}
    #: ARNs of the KMS keys that encrypt the bucket or, by the account's default, the machines' disks. Keys of AWS
    #: (`aws/ebs`, `aws/s3`) need no rights.
    kms_keys: tuple[
        Annotated[
            str,
            matching("arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+", "write the key's ARN, arn:aws:kms:…"),
        ],
        ...,
    ] = ()
    #: Security groups by instance profile, in place of `security_groups`. The machines of a run accept connections from
    #: every machine of their group, so runs with several machines need a group that no other profile has.
    profile_security_groups: dict[str, tuple[OwnName, ...]] = {}
    #: Size of a machine's disk. It holds the AMI (about 45 GB), the job's unpacked image, and the job's data.
    disk_gib: Annotated[int, Field(ge=8, le=16384)] = 200
    #: The most machines alive at once; runs beyond it wait. Unset: as many as the account's quota allows.
    max_machines: Annotated[int | None, Field(ge=1)] = None
    #: US dollars that all machines may cost in a UTC day, without disks; runs beyond it wait. `never`: any amount. The
    #: default stops a mistake on the first day. A rehearsal costs nothing, so it has no cap unless a value is written.
    max_dollars_a_day: Annotated[float | None, BeforeValidator(dollars_or_never)] = 200.0
    #: Whether machines whose price is unknown may be launched although a cap applies. They count as free.
    allow_unknown_price: bool = False
    #: A capacity reservation, a Capacity Block, or a group of these. On-demand jobs of its instance types use it, if
    #: their recipe names no other one.
    reservation: Reservation | None = None
    #: The store's file; if unset, it is in ~/.local/share/provision.
    store: LocalPath | None = None
    #: The owner of recipes that name none; empty: the name of this Unix user.
    owner: str = ""
    #: The address at which users reach the page: that of `provision serve`, or of the proxy in front of it.
    page_url: Annotated[
        str, matching(r"(https?://[^\s?#@]+)?", "write https://HOST, or http://127.0.0.1:PORT on this computer")
    ] = ""
    git: Git = Git()
    registry: Registry = Registry()
    ssh: Ssh = Ssh()
    limits: Limits = Limits()
    #: The URL under which runs with `checkpoint: true` keep their state, each in a folder of its own.
    checkpoint_url: Annotated[
        OwnName, matching(r"(s3://[a-z0-9][a-z0-9.-]+(/[^\s?#]*)?)?", "write s3://BUCKET or s3://BUCKET/FOLDER/")
    ] = ""
    rehearsal: Rehearsal | None = None

    @property
    def terms(self) -> RecipeDefaults:
        return RecipeDefaults(
            git_credential=self.git.credential or "",
            known_hosts=self.git.known_hosts,
            registry_credential=self.registry.credential or "",
            checkpoint_url=self.checkpoint_url and self.checkpoint_url.rstrip("/") + "/",
            subnets=self.subnets,
            max_machines=self.max_machines,
            reservation="" if self.reservation in (None, UNRESERVED) else self.reservation or "",
        )

    @property
    def policy_values(self) -> PolicyValues:
        """The values with which the IAM policies are filled in: `provision iam`."""
        profiles = sorted({self.instance_profile, *self.profiles.values()})
        reference = self.image.partition(":parameter/")[2] or self.image.removeprefix("ssm:")
        own = self.image.startswith("ssm:") and not reference.startswith(("/aws/", "aws/"))
        return PolicyValues(
            installation=self.installation,
            region=self.region,
            bucket=self.bucket,
            roles={profile: self.profile_roles.get(profile, profile) for profile in profiles},
            parameters=(reference,) if own else (),
            keys=self.kms_keys,
        )

    @property
    def caps(self) -> Caps:
        free = self.rehearsal is not None and "max_dollars_a_day" not in self.model_fields_set
        return Caps(None if free else self.max_dollars_a_day, self.allow_unknown_price)

    @property
    def owner_limits(self) -> OwnerLimits:
        return OwnerLimits(self.limits.unfinished_runs, self.limits.stored_mib * MIB)

    @property
    def store_path(self) -> Path:
        return self.store or Path(f"~/.local/share/provision/{self.installation}.db").expanduser()

    @property
    def default_owner(self) -> str:
        return self.owner or getpass.getuser()


class BeforeSetup(Settings):
    """The settings of an account that is not set up yet: they may lack what `provision setup` fills in."""

    bucket: OwnName = ""
    subnets: tuple[OwnName, ...] = ()

    def setup_wishes(self, vpc: str, sso_profile: str | None) -> Wishes:
        return Wishes(
            installation=self.installation,
            region=self.region,
            bucket=self.bucket,
            subnets=self.subnets,
            profile=self.instance_profile,
            security_groups=self.security_groups,
            roles=self.policy_values.roles,
            profile_groups=self.profile_security_groups,
            vpc=vpc,
            sso_profile=sso_profile,
        )


#: `Settings`, or its form before the account is set up.
SettingsT = TypeVar("SettingsT", bound=Settings)


def find(path: str | None = None) -> Path:
    """Return `path`, $PROVISION_SETTINGS, or the first of the usual files that exists; raises Invalid."""
    named = path or os.environ.get("PROVISION_SETTINGS")
    candidates = [Path(place).expanduser() for place in ((named,) if named else _PLACES)]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        where = " or ".join(str(candidate) for candidate in candidates)
        raise Invalid(
            f"no settings in {where}; write them with `provision init`, or set PROVISION_URL and PROVISION_TOKEN for a"
            ' server; without an AWS account: eval "$(provision rehearse --background)"'
        )
    return found


def load(path: str | None = None) -> Settings:
    """Read the settings in the file that `find` returns; raises Invalid."""
    return _read(find(path), Settings)


def load_before_setup(path: str | None = None) -> BeforeSetup:
    """Read the settings in the file that `find` returns, also if it lacks what setup fills in; raises Invalid."""
    return _read(find(path), BeforeSetup)


def _read(found: Path, kind: type[SettingsT]) -> SettingsT:
    try:
        # Resolve symbolic links: all links to one settings file must lead to one store.
        context = {"folder": found.resolve().parent}
        return kind.model_validate(tomllib.loads(found.read_text(encoding="utf-8-sig")), context=context)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{found}: {error}") from error
    except ValidationError as error:
        lacks = [str(one["loc"][0]) for one in error.errors() if one["type"] == "missing"]
        if len(lacks) == error.error_count() and set(lacks) <= {"bucket", "subnets"}:
            what = " and ".join(f"`{name}`" for name in lacks)
            raise Invalid(
                f"{found}: no {what}: run `provision setup`, which makes what is missing and writes its names here"
            ) from error
        raise errors.invalid(str(found), errors.told(error, kind), {}) from error
