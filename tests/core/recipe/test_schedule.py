"""When schedules are due, over years, time zones and clock changes."""

import datetime as dt
import itertools
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from dataclasses import replace

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.recipe.jobs import Catchup, Job, Schedule
from provisioner.core.recipe.schedules.schedule import (
    LATEST,
    MOST,
    ON_TIME,
    checked,
    due,
    key,
    next_tick,
    run_id,
    stepping,
    ticks,
    upcoming,
)

#: Zones of every kind: whole and odd offsets, half-hour and midnight changes, both hemispheres, changes in Ramadan, and
#: a change of the rule itself.
ZONES = (
    *("UTC", "Europe/Berlin", "Europe/Dublin", "America/New_York", "America/St_Johns", "America/Santiago"),
    *("America/Havana", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "Asia/Kathmandu", "Asia/Tehran"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "America/Sao_Paulo"),
)
FIRST, LAST = dt.datetime(2022, 1, 1, tzinfo=dt.UTC), dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
HOUR = 3600.0


def job(cron: str = "* * * * *", zone: str = "UTC", catchup: Catchup = Catchup.LAST, since: float = 0.0) -> Job:
    return Job("j", "ann", "train", "{}", 1, 0, 0, schedule=Schedule(cron, zone, catchup=catchup), scheduled_at=since)


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def local(cron: str, zone: str, since: str, until: str) -> list[str]:
    """Return the ticks between the two times as local times, with their offsets."""
    found = itertools.takewhile(lambda tick: tick < at(until), ticks(Schedule(cron, zone), 0.0, at(since)))
    return [dt.datetime.fromtimestamp(tick, zoneinfo.ZoneInfo(zone)).strftime("%d %H:%M %z") for tick in found]


@pytest.mark.parametrize(
    ("cron", "zone", "since", "expected"),
    [
        # Berlin, 2026: 29 March, 02:00 becomes 03:00; 25 October, 03:00 becomes 02:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00 +0200", "30 03:00 +0200"]),
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00 +0200", "30 02:15 +0200", "30 02:45 +0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00 +0200", "30 02:00 +0200", "30 03:00 +0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("30 1 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["25 01:30 +0200", "26 01:30 +0100"]),
        # The ticks are asked for in the second hour from 02:00 to 03:00, after the tick at 02:30 of the first one.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", ["26 02:30 +0100"]),
        # Hours that begin with * count elapsed time.
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:30Z", ["29 03:00 +0200", "29 04:00 +0200"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]),
        # New York, 2026: 8 March and 1 November.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00Z", ["08 03:00 -0400", "09 02:30 -0400"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00Z", ["01 01:30 -0400", "02 01:30 -0500"]),
        # Lord Howe changes by half an hour: 4 October, 02:00 becomes 02:30.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", ["04 02:30 +1100", "05 02:15 +1100"]),
        # Cairo, 24 April: midnight becomes 01:00.
        ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00Z", ["24 01:00 +0300", "25 00:00 +0300"]),
        # Samoa had no 30 December 2011.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00Z", ["31 00:00 +1400", "31 12:00 +1400"]),
    ],
)
def test_a_change_of_the_clocks(cron: str, zone: str, since: str, expected: list[str]) -> None:
    """A skipped time is due once, at the change; a repeated time is due once."""
    until = dt.datetime.fromtimestamp(at(since) + 2.5 * 86400, dt.UTC).isoformat()
    assert local(cron, zone, since, until)[: len(expected)] == expected


@pytest.mark.parametrize("zone", ZONES)
def test_five_years_once_a_day(zone: str) -> None:
    """A daily time comes once each calendar day in spite of clock changes, and ticks always increase."""
    for cron in ("30 2 * * *", "0 0 * * *", "59 23 * * *"):
        _once_a_day(cron, zone, FIRST)


def test_every_zone_once_a_day() -> None:
    """Each zone is checked for the last of the five years."""
    for zone in zoneinfo.available_timezones():
        _once_a_day("30 2 * * *", zone, LAST.replace(year=LAST.year - 1))


def _once_a_day(cron: str, zone: str, first: dt.datetime) -> None:
    found = list(_between(cron, zone, first, LAST))
    assert all(before < after for before, after in itertools.pairwise(found))
    days = [dt.datetime.fromtimestamp(tick, zoneinfo.ZoneInfo(zone)).date() for tick in found]
    assert len(set(days)) == len(days), zone
    # The zone's offset may add or remove one day.
    assert abs(len(days) - (LAST - first).days) <= 1, zone


def _between(cron: str, zone: str, first: dt.datetime, last: dt.datetime) -> Iterator[float]:
    return itertools.takewhile(lambda tick: tick < last.timestamp(), ticks(Schedule(cron, zone), 0, first.timestamp()))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "cron", ["0 2 * * *", "45 3 * * MON-FRI", "17 5 1,15 * *", "0 12 13 * 5", "20 4 * 6-8 TUE", "5 4 29 2 *"]
)
def test_ticks_equal_those_of_croniter(cron: str, zone: str) -> None:
    """The ticks are compared with those of croniter over five years, except near clock changes."""
    info = zoneinfo.ZoneInfo(zone)

    def calm(tick: float) -> bool:
        offsets = {dt.datetime.fromtimestamp(tick + hours * HOUR, info).utcoffset() for hours in (-26, -3, 0, 3, 26)}
        return len(offsets) == 1

    ours = [tick for tick in _between(cron, zone, FIRST, LAST) if calm(tick)]
    theirs = croniter(cron, FIRST.astimezone(info), ret_type=float)
    others = itertools.takewhile(lambda tick: tick < LAST.timestamp(), iter(theirs.get_next, None))
    assert ours == [tick for tick in others if calm(tick)]
    assert ours


