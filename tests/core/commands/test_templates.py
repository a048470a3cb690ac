"""Commands that are made from a template and values."""

import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.commands.templates import Product, Template, from_values, from_variables
from provisioner.core.errors import Invalid


def made(text: str, *values: str) -> list[str]:
    return list(from_values(Template(text, "--template"), values))


def exported(text: str, *several: Mapping[str, str]) -> list[str]:
    return list(from_variables(Template(text, "the command of job a"), several))


def problem(text: str) -> str:
    with pytest.raises(Invalid) as error:
        Template(text, "--template")
    return str(error.value)


def printed(command: str) -> bytes:
    return subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout


def test_places_get_the_value_and_the_sequence_number_from_1() -> None:
    assert made("cp {} {}.{#}", "a", "b c") == ["cp a a.1", "cp 'b c' 'b c'.2"]
    assert made("echo {#}", "x", "y") == ["echo 1", "echo 2"]
    # `$#` is the shell's number of parameters.
    assert made("echo ${#} {a} { } {} $#", "x") == ["echo ${#} {a} { } x $#"]


def test_template_says_whether_it_has_places() -> None:
    assert [Template(text, "t").takes_value for text in ("a {}", "a {#}", "a")] == [True, False, False]
    assert [Template(text, "t").takes_any for text in ("a {}", "a {#}", "a")] == [True, True, False]


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=3))
def test_shell_reads_every_value_as_one_word(values: list[str]) -> None:
    """Values may be untrusted: names of files, or keys of a bucket."""
    for command, value in zip(made("printf %s {}", *values), values, strict=True):
        assert printed(command) == value.encode()


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        ("echo '{}'", "single quotes"),
        ('echo "{}"', "double quotes"),
        ("python -c 'print(\"{}\")'", "single quotes"),
        ('echo "$(date) {}"', "double quotes"),
        ('echo "\\"{}"', "double quotes"),
        ('echo "`date` {}"', "double quotes"),
        ("echo `basename {}`", "backticks"),
        ('echo "`basename {}`"', "backticks"),
        ("echo \\' '{}'", "single quotes"),
        ("echo 1 # {}", "a comment"),
        ("cat <<EOF\na {}\nEOF", "a here-document"),
        ("cat <<-'END' | wc\n\ta {}\n\tEND\necho", "a here-document"),
        ("echo # it's a comment\necho '{}'", "single quotes"),
    ],
)
def test_place_where_the_shell_may_execute_the_value_is_refused(text: str, quotes: str) -> None:
    """The value's own quotes end those of the template, and a line break in it ends a comment or a document."""
    assert problem(text) == (
        f"--template: {{}} is within {quotes}, where the shell may execute parts of the value: write {{}} outside, "
        "without quotes around it, and $(…) in place of backticks"
    )


@pytest.mark.parametrize(
    "text",
    [
        'echo "$(basename {})"',
        "echo `date` {}",
        "echo 'a' {} \"b\"",
        "(cd x && run {})",
        "echo it\\'s {}",
        "# it's a comment\necho {}",
        "echo \"{#}\" '{#}' {}",
        'echo "$(echo "x" {} "y")" {}',
        "cat <<EOF\nit's\nEOF\necho {}",
        "cat <<EOF\nEOF\necho {}",
    ],
)
def test_place_outside_of_quotes_is_accepted(text: str) -> None:
    assert Template(text, "--template").takes_value
    value = "$(reboot)'; `reboot`\nreboot"
    assert value.encode() in printed(made(text.replace("cd x && run", "echo").replace("basename", "echo"), value)[0])


def test_value_needs_a_command_for_a_shell() -> None:
    assert made("#!/bin/bash -e\nrun {}", "a b") == ["#!/bin/bash -e\nrun 'a b'"]
    assert made("#!/usr/bin/env sh\n{}", "a") == ["#!/usr/bin/env sh\na"]
    text = "the value of {} is quoted for a shell, but the command begins with '#!/usr/bin/python3'"
    assert problem("#!/usr/bin/python3\nprint({})") == f"--template: {text}: call the program from sh"
    with pytest.raises(Invalid, match=r"the variables are set by a line for a shell, but the command begins with"):
        exported("#!/usr/bin/env python3\nprint(1)", {"A": "1"})


def test_variables_are_exported_before_the_command() -> None:
    several = [{"A": "1", "B": "x y"}, {"A": "2", "B": "'"}]
    assert exported("run {#}", *several) == [
        "export A=1 B='x y'; run 1",
        """export A=2 B=''"'"''; run 2""",
    ]
    assert exported("cd /x\nrun", {"A": "1"}) == ["export A=1\ncd /x\nrun"]
    assert exported("#!/bin/bash\nrun", {"A": "1"}) == ["#!/bin/bash\nexport A=1; run"]
    assert exported("run", {}) == ["run"]


def test_commands_see_their_variables() -> None:
    (command,) = exported("sh -c 'printf %s \"$A\"'", {"A": "it's $HOME\n"})
    assert printed(command) == b"it's $HOME\n"


def test_variables_need_names_of_variables_and_a_command_without_a_value() -> None:
    with pytest.raises(Invalid, match=r"^'1A' is no variable: use letters, digits and _ in a variable's name"):
        exported("run", {"1A": "x"})
    with pytest.raises(Invalid, match=r"^'A;reboot' is no variable"):
        exported("run", {"A;reboot": "x"})
    with pytest.raises(Invalid, match=r"^variable A of command 1: the value must not contain a NUL character"):
        exported("run", {"A": "x"}, {"A": "\0"})
    with pytest.raises(Invalid, match=r"^the command of job a: \{\} has no value here: use the variables"):
        exported("run {}", {"A": "x"})


def test_product_has_all_combinations_and_the_last_variable_changes_fastest() -> None:
    product = Product(["LR=0.1,0.2", "SEED=1,2,3"])
    assert len(product) == 6
    assert [tuple(each.values()) for each in product] == [
        ("0.1", "1"), ("0.1", "2"), ("0.1", "3"), ("0.2", "1"), ("0.2", "2"), ("0.2", "3"),
    ]  # fmt: skip
    assert list(Product(["A=x=y"])) == [{"A": "x=y"}]


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (["A"], "'A' has no values: write NAME=VALUE,VALUE"),
        (["=1"], "'' is no variable: use letters, digits and _ in a variable's name, and no digit first"),
        (["A-B=1"], "'A-B' is no variable: use letters, digits and _ in a variable's name, and no digit first"),
        (["A="], "'A=' has an empty value: write NAME=VALUE,VALUE, without other commas"),
        (["A=1,,2"], "'A=1,,2' has an empty value: write NAME=VALUE,VALUE, without other commas"),
        (
            [f"{name}=1{',1' * 999}" for name in "ABC"],
            "1,000,000,000 combinations of values; a list has at most 10,000,000 commands: give fewer values",
        ),
        (["A=1", "A=2"], "A is given twice: write all its values in one place, as A=VALUE,VALUE"),
    ],
)
def test_wrong_product_has_one_line_that_says_what_to_write(axes: list[str], text: str) -> None:
    with pytest.raises(Invalid) as error:
        Product(axes)
    assert str(error.value) == text
