"""Read the settings of an installation from one TOML file, once, as frozen values."""

import getpass
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from provisioner.core.access.owner_limits import MIB, OwnerLimits
from provisioner.core.errors import Invalid
from provisioner.core.recipe import errors
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.recipe.fields import SecretName
from provisioner.core.recipe.git import KNOWN_HOST

#: AWS's own AMI with driver and container toolkit (Deep Learning AMI guide, "Base GPU AMI").
DEFAULT_IMAGE = "ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"

_PLACES = ("./provision.toml", "~/.config/provision/settings.toml")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _placed(path: Path, info: ValidationInfo) -> Path:
    """Expand `~` in a path of the settings; a relative path counts from the settings file's folder."""
    if str(path).startswith("$"):
        raise ValueError("variables are not expanded in settings: write an absolute path, or one that begins with ~/")
    try:
        placed = Path((info.context or {}).get("folder", "."), path.expanduser())
    except RuntimeError as error:
        raise ValueError("it begins with ~ and the name of a user whom this computer does not know") from error
    if not path.is_absolute() and path.exists() and not placed.exists():
        # Earlier versions took `~` literally. A new store at the expanded path would have no runs and no machines.
        raise ValueError(
            f"{path.absolute()} is there, but the path means {placed}: move the store and the files beside it, or"
            " write its absolute path"
        )
    return placed


#: A path on the computer that reads the settings.
LocalPath = Annotated[Path, AfterValidator(_placed)]


class Rehearsal(_Part):
    """A rehearsal. Only the double's own settings have this group: it lets jobs run without a container."""

    endpoint: str
    #: The endpoint for machines, if they are not processes of this computer.
    machine_endpoint: str = ""
    engine: str = "process"
    boot_fuse: float = 1200.0
    busy_interval: float = 0.3
    idle_interval: float = 60.0
    reaper_grace: float = 900.0


class Git(_Part):
    """How jobs read private repositories."""

    #: The name of a secret, as in a recipe: an SSH key or a token, for recipes that name none.
    credential: SecretName | None = None
    #: Lines of known_hosts for hosts other than github.com, gitlab.com and bitbucket.org.
    known_hosts: tuple[Annotated[str, Field(pattern=f"^{KNOWN_HOST}$")], ...] = ()


class Registry(_Part):
    """How jobs pull private images."""

    #: The name of a secret with `user:password`, for recipes that name none.
    credential: SecretName | None = None


class Ssh(_Part):
    """How this computer connects to machines."""

    #: Whether the machines of runs accept SSH; machines that AMIs are made of always do.
    open: bool = False
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    #: The user for which the AMI's cloud-init allows logins: `ubuntu`, `ec2-user`, `admin`.
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = "ubuntu"
    #: Security groups that allow SSH from this computer; only machines that accept SSH have them.
    security_groups: tuple[str, ...] = ()
    #: `private` if this computer is in the VPC or has a route into it.
    address: Literal["public", "private"] = "public"


class Limits(_Part):
    """Limits of one owner. Admins and commands on the control host have no limits."""

    #: Most unfinished runs.
    unfinished_runs: Annotated[int, Field(ge=1)] = 1000
    #: Most MiB of the owner's jobs and unfinished runs in the store, variables included: the control plane keeps these
    #: in memory.
    stored_mib: Annotated[int, Field(ge=1)] = 64


class Settings(_Part):
    #: The name of everything that this store, bucket prefix and region own; every machine has it as a tag.
    installation: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$")]
    #: `name`, or `name/prefix`.
    bucket: str
    #: One subnet per zone, each with a route to S3 and to the registries.
    subnets: Annotated[tuple[str, ...], Field(min_length=1)]
    #: Empty: the VPC's default group, which accepts no connection from outside.
    security_groups: tuple[str, ...] = ()
    #: An AMI's id `ami-…`, or `ssm:/path` of a parameter that contains one.
    image: str = DEFAULT_IMAGE
    instance_profile: str = "provision-machine"
    #: Instance profiles of owners whose jobs have rights of their own, by owner.
    profiles: dict[str, str] = {}
    #: Size of a machine's disk: for the AMI (about 45 GB), the job's unpacked image, and its data.
    disk_gib: Annotated[int, Field(ge=8, le=16384)] = 200
    #: The most machines alive at once; runs beyond it wait. Unset: as many as the account's quota allows.
    max_machines: Annotated[int | None, Field(ge=1)] = None
    #: The store's file; if unset, it is in ~/.local/share/provision.
    store: LocalPath | None = None
    #: The owner of recipes that name none; empty: the name of this Unix user.
    owner: str = ""
    git: Git = Git()
    registry: Registry = Registry()
    ssh: Ssh = Ssh()
    limits: Limits = Limits()
    #: The URL under which runs with `checkpoint: true` keep their state, each in a folder of its own.
    checkpoint_url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/[^\s?#]*)?)?$")] = ""
    rehearsal: Rehearsal | None = None

    @property
    def terms(self) -> RecipeDefaults:
        return RecipeDefaults(
            git_credential=self.git.credential or "",
            known_hosts=self.git.known_hosts,
            registry_credential=self.registry.credential or "",
            checkpoint_url=self.checkpoint_url and self.checkpoint_url.rstrip("/") + "/",
            subnets=self.subnets,
        )

    @property
    def owner_limits(self) -> OwnerLimits:
        return OwnerLimits(self.limits.unfinished_runs, self.limits.stored_mib * MIB)

    @property
    def store_path(self) -> Path:
        return self.store or Path(f"~/.local/share/provision/{self.installation}.db").expanduser()

    @property
    def default_owner(self) -> str:
        return self.owner or getpass.getuser()


def load(path: str | None = None) -> Settings:
    """Read the settings in `path`, $PROVISION_SETTINGS, or the first of the usual files that exists; raises Invalid."""
    named = path or os.environ.get("PROVISION_SETTINGS")
    candidates = [Path(place).expanduser() for place in ((named,) if named else _PLACES)]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        where = " or ".join(str(candidate) for candidate in candidates)
        raise Invalid(
            f"no settings in {where}; copy config/settings.toml there and fill it in, set PROVISION_URL and "
            "PROVISION_TOKEN for a server, or try everything without an account: provision rehearse --serve"
        )
    try:
        # All links to one settings file must lead to one store.
        context = {"folder": found.resolve().parent}
        return Settings.model_validate(tomllib.loads(found.read_text(encoding="utf-8-sig")), context=context)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{found}: {error}") from error
    except ValidationError as error:
        raise errors.invalid(str(found), errors.told(error, Settings), {}) from error
