"""The view of a machine image."""

from dataclasses import dataclass
from typing import Annotated

from provisioner.core.cloud.machine_images import AmiState
from provisioner.core.views.codec import Moment


@dataclass(frozen=True)
class Ami:
    """A machine image of the installation."""

    id: str
    name: str
    state: Annotated[AmiState, "pending, available or failed"]
    reason: str | None
    created_at: Moment
    architecture: str
    disk_gib: int
    base: str
    agent: Annotated[str, "The sha256 of its archive."]
    agent_current: bool
    preloaded: Annotated[tuple[str, ...], "name@digest"]
    in_use: bool
