"""Choose the capacity reservation for a launch, or say why none can be used and when to try again."""

import datetime as dt
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.reserved.reservations import ENDS_EARLY, FUTURE, Reservation
from provisioner.core.dates import datable

#: Seconds until a reservation that is full, or begins later than that, is looked at again. A machine's slot is free
#: again only when the machine has ended, which takes minutes.
FULL_EVERY = 30.0
FUTURE_EVERY = 600.0


@dataclass(frozen=True)
class Choice:
    """The reservation for a launch; without one, the reason, and when to try again."""

    reservation: Reservation | None = None
    reason: str = ""
    #: None if no later try can succeed.
    again_at: float | None = None
    #: Whether the reservation has begun and has too few free machines.
    full: bool = False
    #: Whether the reservation itself can never be used again, whatever is launched into it.
    over: bool = False


def choose(
    reserved: Sequence[Reservation], offered: Collection[tuple[str, str]], count: int, lifetime: float, now: float
) -> Choice:
    """Return the reservation with the most room for launches of `count` machines that may exist for `lifetime` seconds.

    `offered` has the instance types and zones that the machines may have, as pairs.
    """
    if not reserved:
        return Choice(reason="the group has no capacity reservation", over=True)
    choices = [_judged(each, offered, count, lifetime, now) for each in reserved]
    usable = [each for each in choices if each.reservation]
    if usable:
        return max(usable, key=lambda each: each.reservation.available if each.reservation else 0)
    waits = [each for each in choices if each.again_at is not None]
    if waits:
        return min(waits, key=lambda each: (not each.full, each.again_at))
    # Of a group, the reservations that are not over say more about the run.
    return min(choices, key=lambda each: each.over)


def _judged(each: Reservation, offered: Collection[tuple[str, str]], count: int, lifetime: float, now: float) -> Choice:
    if each.over:
        return Choice(reason=f"{each} is {each.state}", over=True)
    if unfit := _unfit(each, offered):
        return Choice(reason=unfit)
    if count > each.total:
        return Choice(reason=f"{each} has {_machines(each.total)}, but a run needs {count} at once")
    begins = max(now, each.starts_at or now)
    if each.block and each.ends_at is not None and begins + lifetime > each.ends_at - ENDS_EARLY:
        return Choice(reason=_too_late(each, each.ends_at - ENDS_EARLY - begins, lifetime))
    if each.state in FUTURE or begins > now:
        when = f"begins on {moment(begins)}" if begins > now else f"is {each.state}"
        # A reservation may be delayed, or become active a few minutes after its start.
        again = begins if now < begins < now + FUTURE_EVERY else now + FUTURE_EVERY
        return Choice(reason=f"{each} {when}", again_at=again if begins > now else now + FULL_EVERY)
    if count > each.available:
        free = f"{each} has {each.available} of {_machines(each.total)} free"
        text = free if count == 1 else f"{free}, but a run needs {count} at once"
        return Choice(reason=text, again_at=now + FULL_EVERY, full=True)
    return Choice(each)


def _unfit(each: Reservation, offered: Collection[tuple[str, str]]) -> str:
    """Return why no machine of these types and zones can be launched into the reservation, or ""."""
    if (each.instance_type, each.zone) not in offered:
        wanted = " or ".join(f"{kind} in {zone}" for kind, zone in sorted(offered)) or "no instance type of this region"
        return f"{each} is for {each.instance_type} in {each.zone}, but the job may use only {wanted}"
    if each.platform != "Linux/UNIX":
        return f"{each} is for the platform {each.platform}, but machines have Linux/UNIX"
    if each.tenancy != "default":
        return f"{each} is for the tenancy {each.tenancy}, but machines have the tenancy default"
    if each.interruptible:
        return f"{each} is interruptible, which is not supported"
    if each.placement_group:
        return f"{each} is in a placement group, which is not supported"
    return ""


def _too_late(each: Reservation, left: float, lifetime: float) -> str:
    ends = f"{each} ends on {moment(each.ends_at or 0.0)}, and EC2 ends its machines 30 minutes before"
    if left <= 0:
        return ends
    most, wanted = _hours(math.floor(left / 60)), _hours(math.ceil(lifetime / 60))
    return f"{ends}: that leaves {most}, but the limits of a run add up to {wanted}; lower limits.runtime"


def moment(at: float) -> str:
    """Return the time as text, in UTC."""
    return dt.datetime.fromtimestamp(datable(at), dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _hours(minutes: int) -> str:
    return f"{minutes // 60} h {minutes % 60} min"


def _machines(count: int) -> str:
    return f"{count} machine{'' if count == 1 else 's'}"
