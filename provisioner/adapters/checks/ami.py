"""Read the AMI of machines, and the default encryption of disks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from provisioner.adapters.checks.looking import Looker
from provisioner.adapters.checks.simulation import missing
from provisioner.adapters.ec2 import imaging
from provisioner.core.check.ami import Ami
from provisioner.core.check.keys import FOR_DISKS, Key
from provisioner.core.check.lines import Unseen
from provisioner.core.errors import CloudError


def ami(looker: Looker, reference: str) -> Ami | Unseen | None:
    """Return the AMI `ami-…` or that of the parameter `ssm:/path`; None if either does not exist."""

    def read() -> Ami | None:
        try:
            id = reference
            if reference.startswith("ssm:"):
                name = reference.removeprefix("ssm:")
                id = looker.ask("ssm", "get_parameter", Name=name)["Parameter"]["Value"]
            found = looker.ask("ec2", "describe_images", ImageIds=[id])["Images"]
        except CloudError as error:
            if error.code.startswith(("InvalidAMIID", "ParameterNotFound")):
                return None
            raise
        return _ami(found[0]) if found else None

    right = "ssm:GetParameter or ec2:DescribeImages" if reference.startswith("ssm:") else "ec2:DescribeImages"
    return looker.look(f"the AMI {reference}", right, read, needed=True)


def _ami(said: Any) -> Ami:
    deprecated = said.get("DeprecationTime")
    return Ami(
        id=said["ImageId"],
        name=said.get("Name", ""),
        state=said["State"],
        architecture=said["Architecture"],
        disk_gib=imaging.disk_gib(said),
        deprecated_at=dt.datetime.fromisoformat(deprecated).timestamp() if deprecated else None,
    )


def disks(looker: Looker, principals: dict[str, str]) -> Key | Unseen | None:
    """Return the customer's own key with which new disks are encrypted by default, or None.

    `principals` has the ARN of the role that launches, by its name.
    """

    def key() -> str:
        if not looker.ask("ec2", "get_ebs_encryption_by_default")["EbsEncryptionByDefault"]:
            return ""
        id = str(looker.ask("ec2", "get_ebs_default_kms_key_id")["KmsKeyId"])
        return "" if id.endswith("alias/aws/ebs") else id

    right = "ec2:GetEbsEncryptionByDefault or ec2:GetEbsDefaultKmsKeyId"
    own = looker.look("the encryption of disks", right, key)
    if isinstance(own, Unseen):
        return own
    return Key(own, missing(looker, principals, FOR_DISKS, own)) if own else None
