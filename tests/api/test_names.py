"""Names of things, as text that comes back from strangers."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid, NotFound
from provisioner.core.views.pages import key_in, key_of
from provisioner.faces.api.saturn import attempts

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(st.integers(0, 4 * 10**12).map(lambda number: number / 1000), IDS)
def test_a_page_goes_on_where_it_ended(at: float, id: str) -> None:
    """To the last digit of the time."""
    assert key_in(key_of(at, id)) == (at, id)


@given(st.text())
def test_any_other_text_is_no_page(text: str) -> None:
    """But one that says where a page could have ended."""
    try:
        key = key_in(text)
    except Invalid:
        return
    assert key is None or key_in(key_of(*key)) == key


@given(st.from_regex(r"[a-z0-9-]{1,60}", fullmatch=True), IDS, st.integers(1, 10**6))
def test_a_pod_says_its_run(job: str, id: str, attempt: int) -> None:
    """Whatever hyphens the job's name has."""
    assert attempts.run_of(f"{job}-{id}-{attempt}-0") == id


@given(st.text())
def test_any_other_text_is_the_pod_of_no_run_or_of_one(text: str) -> None:
    """Never an error that is not meant for its reader."""
    try:
        found = attempts.run_of(text)
    except NotFound:
        return
    assert "-" not in found