@pytest.mark.parametrize(
    ("text", "right"),
    [
        *((text, "write five fields") for text in ("", "0 2 * *", "* * * * * *", "@reboot", "@HOURLY", "1" * 9999)),
        *((text, "a minute or more") for text in ("@every 59s", "@every 1s")),
        *((text, "@every: ") for text in ("@every 0h", "@every h", "@every -1h", "@every 1h 1x", "@every 1.5")),
        ("CRON_TZ=UTC 0 0 * * *", "spec.timezone"),
    ],
)
def test_text_that_is_no_schedule_is_refused(text: str, right: str) -> None:
    """Each error proposes a valid form."""
    with pytest.raises(ValueError, match=right):
        checked(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("60 * * * *", ("minute", "'60'", "0 to 59")),
        ("0 24 * * *", ("hour", "'24'", "0 to 23")),
        ("0 22-2 * * *", ("hour", "'22-2'", "22-23,0-2")),
        ("0 23-0 * * *", ("hour", "'23-0'", "23,0")),
        ("0 0 0 * *", ("day of the month", "'0'", "1 to 31")),
        ("0 0 15W * *", ("day of the month", "'15W'", "LW")),
        ("0 0 31 2 *", ("day of the month", "'31'", "1 to 29")),
        ("0 0 31 FEB,4-4 *", ("day of the month", "'FEB,4-4'", "1 to 30")),
        ("0 0 * 13 *", ("month", "'13'", "1 to 12")),
        ("0 0 * january *", ("month", "'january'", "JAN")),
        ("0 0 * NOV-FEB *", ("month", "'NOV-FEB'", "NOV-DEC,JAN-FEB")),
        ("0 0 * * SUNDAY", ("day of the week", "'SUNDAY'", "SUN")),
        ("0 0 * * FRI-MON", ("day of the week", "'FRI-MON'", "FRI-SAT,SUN-MON")),
        ("0 0 * * sat-sun", ("day of the week", "'sat-sun'", "SAT,SUN")),
        ("0 0 * * 5-1", ("day of the week", "'5-1'", "5-6,0-1")),
        ("0 0 * * 8", ("day of the week", "'8'", "0 to 7")),
        ("0 0 * * MON#6", ("day of the week", "'MON#6'", "FRI#2")),
        ("0 0 1,,2 * *", ("day of the month", "'1,,2'", "1 to 31")),
        ("*/0 * * * *", ("minute", "'*/0'", "1 or more")),
        ("a b c d e", ("minute", "'a'", "0 to 59")),
    ],
)
def test_wrong_field_is_named_with_its_value_and_what_is_allowed(text: str, parts: tuple[str, ...]) -> None:
    """All of these have five fields, so the error must not ask for five fields."""
    with pytest.raises(ValueError, match=r"^(?!.*write five fields)") as error:
        checked(text)
    assert not [part for part in parts if part not in str(error.value)]


