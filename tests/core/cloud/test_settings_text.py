"""Adding settings to the text of a settings file, and removing them."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.setup.settings_text import Value, added, removed
from provisioner.core.errors import Invalid

VALUES: dict[tuple[str, ...], Value] = {
    ("bucket",): "b/jobs",
    ("subnets",): ["subnet-1", "subnet-2"],
    ("profile_security_groups", "provision-research"): ["sg-1"],
}


def test_setting_follows_its_commented_example() -> None:
    text = "# The name.\ninstallation = 'a'\n# A bucket.\n# bucket = \"your-bucket\"\n# Subnets.\n# subnets = []\n"
    after, kept = added(text, {("bucket",): "b"})
    assert kept == {}
    assert after == text.replace('your-bucket"\n', 'your-bucket"\nbucket = "b"\n')


def test_setting_without_an_example_goes_before_the_first_table_and_its_comment() -> None:
    text = "a = 1\n\n# About git.\n[git]\nx = 1\n"
    assert added(text, {("bucket",): "b"})[0] == 'a = 1\nbucket = "b"\n\n# About git.\n[git]\nx = 1\n'


def test_example_below_a_table_is_no_place_for_a_setting_outside_tables() -> None:
    text = "a = 1\n[git]\n# bucket = 1\n"
    assert tomllib.loads(added(text, {("bucket",): "b"})[0])["bucket"] == "b"


def test_setting_of_a_table_goes_below_its_header_or_a_new_one() -> None:
    place = ("profile_security_groups", "p.1")
    assert added("[profile_security_groups]  # groups\nx = ['sg-0']\n", {place: ["sg-1"]})[0] == (
        '[profile_security_groups]  # groups\n"p.1" = ["sg-1"]\nx = [\'sg-0\']\n'
    )
    assert added("a = 1", {place: ["sg-1"]})[0] == 'a = 1\n\n[profile_security_groups]\n"p.1" = ["sg-1"]\n'


def test_value_that_is_set_is_kept_and_returned() -> None:
    text = 'bucket = "mine"\nsubnets = []\n'
    after, kept = added(text, {("bucket",): "b", ("subnets",): ["s"]})
    assert (after, kept) == (text, {("bucket",): "mine", ("subnets",): []})


def test_table_in_one_line_is_refused_with_the_line_to_write() -> None:
    """A second header of the same table would be an error in TOML."""
    with pytest.raises(Invalid, match=r'write them yourself: \[profile_security_groups\] p = \["sg-1"\]'):
        added("profile_security_groups = { q = ['sg-0'] }\n", {("profile_security_groups", "p"): ["sg-1"]})


def test_text_whose_meaning_would_change_is_refused() -> None:
    """The line that looks like a table is within a text of several lines."""
    with pytest.raises(Invalid, match='write them yourself: bucket = "b"'):
        added('note = """\n[x]\n"""\n', {("bucket",): "b"})


LINES = st.sampled_from(
    [
        "",
        "# a comment",
        '# bucket = "your-bucket"',
        "region = 'r'",
        "[git]",
        "[ profiles ]",
        "x = 1",
        "# [ssh]",
        "y = [\n1,\n]",
    ]
)


@given(st.lists(LINES, unique=True), st.booleans(), st.booleans())
def test_added_settings_are_read_and_removing_them_restores_every_other_character(
    lines: list[str], windows: bool, ended: bool
) -> None:
    end = "\r\n" if windows else "\n"
    text = "".join(f"{line}{end}" for line in "\n".join(lines).split("\n"))
    text = text if ended else text.removesuffix(end)
    after, kept = added(text, VALUES)
    read = tomllib.loads(after)
    assert kept == {}
    assert {**read, "profile_security_groups": None} == {
        **tomllib.loads(text),
        "bucket": "b/jobs",
        "subnets": ["subnet-1", "subnet-2"],
        "profile_security_groups": None,
    }
    assert read["profile_security_groups"] == {"provision-research": ["sg-1"]}
    assert removed(after, VALUES).startswith(text)
    assert tomllib.loads(removed(after, VALUES)) == {**tomllib.loads(text), "profile_security_groups": {}}


def test_line_that_the_user_has_changed_is_not_removed() -> None:
    text = 'bucket = "b"  # ours\n[other]\nbucket = "b"\n'
    assert removed(text, {("bucket",): "b"}) == text
