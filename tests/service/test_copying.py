"""Copies are whole or not at all, and a hostile machine writes nowhere but where it was told."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from provisioner.core.errors import Failed, Invalid, Transient
from provisioner.ports.connection import Connection, Process, Terminal
from provisioner.service.wayin.copying import fetch, send


class Here:
    """This computer as the machine: what is run there runs in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
        assert terminal is None
        return Local(words, self._folder)

    def close(self) -> None:
        pass


class Local:
    def __init__(self, words: Sequence[str], folder: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)

    def read(self, size: int, timeout: float | None = None) -> bytes | None:
        assert self._process.stdout
        assert timeout is None
        return self._process.stdout.read(size)

    def write(self, data: bytes) -> None:
        assert self._process.stdin
        try:
            while data:
                data = data[self._process.stdin.write(data) :]
        except BrokenPipeError as error:
            raise Transient("it takes no more") from error

    def finish(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()

    def resize(self, size: tuple[int, int]) -> None:
        raise AssertionError(size)

    def attach(self, stdin: int, stdout: int, stderr: int) -> int:
        raise AssertionError(stdin, stdout, stderr)

    def wait(self) -> tuple[int, str]:
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()
            assert self._process.stderr
            words = self._process.stderr.read().decode().strip()
        return self._process.wait(), words


class Sends(Local):
    """A command that sends what it likes, and then ends, or the line to it."""

    def __init__(self, data: bytes, code: int | None) -> None:
        self._data, self._code = io.BytesIO(data), code

    def read(self, size: int, timeout: float | None = None) -> bytes | None:
        assert timeout is None
        data = self._data.read(size)
        if not data and self._code is None:
            raise Transient("the line went dead")
        return data

    def wait(self) -> tuple[int, str]:
        assert self._code is not None
        return self._code, ""


class Hostile:
    def __init__(self, data: bytes, code: int | None = 0) -> None:
        self._process = Sends(data, code)

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
        assert words
        assert terminal is None
        return self._process

    def close(self) -> None:
        pass


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    folder = tmp_path / "machine"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def tar(*members: tuple[str, Callable[[tarfile.TarInfo], None]]) -> bytes:
    """A folder with these members; each is a file of four bytes until it is made otherwise."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        root = tarfile.TarInfo(".")
        root.type = tarfile.DIRTYPE
        archive.addfile(root)
        for name, change in members:
            member = tarfile.TarInfo(name)
            member.size = 4
            change(member)
            archive.addfile(member, io.BytesIO(b"evil") if member.isreg() else None)
    return made.getvalue()


def link(to: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, to, 0

    return change


def plain(member: tarfile.TarInfo) -> None:
    assert member.isreg()


def pipe(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.FIFOTYPE, 0


@pytest.mark.parametrize(
    "members",
    [
        [("../../owned", plain)],
        [("deep/../../../owned", plain)],
        [("out", link("../..")), ("out/owned", plain)],
        [("out", link("/")), ("fine", plain)],
        [("owned", link("../../kept", tarfile.LNKTYPE))],
        [("a", link(".")), ("a/b", link("../..")), ("a/b/owned", plain)],
        [("pipe", pipe)],
    ],
    ids=["above", "above by a detour", "through a link", "absolute link", "hard link", "two links", "no file"],
)
def test_a_hostile_member_is_refused(
    tmp_path: Path, here: Path, members: list[tuple[str, Callable[[tarfile.TarInfo], None]]]
) -> None:
    """Nothing is written outside of the place that was named, and nothing in it either."""
    (tmp_path / "kept").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Failed, match="is not copied"):
        fetch(Hostile(tar(*members)), "data", here / "data")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_link_that_is_here_already_leads_nowhere(tmp_path: Path, here: Path) -> None:
    """A folder of the machine's is not written through a link of this computer's; a file takes the link's place."""
    (tmp_path / "elsewhere").mkdir()
    (here / "data").mkdir()
    (here / "data/out").symlink_to(tmp_path / "elsewhere")
    (here / "data/file").symlink_to(tmp_path / "elsewhere/file")
    with pytest.raises(Invalid, match="no folder"):
        fetch(Hostile(tar(("out/owned", plain), ("file", plain))), ".", here / "data")
    assert (here / "data/file").is_symlink()
    fetch(Hostile(tar(("file", plain))), ".", here / "data")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (here / "data/file").read_text() == "evil"
    assert not (here / "data/file").is_symlink()


@pytest.mark.parametrize("code", [None, 2], ids=["line", "machine"])
def test_half_a_copy_changes_nothing(here: Path, code: int | None) -> None:
    """The line went dead, or what came ended too early: the good file stays as it was."""
    (here / "data").mkdir()
    (here / "data/file").write_text("good")
    data = tar(("file", plain), ("other", plain))[: 3 * 512 + 100]
    with pytest.raises((Failed, Transient)):
        fetch(Hostile(data, code), ".", here / "data")
    assert [each.name for each in here.rglob("*") if each.is_file()] == ["file"]
    assert (here / "data/file").read_text() == "good"


def test_half_a_copy_changes_nothing_there(machine: Path, here: Path) -> None:
    """What was sent before the line went dead is removed."""
    (machine / "file").write_text("good")

    class Cut(Local):
        def write(self, data: bytes) -> None:
            super().write(data[: len(data) // 2])
            raise OSError("this computer's disk is gone")

    class Cutting(Here):
        def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
            assert terminal is None
            self.process = Cut(words, machine)
            return self.process

    (here / "file").write_bytes(os.urandom(2_000_000))
    connection = Cutting(machine)
    with pytest.raises(Failed, match="disk is gone"):
        send(connection, here / "file", "file")
    code, words = connection.process.wait()
    assert code, words
    assert [each.name for each in machine.iterdir()] == ["file"]
    assert (machine / "file").read_text() == "good"


def test_any_name_survives(machine: Path, here: Path) -> None:
    """Spaces, quotes, newlines, dashes; folders are merged, files replaced."""
    names = ["with space", "-rf", "quote'\"", "new\nline", "$HOME", "ünï"]
    tree = here / "- tree"
    (tree / "sub").mkdir(parents=True)
    for name in names:
        (tree / "sub" / name).write_text(name)
    there: Connection = Here(machine)
    send(there, tree, "")
    (machine / "- tree/sub/more").write_text("more")
    send(there, tree, ".")
    assert {each.name for each in (machine / "- tree/sub").iterdir()} == {*names, "more"}
    for name in names:
        send(there, tree / "sub" / name, f"./- tree/{name}")
        fetch(there, f"- tree/{name}", here)
        assert (here / name).read_text() == name
    copied = fetch(there, "- tree/", here / "back")
    assert copied.files == 2 * len(names) + 1
    assert (here / "back/sub/new\nline").read_text() == "new\nline"
    assert not list(machine.rglob(".provision*"))
