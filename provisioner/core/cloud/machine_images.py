"""Machine images, and the tags of those that an installation made."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.core.errors import Invalid

#: The tag with the sha256 of the agent's archive in the machine image.
AGENT_TAG = "provision:agent"
#: The tag with the id of the machine image from which this one was made.
BASE_TAG = "provision:base"
#: Prefix of the tags with preloaded Docker images, `name@sha256:…`; a number follows it.
PRELOADED_TAG = "provision:preloaded-"
#: The tag with the day on which the machine image was made.
DATE_TAG = "provision:date"

#: Maximum number of preloaded images. A resource has at most 50 tags (EC2 User Guide, "Tag restrictions"); the other
#: ten are for this installation's and users' tags.
MOST_PRELOADED = 40
#: Maximum number of characters of a tag's value (ibid.), and characters of `@sha256:…`.
TAG_VALUE, DIGEST = 256, 72
#: A Docker image's name that a command cannot take for an option or for several arguments.
IMAGE = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9._:/@-]{{0,{TAG_VALUE - DIGEST - 1}}}")

#: References to AWS's Deep Learning AMIs with NVIDIA's open kernel modules, as names or ARNs of parameters.
_OPEN_MODULES = re.compile(r"ssm:.*\baws/service/deeplearning/ami/x86_64/[\w.-]*oss-nvidia-driver-gpu[\w./-]*")
#: The families with GPUs that these AMIs support: the description of the base AMI (`DescribeImages`, 2026) and the
#: release notes of the PyTorch AMI (2026-10), which add Gr6f and G6f. G7e works by a public report. The open modules
#: drive no GPU before Turing (NVIDIA's driver README, "Open Linux Kernel Modules"): no V100 (P3), no M60 (G3).
_WITH_OPEN_MODULES = (
    *("g4dn", "g5", "g6", "g6e", "g6f", "g7e", "gr6", "gr6f"),
    *("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"),
)

#: Names that EC2 accepts for a machine image (EC2 API Reference, "CreateImage").
NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


@dataclass(frozen=True)
class Image:
    """A machine image, with the name of its root device, which differs between images."""

    id: str
    root_device: str
    architecture: str
    #: Least GiB of the root disk; 0 if the cloud does not report it.
    disk_gib: int = 0


def driven_families(reference: str) -> tuple[str, ...] | None:
    """Return the families whose GPUs the AMI's driver supports; None if that is not known, as of an own AMI."""
    return _WITH_OPEN_MODULES if _OPEN_MODULES.fullmatch(reference) else None


def undriven(families: Sequence[str] | None) -> str:
    """Return why a type of another family is refused."""
    return (
        f"the driver of the AMI supports only {', '.join(families or ())}; choose one of these families, or set "
        "`image` in the settings to an AMI with a driver for the type"
    )


def raised_disk(asked_gib: int | None, image: Image) -> str:
    """Return a note if the AMI needs a larger disk than the recipe asks for, else ""."""
    if asked_gib is None or asked_gib >= image.disk_gib:
        return ""
    return f"the disk has {image.disk_gib} GiB: the AMI needs more than placement.disk_size of {asked_gib} GiB"


class AmiState(StrEnum):
    PENDING = "pending"
    AVAILABLE = "available"
    #: Every other state of EC2: the image will never be available.
    FAILED = "failed"


@dataclass(frozen=True)
class Ami:
    """A machine image of the installation, as the cloud describes it."""

    id: str
    name: str
    state: AmiState
    created_at: float
    architecture: str
    #: GiB of the disk from which it was made: a machine's disk cannot be smaller.
    disk_gib: int
    tags: Mapping[str, str]
    #: Why it failed; empty if it did not.
    reason: str = ""

    @property
    def agent(self) -> str:
        return self.tags.get(AGENT_TAG, "")

    @property
    def base(self) -> str:
        return self.tags.get(BASE_TAG, "")

    @property
    def preloaded(self) -> tuple[str, ...]:
        return tuple(value for name, value in sorted(self.tags.items()) if name.startswith(PRELOADED_TAG))


def tags(installation: str, agent: str, base: str, preloaded: Sequence[str], date: str) -> dict[str, str]:
    """Return the tags of a machine image and of its snapshot."""
    numbered = {f"{PRELOADED_TAG}{number:02}": name for number, name in enumerate(preloaded)}
    return {INSTALLATION_TAG: installation, AGENT_TAG: agent, BASE_TAG: base, DATE_TAG: date} | numbered


def check_preloaded(images: Sequence[str]) -> None:
    """Raise Invalid if there are more images than tags can name, or if an image's name is too long or malformed."""
    if len(images) > MOST_PRELOADED:
        raise Invalid(f"{len(images)} images to preload: at most {MOST_PRELOADED}, because an AMI has at most 50 tags")
    for image in images:
        if not IMAGE.fullmatch(image):
            raise Invalid(f"invalid image name {image!r}: expected NAME[:TAG], at most {TAG_VALUE - DIGEST} characters")


def check_name(name: str) -> str:
    """Return the name of an AMI; raises Invalid if EC2 does not accept it."""
    if not NAME.fullmatch(name):
        raise Invalid(f"invalid AMI name {name!r}: expected 3 to 128 letters, digits, spaces and ()[]./-'@_")
    return name
