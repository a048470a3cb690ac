"""Messages of sh about bash syntax, as real shells print them."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.job.shell_dialect import FIRST, LAST, Dialect

#: Debian's sh.
DASH = "/bin/dash"
#: Lines that bash accepts and about which dash prints a message.
BASH = (
    *("source /dev/null/x", "[[ a == b ]]; true", "a=(1 2)", "set -o pipefail", "a=x; echo ${a//x/y}", "echo ${!a}"),
    *("cat <<< x", "[ a == b ]; true", "declare -a x; true", "for ((i=0;i<3;i++)); do :; done", "pushd /"),
    *("read -a x </dev/null; true", "shopt -s extglob", "a[0]=secret; true", "printf -v x y"),
)
#: Messages of BusyBox 1.35.
BUSYBOX = (
    *('syntax error: unexpected "("', "syntax error: unexpected redirection", "syntax error: bad substitution"),
    *("declare: not found", "syntax error: bad for loop variable", "read: line 0: illegal option -a"),
    *("line 3: pushd: not found", "a[0]=secret: not found"),
)


def said(data: bytes, name: bytes = b"sh") -> str:
    dialect = Dialect(name)
    dialect.feed(data)
    return dialect.found()


@pytest.mark.parametrize("script", BASH)
def test_message_of_dash_is_found(script: str) -> None:
    """In Debian's and Ubuntu's images, sh is dash."""
    done = subprocess.run(["sh", "-c", f"echo before; {script}"], executable=DASH, capture_output=True, check=False)
    message = said(done.stdout + done.stderr)
    assert message
    assert "secret" not in message


@pytest.mark.parametrize("line", BUSYBOX)
def test_message_of_busybox_is_found(line: str) -> None:
    """In Alpine's images, sh is BusyBox."""
    assert said(f"before\nsh: {line}\nafter\n".encode())


def test_message_of_a_start_script_has_its_path() -> None:
    """A message of another script has another path, and is ignored."""
    assert said(b"/run/provision/start_script: 3: source: not found\n", b"start_script") == "source: not found"
    assert not said(b"/home/me/setup.sh: 3: source: not found\n", b"start_script")


@pytest.mark.parametrize(
    "line",
    [b"source: not found", b"zsh: 1: source: not found", b"x sh: 1: source: not found", b"sh: 1: train: not found"],
)
def test_line_of_the_job_is_no_message(line: bytes) -> None:
    """Only messages of the shell that runs the script count."""
    assert not said(line + b"\n")


@pytest.mark.parametrize(
    ("before", "found"), [(0, True), (FIRST - 100, True), (FIRST + 2 * LAST, True), (FIRST + 100, False)]
)
def test_only_the_first_and_the_last_bytes_are_looked_at(before: int, found: bool) -> None:
    """Memory and time stay bounded for a job that writes gigabytes."""
    dialect = Dialect(b"sh")
    filler = b"x" * 99 + b"\n"
    dialect.feed(filler * (before // 100) + b"\nsh: 1: source: not found\n")
    if not found:
        for _ in range(3):
            dialect.feed(b"y" * LAST)
    assert bool(dialect.found()) is found


@given(st.lists(st.integers(1, 60), max_size=8))
def test_message_is_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    """A pipe may cut the stream anywhere."""
    text = b"before\nsh: 12: [[: not found\nafter\n"
    dialect, at = Dialect(b"sh"), 0
    for cut in cuts:
        dialect.feed(text[at : at + cut])
        at += cut
    dialect.feed(text[at:])
    assert dialect.found() == "[[: not found"
