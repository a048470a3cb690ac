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
    agent: Annotated[str, "SHA-256 of the agent's archive in the AMI."]
    agent_current: bool
    preloaded: Annotated[tuple[str, ...], "Preloaded Docker images, each `name@digest`."]
    in_use: bool
