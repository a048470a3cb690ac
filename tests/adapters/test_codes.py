"""The table from EC2's error codes to error classes that say what the caller should do."""

import pytest

from provisioner.adapters.ec2.codes import ending, translate
from provisioner.core import errors
from provisioner.core.cloud.machines import Ending
from provisioner.core.errors import CloudError

MEANINGS = [
    ("InsufficientInstanceCapacity", errors.NoCapacity),
    ("InsufficientFreeAddressesInSubnet", errors.NoCapacity),
    ("UnfulfillableCapacity", errors.NoCapacity),
    ("SpotMaxPriceTooLow", errors.NoCapacity),
    ("Unsupported", errors.NoCapacity),
    ("Server.InsufficientInstanceCapacity", errors.NoCapacity),
    ("VcpuLimitExceeded", errors.QuotaExceeded),
    ("MaxFleetCountExceeded", errors.QuotaExceeded),
    ("MaxSpotInstanceCountExceeded", errors.QuotaExceeded),
    ("Client.VolumeLimitExceeded", errors.QuotaExceeded),
    ("PlacementGroupLimitExceeded", errors.QuotaExceeded),
    ("RequestLimitExceeded", errors.Throttled),
    ("EC2ThrottledException", errors.Throttled),
    ("Throttling", errors.Throttled),
    ("InternalError", errors.Transient),
    ("Unavailable", errors.Transient),
    ("ExpiredToken", errors.Transient),
    ("InvalidLaunchTemplateName.NotFoundException", errors.Transient),
    ("InvalidPlacementGroup.Unknown", errors.Transient),
    ("InvalidPlacementGroup.InUse", errors.Transient),
    ("InvalidParameterCombination", errors.Misconfigured),
    ("Server.InternalError", errors.Transient),
    ("Server.NeverHeardOf", errors.Transient),
    ("Client.InternalError", errors.Misconfigured),
    ("Client.InvalidSnapshot.NotFound", errors.Misconfigured),
    ("UnauthorizedOperation", errors.Misconfigured),
    ("InvalidAMIID.NotFound", errors.Misconfigured),
    ("UnsupportedOperation", errors.Misconfigured),
    ("NeverHeardOf", errors.Misconfigured),
    ("", errors.Misconfigured),
]


@pytest.mark.parametrize(("code", "meaning"), MEANINGS)
def test_error_code_maps_to_error_class(code: str, meaning: type[CloudError]) -> None:
    """Each code maps to one class; the error shows code and message verbatim. Unknown codes are Misconfigured."""
    error = translate(code, "as AWS says it")
    assert type(error) is meaning
    assert error.code == code
    assert "as AWS says it" in str(error)
    assert code in str(error)


def test_quota_of_zero_is_misconfigured() -> None:
    """A quota of 0 needs the user to act; any other quota frees up when the installation's machines end."""
    said = "You have requested more vCPU capacity than your current vCPU limit of {} allows"
    assert type(translate("VcpuLimitExceeded", said.format(0))) is errors.Misconfigured
    assert type(translate("VcpuLimitExceeded", said.format(10))) is errors.QuotaExceeded


def test_limit_of_placement_groups_says_what_to_do() -> None:
    error = translate("PlacementGroupLimitExceeded", "You've reached the limit.")
    assert str(error) == (
        "PlacementGroupLimitExceeded: You've reached the limit; delete placement groups that have no machines, or ask "
        "AWS for a higher limit"
    )


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("Client.UserInitiatedShutdown", Ending.ASKED),
        ("Client.InstanceInitiatedShutdown", Ending.ASKED),
        ("Server.SpotInstanceTermination", Ending.INTERRUPTED),
        ("Server.SpotInstanceShutdown", Ending.INTERRUPTED),
        ("Server.InsufficientInstanceCapacity", Ending.NO_CAPACITY),
        ("Client.VolumeLimitExceeded", Ending.NO_CAPACITY),
        ("Client.InternalError", Ending.MISCONFIGURED),
        ("Client.InvalidSnapshot.NotFound", Ending.MISCONFIGURED),
        ("Server.InternalError", Ending.FAULT),
        ("Server.ScheduledStop", Ending.FAULT),
        ("", Ending.FAULT),
    ],
)
def test_state_reason_maps_to_ending(code: str, meaning: Ending) -> None:
    """The reason for a machine's end maps to the values that the reconciler acts on."""
    assert ending(code, "as AWS says it") is meaning
