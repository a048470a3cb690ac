"""When schedules are due: pure arithmetic on cron's five fields, `@hourly` and its like, and `@every 4h`.

The rule at a change of the clocks is Debian cron's (cron(8), "Daylight Saving Time"), which cronsim follows: a time
that is skipped is due once, at the jump; one that comes twice is due once. Schedules whose minutes or hours begin
with `*` go by the time that passes.
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

from provisioner.core.recipe import cron, duration
from provisioner.core.recipe.jobs import Catchup, Job, Schedule

#: A start is late after this, in seconds: a pass, and a daemon's restart, take less.
ON_TIME = 60.0
#: How late `last` still starts, in seconds.
LATEST = 600.0
#: A clock that was further ahead than this was set right since, in seconds; as in Debian's cron (cron(8)).
AHEAD = 3 * 3600.0
#: How many starts `all` makes up for, the newest: a machine each.
MOST = 100
#: So begins the idempotency key of a run that a schedule started; the time follows.
KEY = "schedule "
#: crontab(5); robfig/cron has the same, which Saturn names.
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
#: Later than this no date is written (datetime.MAXYEAR).
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
        raise ValueError(cron.wrong(fields) or f"{str(error).lower() or 'it never comes'}; {_RIGHT}") from error
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
    """Its times later than `after`, each once, in Unix seconds; `since` is what `@every` counts from."""
    if schedule.cron.startswith("@every "):
        interval = _interval(schedule.cron)
        first = max(0, int((after - since) // interval)) + 1
        yield from itertools.takewhile(_END.__gt__, (since + interval * number for number in itertools.count(first)))
        return
    zone = zoneinfo.ZoneInfo(schedule.timezone)
    start = dt.datetime.fromtimestamp(after, dt.UTC).astimezone(zone)
    fields = _NICKNAMES.get(schedule.cron, schedule.cron)
    for moment in _cron(fields, start):
        # At a jump several of its times fall together; in an hour that comes twice it looks back.
        if (at := moment.timestamp()) > after:
            after = at
            yield at


def upcoming(job: Job, now: float, count: int) -> tuple[float, ...]:
    """The job's next times, if it has a schedule."""
    if job.schedule is None:
        return ()
    return tuple(itertools.islice(ticks(job.schedule, job.scheduled_at, max(now, _decided(job))), count))


def next_tick(job: Job) -> float:
    """The first time that is not decided, past or to come; infinite where there is none."""
    return _next(job.schedule, job.scheduled_at, _decided(job)) if job.schedule else math.inf


@functools.lru_cache(10_000)
def _next(schedule: Schedule, since: float, after: float) -> float:
    return next(ticks(schedule, since, after), math.inf)


@dataclass(frozen=True)
class Due:
    """What has passed undecided: its last time, and those that are to be started, the oldest first."""

    tick: float
    starts: tuple[float, ...]


def due(job: Job, now: float) -> Due | None:
    """What the job's schedule wants by now; None where it has nothing to decide."""
    if job.schedule is None:
        return None
    if job.tick is not None and job.tick > now + AHEAD:
        # Decided by a clock that was wrong: without this nothing would be due until then.
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
    """The newest times until now, `MOST` of them; looks no further back than it must: a year has 525,600 minutes."""
    back = 3600.0
    while True:
        start = max(after, now - back)
        found = list(itertools.takewhile(lambda at: at <= now, ticks(schedule, since, start)))
        if len(found) >= MOST or start == after:
            return found[-MOST:]
        back *= 8


def run_id(job: Job, tick: float) -> str:
    """The id of the run that a job's schedule starts then: whoever starts it again finds it there."""
    return hashlib.sha256(f"{job.id} {tick:.0f}".encode()).hexdigest()[:32]


def key(tick: float) -> str:
    """Sorts as time does."""
    return f"{KEY}{dt.datetime.fromtimestamp(tick, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _decided(job: Job) -> float:
    return job.scheduled_at if job.tick is None else max(job.scheduled_at, job.tick)


def _interval(text: str) -> int:
    return int(duration.seconds(text.removeprefix("@every ")))


def _cron(fields: str, start: dt.datetime) -> CronSim:
    # robfig/cron's `?` is any value, as `*`.
    return CronSim(" ".join("*" if each == "?" else each for each in fields.split(" ")), start)
