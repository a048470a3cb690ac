"""Judge the login with which the account is read, and this computer's clock."""

from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.core.check.lines import Group, Line, Unseen, ok, unseen, warning, wrong
from provisioner.core.cloud import clock_skew


@dataclass(frozen=True)
class Identity:
    """What GetCallerIdentity returns, and by how many seconds this computer's clock is ahead of AWS's."""

    account: str
    arn: str
    ahead: float


def login(found: Identity | Unseen, region: str) -> Iterator[Line]:
    if isinstance(found, Unseen):
        if found.right:
            yield unseen(Group.LOGIN, found)
        else:
            yield wrong(Group.LOGIN, f"AWS does not answer this login: {found.reason}", "log in, and check again")
        return
    yield ok(Group.LOGIN, f"{found.arn} in account {found.account}, region {region}")
    if found.arn.endswith(":root"):
        text = "this login is the account's root user, which no policy limits"
        yield warning(Group.LOGIN, text, "use a role with the rights of `provision iam control`")


def clock(found: Identity | Unseen) -> Iterator[Line]:
    if isinstance(found, Unseen):
        return
    if abs(found.ahead) > clock_skew.TOLERANCE:
        told, _, _ = clock_skew.told(found.ahead).partition(": set it")
        fix = "set it: `timedatectl set-ntp true`; until then nothing is launched"
        yield wrong(Group.CLOCK, told, fix)
    else:
        yield ok(Group.CLOCK, "this computer's clock agrees with AWS's")
