"""Cursors and pod names, as clients send them back."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid, NotFound
from provisioner.core.views.pages import key_in, key_of
from provisioner.faces.api.saturn import attempts

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(st.integers(0, 4 * 10**12).map(lambda number: number / 1000), IDS)
def test_page_cursor_keeps_time_and_id(at: float, id: str) -> None:
    """The cursor keeps the time exactly."""
    assert key_in(key_of(at, id)) == (at, id)


@given(st.text())
def test_text_that_is_no_cursor_is_invalid(text: str) -> None:
    """Text is rejected unless it is a valid cursor."""
    try:
        key = key_in(text)
    except Invalid:
        return
    assert key is None or key_in(key_of(*key)) == key


@given(st.from_regex(r"[a-z0-9-]{1,60}", fullmatch=True), IDS, st.integers(1, 10**6))
def test_run_id_is_read_from_a_pod_name(job: str, id: str, attempt: int) -> None:
    """A job's name may have hyphens."""
    assert attempts.run_of(f"{job}-{id}-{attempt}-0") == id


@given(st.text())
def test_text_that_is_no_pod_name_is_not_found(text: str) -> None:
    """Any text gives a run's id or NotFound, never another error."""
    try:
        found = attempts.run_of(text)
    except NotFound:
        return
    assert "-" not in found
