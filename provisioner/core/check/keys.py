"""Judge a customer's own KMS key that encrypts disks or objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.lines import Group, Line, Unseen, named, ok, warning

#: What a launch needs for an encrypted disk (EC2 User Guide, "Required permissions for the KMS key").
FOR_DISKS = (
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
#: What readers and writers of encrypted objects need (S3 User Guide, "Using server-side encryption with AWS KMS keys").
FOR_OBJECTS = ("kms:Decrypt", "kms:GenerateDataKey")
_FIX = "name the key in `kms_keys` of the settings, and apply the policies of `provision iam`"


@dataclass(frozen=True)
class Key:
    #: The key's ARN or id.
    id: str
    #: By role or user: the rights that its own policies do not allow. A key's policy may allow them nevertheless.
    missing: Mapping[str, Sequence[str]] | Unseen


def key_lines(group: Group, key: Key, what: str, rights: Sequence[str]) -> Iterator[Line]:
    """Yield a line for each role that lacks some of the rights on the key."""
    if isinstance(key.missing, Unseen):
        text = f"{what} are encrypted with {key.id}; {key.missing.what} cannot be read: {key.missing.reason}"
        yield warning(group, text, f"{_FIX}; it needs {named(rights, 6)}")
        return
    lacking = {role: rights for role, rights in key.missing.items() if rights}
    for role, rights in lacking.items():
        text = f"{what} are encrypted with {key.id}, but the policies of {role} lack {named(rights, 6)}"
        yield warning(group, text, f"{_FIX}, unless the key's own policy allows them")
    if not lacking:
        yield ok(group, f"{what} are encrypted with {key.id}, which the roles may use")
