"""The table that translates EC2's error codes into errors that are named for what the caller should do.

The table is applied to exceptions, to each entry of `Errors` in an answer with status 200, and to the StateReason of a
machine that never reported. A code that is not in the table is `Misconfigured`: it is shown verbatim and ends the run's
waiting, because a run that silently retries an unknown error may wait for ever.
Sources: EC2 API Reference, "Error codes"; EC2 User Guide, "Troubleshoot instance launch issues".
"""

import re
from collections.abc import Iterable, Mapping

from provisioner.adapters import aws, credentials
from provisioner.core import errors
from provisioner.core.cloud.launches import Refusal
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
    # Only if no other code stands beside it: see `decisive`.
    "UnfulfillableCapacity": errors.NoCapacity,
    # The type is not available in this zone (or not in this market): another offer may be.
    "Unsupported": errors.NoCapacity,
    "InstanceLimitExceeded": errors.QuotaExceeded,
    "MaxFleetCountExceeded": errors.QuotaExceeded,
    "MaxSpotInstanceCountExceeded": errors.QuotaExceeded,
    "NetworkInterfaceLimitExceeded": errors.QuotaExceeded,
    "PlacementGroupLimitExceeded": errors.QuotaExceeded,
    "VcpuLimitExceeded": errors.QuotaExceeded,
    "VolumeLimitExceeded": errors.QuotaExceeded,
    # A new template may not be visible everywhere yet.
    "InvalidLaunchTemplateId.NotFound": errors.Transient,
    "InvalidLaunchTemplateName.NotFoundException": errors.Transient,
    # A new placement group may not be visible everywhere yet.
    "InvalidPlacementGroup.Unknown": errors.Transient,
    # Of a launch: the group is bound to another zone. The next launch has a group of its own.
    "InvalidPlacementGroup.InUse": errors.Transient,
    # In a StateReason: a volume could not be decrypted, because the launch may not use the KMS key.
    "Client.InternalError": errors.Misconfigured,
}

#: Codes that only the StateReason of an ended machine has, never the error of a call.
ENDINGS: Mapping[str, Ending] = {
    "Client.InstanceInitiatedShutdown": Ending.ASKED,
    "Client.UserInitiatedShutdown": Ending.ASKED,
    "Server.SpotInstanceShutdown": Ending.INTERRUPTED,
    "Server.SpotInstanceTermination": Ending.INTERRUPTED,
}

#: By the first part of an error code: the setting that names the missing resource.
SETTINGS: Mapping[str, str] = {
    "InvalidAMIID": "image",
    "InvalidGroup": "security_groups",
    "InvalidGroupId": "security_groups",
    "InvalidSecurityGroupID": "security_groups",
    "InvalidSubnetID": "subnets",
}

#: By error code: what to do, in addition to EC2's message.
ADVICE: Mapping[str, str] = {
    "Client.InternalError": "if the account encrypts disks with a key of its own, name its ARN in `kms_keys` of the"
    " settings, and apply the policies of `provision iam`; the key's own policy must allow these roles, too",
    "MaxFleetCountExceeded": "delete EC2 Fleets that have no machines, or ask AWS for a higher limit",
    "PlacementGroupLimitExceeded": "delete placement groups that have no machines, or ask AWS for a higher limit",
}

#: The limit in a message, for instance "your current vCPU limit of 8 allows". Spot's message has no number: it is only
#: "Max spot instance count exceeded".
_LIMIT = re.compile(r"\b(vCPU|instance) limit of (\d{1,9})\b")


def translate(code: str, message: str) -> CloudError:
    """Return the error for EC2's `code`, which in a StateReason begins with `Server.` or `Client.`."""
    if person := credentials.rejected(code, message):
        return person
    side, _, bare = code.partition(".")
    meaning = CODES.get(code) or (CODES.get(bare) if side in ("Server", "Client") else None)
    if meaning is None:
        # An unknown `Server.` code is a temporary fault of EC2 itself.
        meaning = errors.Transient if side == "Server" else errors.Misconfigured
    if setting := SETTINGS.get(code.partition(".")[0]):
        message = f"{message}; correct `{setting}` in the settings"
    message = advised(code, message)
    if meaning is errors.QuotaExceeded:
        unit, most = found.groups() if (found := _LIMIT.search(message)) else ("", "0")
        return errors.QuotaExceeded(
            message,
            code,
            vcpus=int(most) if unit == "vCPU" else None,
            machines=int(most) if unit == "instance" else None,
        )
    return meaning(message, code)


def advised(code: str, message: str) -> str:
    """Return EC2's message with what to do, if that is known."""
    return f"{message.rstrip('.')}; {ADVICE[code]}" if code in ADVICE else message


def decisive(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    """Return the refusals without UnfulfillableCapacity, if any other code is among them.

    EC2 puts this code beside the true error, such as MaxSpotInstanceCountExceeded (Karpenter's documents,
    "Troubleshooting") or InvalidParameterCombination (karpenter#5666).
    """
    found = tuple(refusals)
    return tuple(each for each in found if each.error.code != "UnfulfillableCapacity") or found


def ending(code: str, message: str) -> Ending:
    """Return why a machine has ended, by its StateReason."""
    if known := ENDINGS.get(code):
        return known
    match translate(code, message):
        case errors.NoCapacity() | errors.QuotaExceeded():
            return Ending.NO_CAPACITY
        case errors.Misconfigured() if code:
            return Ending.MISCONFIGURED
    return Ending.FAULT