@pytest.mark.parametrize("wrapped", ["22-23,0-2", "FRI-SAT,SUN-MON", "SAT,SUN"])
def test_ranges_that_a_message_proposes_are_a_schedule(wrapped: str) -> None:
    """A proposed range must be accepted."""
    assert checked(f"0 {wrapped} * * *" if wrapped[0].isdigit() else f"0 0 * * {wrapped}")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("*/90 * * * *", "@every 90m"),
        ("5/90 * * * *", "@every 90m"),
        ("0-30/45 * * * *", "@every 45m"),
        ("1,*/61 * * * *", "@every 61m"),
        ("0 */36 * * *", "@every 36h"),
        ("0 0 */40 * *", "@every 40d"),
        ("0 0 * */13 *", "at most 12"),
        ("0 0 * * */8", "@every 8d"),
        ("0 0 * * MON-FRI/6", "@every 6d"),
        ("@every 100000d", "at most 99999d"),
    ],
)
def test_step_longer_than_its_field_is_refused(text: str, instead: str) -> None:
    """Cron restarts each field: `*/90` in minutes would launch a machine every hour."""
    with pytest.raises(ValueError, match=instead):
        stepping(checked(text))


@pytest.mark.parametrize("text", ["*/60 * * * *", "0 */24 * * *", "0 0 */31 * *", "0 0 1 */12 *", "0 0 * * */7"])
def test_step_as_long_as_its_field_is_a_schedule(text: str) -> None:
    """Such a schedule is due as the user means: hourly, daily, monthly, yearly or weekly."""
    assert stepping(checked(text)) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("@every 1h30m", 5400),
        ("@every 1.5h", 5400),
        ("@every 3600", 3600),
        ("@every 1h 30m", 5400),
        ("@every 2d", 172800),
    ],
)
def test_interval_takes_every_writing_of_a_duration(text: str, seconds: int) -> None:
    """`@every` accepts the same durations as a limit."""
    assert next(ticks(Schedule(checked(text)), 1000.0, 1000.0)) == 1000.0 + seconds


_BOUNDS = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 7))


@st.composite
def _cron_fields(draw: st.DrawFn) -> str:
    """Draw fields of numbers, ranges, lists and steps, all within their bounds."""

    def term(low: int, high: int) -> str:
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, last - first + 1))
        return draw(st.sampled_from(["*", f"*/{step}", str(first), f"{first}-{last}", f"{first}-{last}/{step}"]))

    return " ".join(",".join(term(*bounds) for _ in range(draw(st.integers(1, 2)))) for bounds in _BOUNDS)


@given(_cron_fields())
def test_right_fields_are_a_schedule_as_they_are_written(fields: str) -> None:
    """No rule refuses a field that cron runs as written."""
    assert stepping(checked(fields)) == fields


@given(_cron_fields(), st.integers(0, 4), st.integers(60, 9999))
def test_value_out_of_bounds_names_its_field(fields: str, place: int, value: int) -> None:
    """The error names this field, whatever the values of the other four fields."""
    words = fields.split(" ")
    words[place] = str(value)
    with pytest.raises(ValueError, match=("minute", "hour", "day of the month", "month", "day of the week")[place]):
        checked(" ".join(words))


@given(st.text("0123456789*/,-?LW# @MONJAN", max_size=24))
def test_any_text_is_a_schedule_or_not(text: str) -> None:
    """Text is refused or has a next time."""
    try:
        cron = checked(text)
    except ValueError:
        return
    assert checked(cron) == cron
    assert next_tick(job(cron)) > 0


