"""The contract between the double and the hosts that run its machines (light, scripted, qemu)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


def _nowhere() -> int:
    raise LookupError("this machine has no metadata service: it was not booted by an EC2 double")


@dataclass(frozen=True)
class Guest:
    """The double's description of an instance, for the host that boots it."""

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
    #: Base URL of this machine's metadata service (IMDSv2).
    metadata_url: str
    #: The endpoint of every AWS service of the double.
    aws_url: str
    #: Address at which this computer reaches the machine's ports; each machine has its own.
    public_address: str = ""
    #: What is wrong with its GPUs, as in GpuFault; empty for nothing.
    gpu_fault: str = ""
    #: Further lines of the machine's /etc/hosts.
    hosts: str = ""
    #: Opens a port of this computer at which the metadata service answers this machine only, without the base path.
    open_metadata: Callable[[], int] = field(default=_nowhere, repr=False, compare=False)

    @property
    def mac(self) -> str:
        """The MAC address of the network interface, as the metadata service returns it."""
        digest = hashlib.sha256(self.instance_id.encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (2, *digest[:5]))


def place(number: int) -> str:
    """Return the last three numbers of an address, different for each of 16 million machines."""
    return f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class MachineHost(Protocol):
    def address(self, number: int, together: bool) -> str:
        """Return the private address of the machine with this number.

        Each launched machine has another number. `together` is true for the machines of a run with several of them.
        """

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        """Start the machine and return; call `powered_off(instance_id)` when it has powered itself off."""

    def end(self, instance_id: str) -> None:
        """Cut the power; return when the machine has ended and its files are removed. May be repeated."""

    def console(self, instance_id: str) -> str:
        """Return the machine's console output so far."""

    def capture(self, instance_id: str, image_id: str) -> None:
        """Keep a copy of the running machine's disk for the AMI, from which other machines may be booted.

        Returns when the copy is complete; the machine may be restarted for it. Any exception makes the AMI fail.
        """

    def forget(self, image_id: str) -> None:
        """Release the disk that was kept for the AMI, if any: no further machine will be booted from it."""

    def close(self) -> None:
        """End every machine."""
