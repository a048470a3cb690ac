"""What an account must have: the settings, and what the jobs need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.quotas import Need
from provisioner.core.cloud.partitions import partition
from provisioner.core.cloud.policies import Document


@dataclass(frozen=True)
class Wanted:
    installation: str
    region: str
    #: `name` or `name/prefix`.
    bucket: str
    subnets: Sequence[str]
    #: The security groups of each instance profile; empty for the VPC's default group.
    groups: Mapping[str, Sequence[str]]
    #: The role of each instance profile, by the profile's name; a role may have a path before its name.
    roles: Mapping[str, str]
    #: The AMI's id, or `ssm:/path` of a parameter that contains it.
    image: str
    disk_gib: int
    #: The policy of the roles of machines.
    machine_policy: Document
    needs: Sequence[Need] = ()

    @property
    def service(self) -> str:
        """EC2's name as a principal."""
        return f"ec2.{partition(self.region).domain}"

    @property
    def gangs(self) -> list[str]:
        """The jobs whose machines connect to each other."""
        return [need.job for need in self.needs if need.machines > 1]
