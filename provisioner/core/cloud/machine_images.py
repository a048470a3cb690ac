"""Machine images, and what the tags of those that an installation made itself say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.core.errors import Invalid

#: The sha256 of the agent's archive that is in the image.
AGENT_TAG = "provision:agent"
#: The image that it was made from.
BASE_TAG = "provision:base"
#: With a number behind it: a Docker image that is in it, as `name@sha256:…`.
PRELOADED_TAG = "provision:preloaded-"
#: The day it was made.
DATE_TAG = "provision:date"

#: A resource takes 50 tags, and other people may want some (EC2 User Guide, "Tag restrictions").
MOST_PRELOADED = 40
#: What a tag's value may hold (ibid.), and how much of it `@sha256:…` takes.
TAG_VALUE, DIGEST = 256, 72
#: Nothing that a command could take for an option or a second word.
IMAGE = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9._:/@-]{{0,{TAG_VALUE - DIGEST - 1}}}")

#: What EC2 takes for an image's name (EC2 API Reference, "CreateImage").
NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


@dataclass(frozen=True)
class Image:
    """A machine image; the root device's name differs from image to image."""

    id: str
    root_device: str
    architecture: str
    #: The least that its root disk may be; 0 where the cloud does not say.
    disk_gib: int = 0


class AmiState(StrEnum):
    PENDING = "pending"
    AVAILABLE = "available"
    #: Whatever else EC2 calls it, it will never be available.
    FAILED = "failed"


@dataclass(frozen=True)
class Ami:
    """A machine image of the installation, as the cloud describes it."""

    id: str
    name: str
    state: AmiState
    created_at: float
    architecture: str
    #: Of the disk that it was made of, and the least that a machine's must have.
    disk_gib: int
    tags: Mapping[str, str]
    #: Why it failed.
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


@dataclass(frozen=True)
class Shown:
    """An image, and what it is to this installation today."""

    ami: Ami
    #: New launches take it.
    in_use: bool
    #: The agent in it is today's; otherwise a machine fetches today's from the bucket.
    current: bool


def tags(installation: str, agent: str, base: str, preloaded: Sequence[str], date: str) -> dict[str, str]:
    """What image and snapshot are tagged with."""
    numbered = {f"{PRELOADED_TAG}{number:02}": name for number, name in enumerate(preloaded)}
    return {INSTALLATION_TAG: installation, AGENT_TAG: agent, BASE_TAG: base, DATE_TAG: date} | numbered


def check_preloaded(images: Sequence[str]) -> None:
    """Raises Invalid for more, or longer names, than tags can hold, and for what is no image's name."""
    if len(images) > MOST_PRELOADED:
        raise Invalid(f"an AMI's tags can name {MOST_PRELOADED} images, not {len(images)}")
    for image in images:
        if not IMAGE.fullmatch(image):
            raise Invalid(f"{image!r} is no name of an image, of at most {TAG_VALUE - DIGEST} characters")


def check_name(name: str) -> str:
    """The name of an AMI, if EC2 takes it; raises Invalid."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name for an AMI: 3 to 128 letters, digits, spaces and ()[]./-'@_")
    return name
