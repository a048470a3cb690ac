"""AWS's partitions: groups of regions with ARNs and domains of their own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    #: The second part of its ARNs.
    name: str
    #: The end of its services' host names, and of the name by which EC2 assumes roles.
    domain: str


STANDARD = Partition("aws", "amazonaws.com")
#: The other partitions, by the first part of their regions' names; a test compares them with botocore's.
_OTHERS = {
    "cn-": Partition("aws-cn", "amazonaws.com.cn"),
    "eu-isoe-": Partition("aws-iso-e", "cloud.adc-e.uk"),
    "eusc-": Partition("aws-eusc", "amazonaws.eu"),
    "us-gov-": Partition("aws-us-gov", "amazonaws.com"),
    "us-iso-": Partition("aws-iso", "c2s.ic.gov"),
    "us-isob-": Partition("aws-iso-b", "sc2s.sgov.gov"),
    "us-isof-": Partition("aws-iso-f", "csp.hci.ic.gov"),
}


def partition(region: str) -> Partition:
    """Return the partition that the region belongs to."""
    return next((found for first, found in _OTHERS.items() if region.startswith(first)), STANDARD)
