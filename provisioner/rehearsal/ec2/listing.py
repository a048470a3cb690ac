"""The machines as DescribeInstances lists them: some conditions hide a machine or show an earlier state."""

import dataclasses
import zlib
from collections.abc import Collection, Iterable

from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Instance


def listed(
    instances: Iterable[Instance], ids: Collection[str], conditions: Conditions, began: float, now: float, looks: int
) -> list[Instance]:
    """Return all machines that a call lists, or those with `ids`; raises Refused for an unlisted id.

    `looks` is the number of this call. The times of the conditions count from `began`, in Unix seconds.
    """
    seen = (_as_shown(one, conditions, began, now, looks) for one in instances)
    shown = {one.id: one for one in seen if one is not None}
    missing = [one for one in ids if one not in shown]
    if missing:
        # The program reads the ids. The message for one id: boto3#567. That for several is assumed.
        plural, verb = ("s", "do") if len(missing) > 1 else ("", "does")
        message = f"The instance ID{plural} '{', '.join(missing)}' {verb} not exist"
        raise Refused("InvalidInstanceID.NotFound", message)
    return [shown[one] for one in dict.fromkeys(ids)] if ids else list(shown.values())


def _as_shown(one: Instance, conditions: Conditions, began: float, now: float, looks: int) -> Instance | None:
    """Return the instance as this call shows it, possibly out of date; None if it is not listed."""
    behind = 0.0
    if conditions.flap:
        # A fixed fraction for each call and machine, so that the model is deterministic.
        behind = conditions.flap * zlib.crc32(f"{looks} {one.id}".encode()) / 2**32
    if now < one.launch_time + max(conditions.lag, behind):
        return None
    for rule in conditions.absences:
        if rule.where.fits(one.offer) and began + rule.at <= now < began + rule.ends:
            return None
    history = tuple(change for change in one.history if change.at <= now - behind)
    return dataclasses.replace(one, history=history) if behind and history != one.history else one
