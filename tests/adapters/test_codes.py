"""The table from EC2's error codes to error classes that say what the caller should do."""

import pytest

from provisioner.adapters.ec2.codes import decisive, ending, translate
from provisioner.core import errors
from provisioner.core.cloud.launches import Refusal
from provisioner.core.cloud.machines import Ending
from provisioner.core.cloud.offers import Market, Offer
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
    # A person must act; the runs wait. (The codes of all services: test_credentials.py)
    ("AuthFailure", errors.NeedsOperator),
    ("ExpiredToken", errors.NeedsOperator),
    ("OptInRequired", errors.NeedsOperator),
    ("PendingVerification", errors.NeedsOperator),
    ("RequestExpired", errors.NeedsOperator),
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


@pytest.mark.parametrize(
    ("message", "vcpus", "machines"),
    [
        # As in many reports; the rest of the sentence differs.
        ("You have requested more vCPU capacity than your current vCPU limit of 8 allows for the …", 8, None),
        ("You have requested more vCPU capacity than your current vCPU limit of 0 allows for the …", 0, None),
        ("You have requested more instances (1) than your current instance limit of 2 allows …", None, 2),
        # Spot (nixops-aws#41, aws-parallelcluster#340).
        ("Max spot instance count exceeded", None, None),
    ],
)
def test_limit_in_the_message_of_a_quota_is_read(message: str, vcpus: int | None, machines: int | None) -> None:
    """The core compares it with what the run needs; an old code for a quota has a number of machines."""
    error = translate("VcpuLimitExceeded", message)
    assert isinstance(error, errors.QuotaExceeded)
    assert (error.vcpus, error.machines) == (vcpus, machines)


OFFER = Offer(Market.SPOT, "g5.xlarge", "a")
UNFULFILLABLE = Refusal(translate("UnfulfillableCapacity", "Unable to fulfill capacity"), OFFER)


@pytest.mark.parametrize(
    "code",
    [
        "MaxSpotInstanceCountExceeded",
        "InvalidParameterCombination",
        "InsufficientInstanceCapacity",
        "PendingVerification",
        "RequestLimitExceeded",
    ],
)
def test_any_other_code_decides_beside_unfulfillable_capacity(code: str) -> None:
    """Otherwise a misconfigured launch would wait for capacity for ever, and a quota would make its offer dry."""
    other = Refusal(translate(code, "as AWS says it"), OFFER)
    assert decisive([UNFULFILLABLE, other]) == (other,)
    assert decisive([other, UNFULFILLABLE, UNFULFILLABLE]) == (other,)


def test_unfulfillable_capacity_alone_is_a_lack_of_capacity() -> None:
    assert decisive([UNFULFILLABLE, UNFULFILLABLE]) == (UNFULFILLABLE, UNFULFILLABLE)
    assert decisive([]) == ()


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