def test_time_zones_are_known_where_the_system_has_none() -> None:
    """A small Debian lacks the package tzdata."""
    asked = "import zoneinfo; assert not zoneinfo.TZPATH; zoneinfo.ZoneInfo('UTC'); zoneinfo.ZoneInfo('Europe/Berlin')"
    subprocess.run([sys.executable, "-c", asked], env={"PYTHONTZPATH": ""}, check=True)


def test_the_names_of_schedules() -> None:
    """The names are those of crontab(5); `?` is from robfig/cron."""
    for name, cron in (("@hourly", "0 * * * *"), ("@weekly", "0 0 * * 0"), ("@annually", "0 0 1 1 ?")):
        assert upcoming(job(name), at("2026-01-01T00:30Z"), 3) == upcoming(job(cron), at("2026-01-01T00:30Z"), 3)


def test_every_counts_from_the_schedules_creation() -> None:
    """The time of a daemon's start has no effect."""
    since = at("2026-01-01T00:10Z")
    assert upcoming(job("@every 1h30m", since=since), since + 1, 2) == (since + 1.5 * HOUR, since + 3 * HOUR)
    assert upcoming(job("@every 1d", since=since), since + 30 * HOUR, 1) == (since + 48 * HOUR,)


def test_tick_is_due_until_decided() -> None:
    """A tick is due from its time until it has been decided."""
    said = at("2026-01-01T00:30Z")
    hourly = job("@hourly", since=said)
    assert next_tick(hourly) == at("2026-01-01T01:00Z")
    assert due(hourly, at("2026-01-01T00:59:59Z")) is None
    found = due(hourly, at("2026-01-01T01:00Z"))
    assert found
    assert found.starts == (found.tick,) == (at("2026-01-01T01:00Z"),)
    assert due(replace(hourly, tick=found.tick), at("2026-01-01T01:59Z")) is None
    assert due(replace(hourly, schedule=None), at("2026-01-01T05:00Z")) is None
    assert next_tick(replace(hourly, schedule=None)) == float("inf")


@pytest.mark.parametrize(
    ("catchup", "late", "starts"),
    [
        (Catchup.NONE, ON_TIME, [10]),
        (Catchup.NONE, ON_TIME + 1, []),
        (Catchup.LAST, LATEST, [10]),
        (Catchup.LAST, LATEST + 1, []),
        (Catchup.ALL, LATEST + 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_catchup_decides_which_missed_ticks_start(catchup: Catchup, late: float, starts: list[int]) -> None:
    """`none` starts only punctual ticks, `last` the last one for ten minutes, `all` every missed one."""
    found = due(job("@hourly", catchup=catchup), 10 * HOUR + late)
    assert found
    assert (found.tick, [tick / HOUR for tick in found.starts]) == (10 * HOUR, starts)


def test_years_of_minutes_are_made_up_for_within_bounds() -> None:
    """Only the newest ticks are started, not one machine for each minute of three years."""
    now = 3 * 365 * 86400.0
    found = due(job(catchup=Catchup.ALL), now)
    assert found
    assert found.starts == tuple(now - 60 * (MOST - 1 - number) for number in range(MOST))


def test_ticks_beyond_the_calendar_are_omitted() -> None:
    """The calendar may end before the requested number of ticks is reached."""
    found = upcoming(job("@every 99999d"), 0.0, 100)
    assert 0 < len(found) < 100
    assert dt.datetime.fromtimestamp(found[-1], dt.UTC).year > 9000


def test_a_run_s_id_follows_from_job_and_time() -> None:
    """A second start of a tick has the same id and cannot be stored. The key is readable and sorts by time."""
    first, second = at("2026-01-01T00:00Z"), at("2026-01-01T01:00Z")
    other = replace(job(), id="k")
    assert len({run_id(job(), first), run_id(job(), second), run_id(other, first)}) == 3
    assert run_id(job(), first) == run_id(replace(job(), version=9, name="x"), first)
    assert "schedule 2026-01-01T00:00:00Z" == key(first) < key(second)
