"""Differences between two revisions of a recipe."""

from provisioner.core.history import differences
from provisioner.core.history.differences import Change, Line, changed_fields


def compared(old: list[str], new: list[str]) -> list[str]:
    signs = {Change.KEPT: " ", Change.ADDED: "+", Change.REMOVED: "-", Change.OMITTED: "…"}
    found = differences.differences("\n".join(old), "\n".join(new))
    return [f"{signs[line.change]}{line.text}" for line in found]


def test_changed_line_is_shown_with_its_neighbours() -> None:
    """Lines far from a change are counted, not shown."""
    old = [str(each) for each in range(20)]
    new = [*old[:10], "ten", *old[11:]]
    assert compared(old, new) == ["…7", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13", "…6"]


def test_lines_have_their_numbers_in_both_texts() -> None:
    """A reader finds the line in the recipe."""
    found = differences.differences("a\nb\nc", "a\nx\ny\nc")
    assert found == (
        Line(Change.KEPT, "a", 1, 1),
        Line(Change.REMOVED, "b", old=2),
        Line(Change.ADDED, "x", new=2),
        Line(Change.ADDED, "y", new=3),
        Line(Change.KEPT, "c", 3, 4),
    )


def test_equal_texts_have_no_differences() -> None:
    assert differences.differences("a\nb\n", "a\nb") == ()


def test_change_at_the_beginning_or_the_end_has_no_wrong_neighbours() -> None:
    assert compared(["a"], ["a", "b"]) == [" a", "+b"]
    assert compared(["b"], ["a", "b"]) == ["+a", " b"]
    assert compared([], ["a"]) == ["+a"]
    assert compared(["a", "a"], ["a"]) == [" a", "-a"]


def test_many_changed_lines_are_not_matched_with_each_other_and_are_cut() -> None:
    """The time must not grow with the product of two long lists of commands."""
    count = 10_000
    old = [f"- {each}" for each in range(count)]
    new = [f"- {each}" if each % 2 else f"- new {each}" for each in range(count - 1)] + ["- end"]
    found = compared(["head", *old], ["head", *new])
    assert found[:3] == [" head", "-- 0", "-- 1"]
    assert len(found) == differences.SHOWN + 1
    assert found[-1] == f"…{2 * count + 1 - differences.SHOWN}"


def test_very_long_line_is_cut() -> None:
    (line,) = differences.differences("", "x" * 700)
    assert line.text == f"{'x' * 500}… (200 more characters)"


def test_changed_fields_are_named_with_their_place_but_without_values() -> None:
    old = {"command": "a", "limits": {"runtime": 60, "pull": 5}, "retries": 1}
    new = {"command": "a", "limits": {"runtime": 90, "pull": 5}, "scale": 2}
    assert changed_fields(old, new) == ("limits.runtime", "retries", "scale")
