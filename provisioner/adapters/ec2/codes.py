"""EC2's word for a failure, and what the caller should do about it: the one table.

It is applied to exceptions, to each entry of a 200's `Errors`, and to the StateReason of a machine
that never reported. A code that is not here is `Misconfigured`: it is shown verbatim and ends the
run's waiting, because retrying in silence what nobody has understood is how runs wait for ever.
Sources: EC2 API Reference, "Error codes"; EC2 User Guide, "Troubleshoot instance launch issues".
"""

import re
from collections.abc import Mapping

from provisioner.adapters import aws
from provisioner.core import errors
from provisioner.core.cloud.machines import Ending
from provisioner.core.errors import CloudError

CODES: Mapping[str, type[CloudError]] = {
    **aws.PASSING,
    "InsufficientAddressCapacity": errors.NoCapacity,
    "InsufficientCapacity": errors.NoCapacity,
    "InsufficientCapacityOnHost": errors.NoCapacity,
    "InsufficientFreeAddressesInSubnet": errors.NoCapacity,
    "InsufficientHostCapacity": errors.NoCapacity,
    "InsufficientInstanceCapacity": errors.NoCapacity,
    "InsufficientReservedInstanceCapacity": errors.NoCapacity,
    "InsufficientVolumeCapacity": errors.NoCapacity,
    "ReservationCapacityExceeded": errors.NoCapacity,
    "SpotMaxPriceTooLow": errors.NoCapacity,
    "UnfulfillableCapacity": errors.NoCapacity,
    # The type is not to be had in this zone (or not in this market): another offer may be.
    "Unsupported": errors.NoCapacity,
    "InstanceLimitExceeded": errors.QuotaExceeded,
    "MaxFleetCountExceeded": errors.QuotaExceeded,
    "MaxSpotInstanceCountExceeded": errors.QuotaExceeded,
    "NetworkInterfaceLimitExceeded": errors.QuotaExceeded,
    "VcpuLimitExceeded": errors.QuotaExceeded,
    "VolumeLimitExceeded": errors.QuotaExceeded,
    # A template made a moment ago may not be seen everywhere yet.
    "InvalidLaunchTemplateId.NotFound": errors.Transient,
    "InvalidLaunchTemplateName.NotFoundException": errors.Transient,
    # In a StateReason this is a volume that could not be decrypted: a KMS key denied to the launch.
    "Client.InternalError": errors.Misconfigured,
}

#: Reasons why a machine ended that no call is ever refused for.
ENDINGS: Mapping[str, Ending] = {
    "Client.InstanceInitiatedShutdown": Ending.ASKED,
    "Client.UserInitiatedShutdown": Ending.ASKED,
    "Server.SpotInstanceShutdown": Ending.INTERRUPTED,
    "Server.SpotInstanceTermination": Ending.INTERRUPTED,
}

#: A quota of nothing is no limit to wait at.
_QUOTA_ZERO = re.compile(r"\blimit of 0\b")


def translate(code: str, message: str) -> CloudError:
    """The error for EC2's `code`, which in a StateReason has `Server.` or `Client.` before it."""
    side, _, bare = code.partition(".")
    meaning = CODES.get(code) or (CODES.get(bare) if side in ("Server", "Client") else None)
    if meaning is None:
        # What EC2 calls its own fault passes, even by a name we have not met.
        meaning = errors.Transient if side == "Server" else errors.Misconfigured
    if meaning is errors.QuotaExceeded and _QUOTA_ZERO.search(message):
        meaning = errors.Misconfigured
    return meaning(message, code)


def ending(code: str, message: str) -> Ending:
    """What a StateReason says of a machine that has ended."""
    if known := ENDINGS.get(code):
        return known
    match translate(code, message):
        case errors.NoCapacity() | errors.QuotaExceeded():
            return Ending.NO_CAPACITY
        case errors.Misconfigured() if code:
            return Ending.MISCONFIGURED
    return Ending.FAULT
