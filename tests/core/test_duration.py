import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core import duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("24h", 86400.0), ("7d", 604800.0), ("1s", 1.0)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """Seconds, minutes, hours and days are read."""
    assert duration.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "0s", "-1h", "1.5h", "1h30m", "1 h", "1H", "never", "٣s", "1h\n"])
def test_what_is_no_duration_is_told_how_one_is_written(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="write a duration as 90s"):
        duration.seconds(text)


@given(st.integers(1, 10**8))
def test_what_is_written_is_read_again(seconds: int) -> None:
    """Writing loses nothing."""
    assert duration.seconds(duration.text(float(seconds))) == seconds
