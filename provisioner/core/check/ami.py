"""Judge the AMI of machines, and the encryption of their disks."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.core.check.keys import FOR_DISKS, Key, key_lines
from provisioner.core.check.lines import Group, Line, Unseen, ok, unseen, warning, wrong


@dataclass(frozen=True)
class Ami:
    id: str
    name: str
    #: EC2's word: `available`, `pending`, `failed` …
    state: str
    architecture: str
    disk_gib: int
    #: The Unix time from which it is deprecated; None without one.
    deprecated_at: float | None = None


def ami(found: Ami | Unseen | None, reference: str, disk_gib: int, now: float) -> Iterator[Line]:
    """Yield the lines for the AMI; None if the account lacks it. `reference` is an id, or `ssm:/path`."""
    if isinstance(found, Unseen):
        yield unseen(Group.AMI, found)
        return
    if found is None:
        fix = "correct `image` in the settings, or choose another with `provision ami use`"
        yield wrong(Group.AMI, f"there is no AMI {reference}, or this account may not use it", fix)
        return
    known = f"{found.id} ({found.name or 'without a name'})"
    if found.state != "available":
        text = f"the AMI {known} is {found.state}, not available"
        yield wrong(Group.AMI, text, "choose another with `provision ami use`, or in `image` of the settings")
    else:
        yield ok(Group.AMI, f"{known}: {found.architecture}, {found.disk_gib} GiB")
    if found.deprecated_at is not None and found.deprecated_at <= now:
        day = dt.datetime.fromtimestamp(found.deprecated_at, dt.UTC).date()
        text = f"the AMI {known} is deprecated since {day}: its owner does not maintain it any more"
        yield warning(Group.AMI, text, "choose a newer one in `image` of the settings, or `provision ami bake`")
    if disk_gib < found.disk_gib:
        text = f"disk_gib is {disk_gib}, but the AMI {found.id} needs {found.disk_gib} GiB, which machines get"
        fix = f"set disk_gib to more than {found.disk_gib}: images and data of jobs need room, too"
        yield warning(Group.AMI, text, fix)


def disks(key: Key | Unseen | None) -> Iterator[Line]:
    """Yield the line for the default encryption of disks; None if it is off or uses a key of AWS."""
    if isinstance(key, Unseen):
        yield unseen(Group.AMI, key)
    elif key:
        yield from key_lines(Group.AMI, key, "disks", FOR_DISKS)
    else:
        yield ok(Group.AMI, "disks are encrypted with no own key")
