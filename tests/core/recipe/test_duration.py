import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.recipe import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90.0), ("10m", 600.0), ("24h", 86400.0), ("7d", 604800.0), ("1s", 1.0)),
        *(("1h30m", 5400.0), ("1h 30m", 5400.0), ("1d2h3m4s", 93784.0), ("1h0m0s", 3600.0), ("01h", 3600.0)),
        *(("1.5h", 5400.0), ("0.5m", 30.0), ("1.5h30m", 7200.0)),
        *(("3600", 3600.0), ("1", 1.0), (" 5m ", 300.0)),
    ],
)
def test_duration_in_units_or_whole_seconds_is_read(text: str, seconds: float) -> None:
    """The notations of Go, systemd and Saturn are accepted."""
    assert duration.seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "h1", "1H", "1:30", "never", "1e3", "1h30", "0x10", "\u0663s", "1hour", "1h\n30m", "1h  30m"),
        *("0", "0s", "0h0m", "-1h", "-5", "- 1h", "1h-30m", "1.5", "3600.0", ".5h", "1.h"),
        *("1h1h", "30m1h", "1s1m", "90 s", "1.5s", "500ms", "1.0001h", "9" * 16, "9" * 10_000 + "h"),
    ],
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    """No value is guessed, because a wrong limit costs a machine's time."""
    with pytest.raises(ValueError, match="write "):
        duration.seconds(text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("0.2s", 0.2), ("0s", 0.0), ("1s500ms", 1.5), ("5", 5)])
def test_exact_duration_may_be_zero_or_a_part_of_a_second(text: str, seconds: float) -> None:
    """Scenario files use such durations."""
    assert float(duration.exact(text)) == seconds


@given(st.integers(1, 10**8))
def test_written_duration_is_read_again(seconds: int) -> None:
    """A stored limit equals the one that was applied."""
    assert duration.seconds(duration.text(float(seconds))) == seconds


@given(
    st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", " "])
)  # fmt: skip
def test_duration_of_several_units_is_their_sum(days: int, hours: int, minutes: int, seconds: int, gap: str) -> None:
    """Any combination of units may be written, and the stored form has the same sum."""
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    text = gap.join((f"{days}d", f"{hours}h", f"{minutes}m", f"{seconds}s"))
    assert duration.exact(text) == whole
    if whole:
        assert duration.seconds(duration.text(duration.seconds(text))) == whole


@given(st.integers(1, 10**6), st.integers(0, 3), st.sampled_from("hmd"))
def test_decimal_duration_is_exact(number: int, places: int, unit: str) -> None:
    """Float arithmetic would sometimes be a second off."""
    shifted = 10**places
    text = f"{number // shifted}.{number % shifted:0{places}}{unit}" if places else f"{number}{unit}"
    seconds = number * {"h": 3600, "m": 60, "d": 86400}[unit]
    if seconds % shifted:
        with pytest.raises(ValueError, match="whole seconds"):
            duration.seconds(text)
    else:
        assert duration.seconds(text) == seconds // shifted


@given(st.text("0123456789dhms. -", max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No text raises another error."""
    try:
        seconds = duration.seconds(text)
    except ValueError:
        return
    assert seconds >= 1
    assert duration.seconds(duration.text(seconds)) == seconds
