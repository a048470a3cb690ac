"""The contract between the double and what plays its machines (light, scripted, qemu)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


def _nowhere() -> int:
    raise LookupError("no double plays this machine's metadata service")


@dataclass(frozen=True)
class Guest:
    """A machine to be booted, as the double's instance is described to its host."""

    instance_id: str
    instance_type: str
    image_id: str
    region: str
    zone: str
    #: `spot` or `on-demand`.
    market: str
    launch_time: float
    address: str
    user_data: str
    #: The base under which this machine's metadata service answers (IMDSv2).
    metadata_url: str
    #: The endpoint of every AWS service of the double.
    aws_url: str
    #: Where its ports are to be reached from this computer, each machine's apart from the others'.
    public_address: str = ""
    #: Opens a port of this computer where the same metadata service answers this machine alone, without the base.
    open_metadata: Callable[[], int] = field(default=_nowhere, repr=False, compare=False)

    @property
    def mac(self) -> str:
        """Of its network interface, as the metadata service tells it."""
        digest = hashlib.sha256(self.instance_id.encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (2, *digest[:5]))


class MachineHost(Protocol):
    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        """Start the machine and return; `powered_off(instance_id)` when it has ended itself."""

    def end(self, instance_id: str) -> None:
        """Take the power away; nothing of the machine is left when this returns. May be repeated."""

    def console(self, instance_id: str) -> str:
        """What the machine has written to its console so far."""

    def capture(self, instance_id: str, image_id: str) -> None:
        """Keep what is on the running machine's disk as that image's, from which others may be booted.

        Returns when it is kept; the machine may be restarted for it. Raises what makes the image fail.
        """

    def forget(self, image_id: str) -> None:
        """No machine will be booted from what was kept as that image's, if anything was."""

    def close(self) -> None:
        """End every machine."""
