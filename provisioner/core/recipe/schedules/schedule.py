"""Compute when schedules are due: cron's five fields, `@hourly` and similar names, and `@every 4h`.

cronsim follows Debian cron when daylight saving time begins or ends (cron(8), "Daylight Saving Time"): a skipped time
is due once, at the change, and a repeated time is due once. Schedules whose minute or hour begins with `*` follow the
elapsed time instead.
"""

import datetime as dt
import functools
import hashlib
import itertools
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass

from cronsim import CronSim, CronSimError

from provisioner.core.recipe import duration
from provisioner.core.recipe.jobs import Catchup, Job, Schedule
from provisioner.core.recipe.schedules import cron

#: Seconds after which a start is late. A pass, or a restart of the daemon, takes less time.
ON_TIME = 60.0
#: Maximum number of seconds by which a start may be late with `schedule_catchup: last`.
LATEST = 600.0
#: If `Job.tick` is more than this many seconds ahead of the clock, a wrong clock set it and has been corrected since;
#: Debian's cron has the same limit (cron(8)).
AHEAD = 3 * 3600.0
#: Maximum number of late starts with `schedule_catchup: all`, because each needs a machine. Older starts are dropped.
MOST = 100
#: The beginning of the idempotency key of a run that a schedule started; the time follows.
KEY = "schedule "
#: From crontab(5); robfig/cron, which Saturn refers to, has the same names.
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_RIGHT = "write five fields, such as '0 2 * * *', or @hourly, @daily, @weekly, @monthly, @yearly, or @every 4h"
#: The longest interval, in seconds.
_LONGEST_INTERVAL = 99_999 * 86400
_LONGEST_TEXT = 200
#: The latest Unix time of a schedule: datetime has no later years (datetime.MAXYEAR).
_END = dt.datetime(dt.MAXYEAR, 1, 1, tzinfo=dt.UTC).timestamp()


def checked(text: str) -> str:
    """Return the schedule with single spaces; raises ValueError with the correct form."""
    text = " ".join(text.split())
    if text.startswith("@every "):
        try:
            interval = _interval(text)
        except ValueError as error:
            raise ValueError(f"@every: {error}") from error
        if interval < 60:
            raise ValueError("write @every with a minute or more, such as @every 4h or @every 1h30m")
        return text
    if re.match("(CRON_)?TZ=", text):
        raise ValueError("name the time zone as spec.timezone")
    fields = _NICKNAMES.get(text, text)
    if len(text) > _LONGEST_TEXT or len(fields.split(" ")) != 5:
        raise ValueError(_RIGHT)
    try:
        next(_cron(fields, dt.datetime(2000, 1, 1, tzinfo=dt.UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(cron.wrong(fields) or f"{str(error).lower() or 'it is never due'}; {_RIGHT}") from error
    return text


def stepping(text: str) -> str:
    """Return a checked schedule; raises ValueError if a step is longer than its field, or `@every` is too long.

    Cron restarts its count in each hour, day or month, so `*/90` in the minute field is due once an hour.
    """
    if text.startswith("@every ") and _interval(text) > _LONGEST_INTERVAL:
        raise ValueError(f"write @every with at most {_LONGEST_INTERVAL // 86400}d")
    if not text.startswith("@") and (problem := cron.overstepped(text)):
        raise ValueError(problem)
    return text


def ticks(schedule: Schedule, since: float, after: float) -> Iterator[float]:
    """Yield the schedule's times later than `after`, each once, in Unix seconds; `@every` counts from `since`."""
    if schedule.cron.startswith("@every "):
        interval = _interval(schedule.cron)
        first = max(0, int((after - since) // interval)) + 1
        yield from itertools.takewhile(_END.__gt__, (since + interval * number for number in itertools.count(first)))
        return
    zone = zoneinfo.ZoneInfo(schedule.timezone)
    start = dt.datetime.fromtimestamp(after, dt.UTC).astimezone(zone)
    fields = _NICKNAMES.get(schedule.cron, schedule.cron)
    for moment in _cron(fields, start):
        # When the clocks change, cronsim yields several equal times, or earlier ones in the hour that comes twice.
        if (at := moment.timestamp()) > after:
            after = at
            yield at


def upcoming(job: Job, now: float, count: int) -> tuple[float, ...]:
    """Return the next `count` times of the job's schedule, in Unix seconds; empty if it has none."""
    if job.schedule is None:
        return ()
    return tuple(itertools.islice(ticks(job.schedule, job.scheduled_at, max(now, _decided(job))), count))


def next_tick(job: Job) -> float:
    """Return the schedule's first time that is not decided yet, past or future, in Unix seconds, or infinity."""
    return _next(job.schedule, job.scheduled_at, _decided(job)) if job.schedule else math.inf


@functools.lru_cache(10_000)
def _next(schedule: Schedule, since: float, after: float) -> float:
    return next(ticks(schedule, since, after), math.inf)


@dataclass(frozen=True)
class Due:
    """The times that are due: `tick` is the last of them, and `starts` are those that get a run, the oldest first."""

    tick: float
    starts: tuple[float, ...]


def due(job: Job, now: float) -> Due | None:
    """Return the times of the job's schedule that are due at `now` and not decided yet; None if there are none."""
    if job.schedule is None:
        return None
    if job.tick is not None and job.tick > now + AHEAD:
        # job.tick was set by a wrong clock. Set it to `now`: otherwise no time would be due before job.tick.
        return Due(now, ())
    if next_tick(job) > now:
        return None
    passed = _passed(job.schedule, job.scheduled_at, _decided(job), now)
    match job.schedule.catchup:
        case Catchup.NONE:
            starts = [at for at in passed if at >= now - ON_TIME]
        case Catchup.LAST:
            starts = [at for at in [passed[-1]] if at >= now - LATEST]
        case Catchup.ALL:
            starts = list(passed)
    return Due(passed[-1], tuple(starts))


def _passed(schedule: Schedule, since: float, after: float, now: float) -> list[float]:
    """Return the newest times until `now`, at most MOST.

    Search back in growing steps, because a schedule may have been due every minute for years.
    """
    back = 3600.0
    while True:
        start = max(after, now - back)
        found = list(itertools.takewhile(lambda at: at <= now, ticks(schedule, since, start)))
        if len(found) >= MOST or start == after:
            return found[-MOST:]
        back *= 8


def run_id(job: Job, tick: float) -> str:
    """Return the id of the run that the job's schedule starts at `tick`: the same for each try, so only one starts."""
    return hashlib.sha256(f"{job.id} {tick:.0f}".encode()).hexdigest()[:32]


def key(tick: float) -> str:
    """Return the idempotency key of a run that a schedule starts at `tick`; keys sort by time."""
    return f"{KEY}{dt.datetime.fromtimestamp(tick, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _decided(job: Job) -> float:
    return job.scheduled_at if job.tick is None else max(job.scheduled_at, job.tick)


def _interval(text: str) -> int:
    return int(duration.seconds(text.removeprefix("@every ")))


def _cron(fields: str, start: dt.datetime) -> CronSim:
    # In robfig/cron `?` means any value, like `*`.
    return CronSim(" ".join("*" if each == "?" else each for each in fields.split(" ")), start)
