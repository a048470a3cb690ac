import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.recipe.yaml import LARGEST, read

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
#: Characters that end a line in YAML 1.1 only.
BREAKS = ("\x85", "\u2028", "\u2029")
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def test_every_value_has_its_line() -> None:
    """Every value has its line number for error messages, also in lists of mappings."""
    document = read("a: 1\nb:\n  - c: 2\n    d:\n      3\n", "f")
    assert document.value == {"a": "1", "b": [{"c": "2", "d": "3"}]}
    assert document.lines[("b", 0, "d")] == 4
    assert document.lines[("b", 0)] == 3


@pytest.mark.parametrize("scalar", ["2024", "yes", "NO", "1.10", "0755", "12:30:45", "2025-10-01", "1e3", "0x1F", ".5"])
def test_a_scalar_keeps_the_text_that_was_written(scalar: str) -> None:
    """A version does not become a number, nor a country code a boolean."""
    assert read(f"a: {scalar}", "f").value == {"a": scalar}


@pytest.mark.parametrize("written", ["", "~", "null", "Null"])
def test_null_is_nothing(written: str) -> None:
    """Null is the only scalar that is not read as its text."""
    assert read(f"a: {written}", "f").value == {"a": None}


@given(PLAIN, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_value_is_read_as_json_means_it(value: Any, indent: int | str | None, escaped: bool) -> None:
    """Escapes, surrogate pairs, tabs, control characters and the line ends of YAML 1.1 are kept."""
    text = json.dumps({"value": value}, indent=indent, ensure_ascii=escaped)
    assert read(text, "f").value == {"value": value}


@given(st.lists(st.text("a \x7f\x80\x85\u2028\u2029\ufeff\uffff\ue000\t\r\n", max_size=9), max_size=4))
def test_json_string_of_rare_characters_is_kept(values: list[str]) -> None:
    """The characters are raw, as json.dumps writes them with ensure_ascii=False."""
    assert (
        read("\ufeff" + json.dumps({"values": values}, ensure_ascii=False, indent="\t"), "f").value["values"] == values
    )


@pytest.mark.parametrize("character", BREAKS)
@pytest.mark.parametrize(
    "form", ['{{\n"a": "x{}y",\n"b": "1"}}', "\na: x{}y\nb: 1", "\na: 'x{}y'\nb: 1", "# {}\na: x{}y\nb: 1"]
)
def test_line_end_of_yaml_1_1_is_text_and_no_line_end(form: str, character: str) -> None:
    """Line numbers are those that an editor shows."""
    document = read(form.replace("{}", character).replace("{{", "{").replace("}}", "}"), "f")
    assert document.value == {"a": f"x{character}y", "b": "1"}
    assert (document.lines[("a",)], document.lines[("b",)]) == (2, 3)


def test_rare_characters_in_a_block_scalar_and_a_key_are_kept() -> None:
    """The placeholders that the reader uses for them never appear in the result."""
    document = read("a: |\n  x\u2028y\n  \ue000z\nb\x85: 1\n", "f")
    assert document.value == {"a": "x\u2028y\n\ue000z\n", "b\x85": "1"}
    assert document.lines[("b\x85",)] == 4


def test_problem_after_a_line_separator_has_the_line_of_an_editor() -> None:
    """The error's line number matches the user's editor."""
    with pytest.raises(Invalid, match=r"^f:2: "):
        read("a: 'x\u2028\u2028\u2028y'\na: 1", "f")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: duplicate key 'a', first on line 1"),
        ('{"a": 1, "a": 2}', "f:1: duplicate key 'a'"),
        ("a:\n\tb: 1", "f:2: a tab; YAML indents with spaces"),
        ("a: 1\n---\nb: 2", "f:2: a second document begins here"),
        ("a: echo b: c", "f:1: not YAML: a mapping cannot begin here"),
        ("a: [1", "f:1: not YAML: "),
        ("a: |\necho", "f:2: not YAML: a line without ': ' (the text below a | is indented deeper than its key)"),
        ("a: 'b", "f:1: not YAML: "),
        ("a: *b", "f:1: not YAML: found undefined alias"),
        ("a:\n  b\0: 1", "f:2: the character U+0000 is not allowed"),
        ("a: \x1b[31m", "f:1: the character U+001B is not allowed"),
        ("a: !!python/object/apply:os.system [true]", "f:1: the tag '!!python/object/apply:os.system' is"),
        ("a: !secret b", "f:1: the tag '!secret' is not known here"),
        ("a: !!binary aGk=", "f:1: the tag '!!binary' is not known here"),
        ("b: &b {c: 1}\na:\n  <<: *b", "f:3: merge keys (<<) are not supported"),
        ("? [a, b]\n: 1", "f:1: a key must be a word"),
        ("~: 1", "f:1: a key must be a word"),
        ("a: &a [*a]", "f:1: its anchors expand to more than"),
        ("a: &a {b: *a}", "f:1: its anchors expand to more than"),
        ("a: " + "[" * 5000, "f:1: nested deeper than 20 levels"),
        ("a: [" + "1," * 30_000 + "]", "f:1: more than 20000 values"),
        ('a: "\\ud800"', "f:1: an unpaired surrogate is not a valid character"),
        ("a: " + "x" * LARGEST, "f: larger than 256 KiB"),
    ],
)
def test_unreadable_yaml_is_one_line_error(text: str, problem: str) -> None:
    """The error is one line with place and problem."""
    with pytest.raises(Invalid) as error:
        read(text, "f")
    assert str(error.value).startswith(problem)
    assert len(str(error.value).splitlines()) == 1


def test_nine_lines_do_not_become_a_billion_laughs() -> None:
    """The expansion of anchors is bounded, in number and in size."""
    laughs = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    with pytest.raises(Invalid, match="its anchors expand to more than"):
        read(laughs, "f")
    with pytest.raises(Invalid, match="its anchors expand to more than"):
        read(f"a: &a {'x' * 1000}\nb: [{', '.join(['*a'] * 1000)}]", "f")


def test_anchors_within_reason_are_read() -> None:
    """An alias has its anchor's value."""
    assert read("a: &a [1]\nb: *a", "f").value == {"a": ["1"], "b": ["1"]}


def test_bytes_must_be_utf_8() -> None:
    """A file in another encoding gives an error with the line."""
    assert read("a: é".encode(), "f").value == {"a": "é"}
    assert read("\ufeffa: é".encode(), "f").value == {"a": "é"}
    with pytest.raises(Invalid, match="f:2: not UTF-8 text: byte 0xe9"):
        read("a: 1\nb: é".encode("latin-1"), "f")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty_text_reads_as_none(text: str) -> None:
    """Empty text is no error here; the caller decides."""
    assert read(text, "f").value is None
