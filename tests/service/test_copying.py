"""Copies are atomic, and a hostile machine cannot write outside the named destination."""

import contextlib
import errno
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core.errors import Failed, Invalid, Transient
from provisioner.ports.connection import Connection, Process, Terminal
from provisioner.service.ssh_entry import unpacking
from provisioner.service.ssh_entry.copying import fetch, send
from tests.support.tars import device, folder, link, pipe, plain, tar


class Here:
    """This computer as the machine; commands run in a separate folder."""

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
    """A command that sends any data, and then ends or loses its connection."""

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
        [("device", device)],
        [("deep", folder), ("deep/up", link("..")), ("out", link("deep/up/../../..")), ("fine", plain)],
        [("deep/link", link("..")), ("fine", link("deep/link/fine", tarfile.LNKTYPE))],
        [("file", plain), ("link", link("file")), ("owned", link("link", tarfile.LNKTYPE))],
        [("sub", link("deep")), ("deep", folder), ("sub/owned", plain)],
        [("twice", plain), ("twice", plain)],
        [("twice", link("fine")), ("twice", plain)],
        [("/".join("a" * 101), plain)],
        [("a" * 4096, plain)],
        [("link", link("a" * 4096))],
        [("hard", link("a" * 4096, tarfile.LNKTYPE))],
        [("hard", link(".", tarfile.LNKTYPE))],
    ],
    ids=[
        "above",
        "above by a detour",
        "through a link",
        "absolute link",
        "hard link",
        "two links",
        "pipe",
        "device",
        "link that climbs after it descended",
        "hard link through a link",
        "hard link to a link",
        "through a link that stays inside",
        "two files of one name",
        "link and file of one name",
        "too deep",
        "too long a name",
        "too long a link",
        "too long a hard link",
        "hard link to the folder",
    ],
)
def test_a_hostile_member_is_refused(
    tmp_path: Path, here: Path, members: list[tuple[str, Callable[[tarfile.TarInfo], None]]]
) -> None:
    """Nothing is written, neither outside the destination nor in it."""
    (tmp_path / "kept").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Failed, match="cannot copy"):
        fetch(Hostile(tar(*members)), "data", here / "data")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "kept").read_text() == "kept"


def test_chain_of_long_links_overwrites_nothing(here: Path) -> None:
    """CVE-2025-4517: the chain's real path exceeds PATH_MAX, so tarfile's filter does not see its target."""
    (here / "kept").write_text("kept")
    steps, long = "abcdefghijklmnop", "d" * 247
    members: list[tuple[str, Callable[[tarfile.TarInfo], None]]] = []
    for depth, step in enumerate(steps):
        beside = f"{long}/" * depth
        members += [(beside + long, folder), (beside + step, link(long))]
    chain = "/".join([*steps, "l" * 254])
    members += [
        (chain, link("../" * len(steps))),
        ("escape", link(f"{chain}/..")),
        ("owned", link("escape/kept", tarfile.LNKTYPE)),
        ("owned", plain),
    ]
    with pytest.raises(Failed):
        fetch(Hostile(tar(*members)), "data", here / "data")
    assert (here / "kept").read_text() == "kept"
    assert [each.name for each in here.iterdir()] == ["kept"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_folder_with_links_and_long_names_arrives_as_it_was(here: Path, form: int) -> None:
    """Relative links, hard links and the owner's permissions are kept; setuid and others' write permission are not."""
    long = "n" * 90 if form == tarfile.USTAR_FORMAT else "n" * 250

    def mode(bits: int) -> Callable[[tarfile.TarInfo], None]:
        def change(member: tarfile.TarInfo) -> None:
            member.mode, member.mtime = bits, 1_700_000_000

        return change

    data = tar(
        ("deep", folder),
        (f"deep/{long}", plain),
        ("deep/up", link("../tool")),
        ("latest", link(f"deep/{long}")),
        ("hard", link(f"./deep/{long}", tarfile.LNKTYPE)),
        ("missing/parents/file", plain),
        ("tool", mode(0o6777)),
        ("unreadable", mode(0o000)),
        ("dangling", link("nowhere")),
        form=form,
    )
    assert fetch(Hostile(data), ".", here / "data").files == 8
    data_folder = here / "data"
    assert os.readlink(data_folder / "latest") == f"deep/{long}"
    assert (data_folder / "hard").stat().st_ino == (data_folder / "latest").stat().st_ino
    assert (data_folder / "deep/up").read_text() == "evil"
    assert (data_folder / "missing/parents/file").read_text() == "evil"
    assert stat.S_IMODE((data_folder / "tool").stat().st_mode) == 0o755
    assert (data_folder / "tool").stat().st_mtime == 1_700_000_000
    assert stat.S_IMODE((data_folder / "unreadable").stat().st_mode) == 0o600
    assert (data_folder / "dangling").is_symlink()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [2_000_000, (1 << 62)])
def test_extended_header_of_any_size_is_refused_unread(here: Path, kind: bytes, size: int) -> None:
    """The size is checked before memory is allocated."""
    member = tarfile.TarInfo("long")
    member.type, member.size = kind, size
    data = tar()[:512] + member.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(Failed, match="are allowed"):
        fetch(Hostile(data), ".", here / "data")


def test_too_many_members_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless files would use up the inodes of the operator's disk."""
    monkeypatch.setattr(unpacking, "MEMBERS", 3)
    members = [(name, plain) for name in "abc"]
    fetch(Hostile(tar(*members[:2])), ".", here / "data")
    with pytest.raises(Failed):
        fetch(Hostile(tar(*members)), ".", here / "other")
    assert not (here / "other").exists()


@given(data=st.data())
@settings(max_examples=60)
def test_damaged_archive_is_refused_or_unpacked_in_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """For any damage of a header, nothing appears beside the destination."""
    place = tmp_path_factory.mktemp("place")
    good = bytearray(
        tar(
            ("a" * 120, plain),
            ("d", folder),
            ("d/l", link("../x")),
            form=data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        # Change bytes of headers and fix their checksums, so that they are read.
        at = data.draw(st.integers(0, 8 * 512 - 1))
        good[at] = data.draw(st.integers(0, 255))
        begin = at // 512 * 512
        good[begin + 148 : begin + 156] = b"%06o\0 " % (
            sum(good[begin : begin + 512]) - sum(good[begin + 148 : begin + 156]) + 8 * 32
        )
    with contextlib.suppress(Failed, Transient, Invalid):
        fetch(Hostile(bytes(good)), ".", place / "data")
    assert {each.name for each in place.iterdir()} <= {"data"}


@pytest.mark.parametrize("broken", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_error_in_the_middle_of_a_merge_puts_everything_back(
    here: Path, monkeypatch: pytest.MonkeyPatch, broken: BaseException
) -> None:
    """For any failing file, old files are restored and new ones removed."""
    (here / "data/kept").mkdir(parents=True)
    for name in ("a", "kept/b", "kept/only"):
        (here / "data" / name).write_text("old")
    before = {each: each.is_file() and each.read_text() for each in here.rglob("*")}
    data = tar(("a", plain), ("kept/b", plain), ("new/c", plain), ("d", link("a")))
    real = os.replace
    for fails_at in range(4):
        left = fails_at

        def replace(source: Path, to: Path) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise broken
            real(source, to)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises((Transient, KeyboardInterrupt)):
            fetch(Hostile(data), ".", here / "data")
        assert {each: each.is_file() and each.read_text() for each in here.rglob("*")} == before
    monkeypatch.undo()
    fetch(Hostile(data), ".", here / "data")
    assert {name: (here / "data" / name).read_text() for name in ("a", "kept/b", "kept/only", "new/c", "d")} == {
        **dict.fromkeys(("a", "kept/b", "new/c", "d"), "evil"),
        "kept/only": "old",
    }


def test_existing_local_link_is_not_followed(tmp_path: Path, here: Path) -> None:
    """A copied folder is not written through a local link; a copied file replaces the link."""
    (tmp_path / "elsewhere").mkdir()
    (here / "data").mkdir()
    (here / "data/out").symlink_to(tmp_path / "elsewhere")
    (here / "data/file").symlink_to(tmp_path / "elsewhere/file")
    with pytest.raises(Invalid, match="not a folder"):
        fetch(Hostile(tar(("out/owned", plain), ("file", plain))), ".", here / "data")
    assert (here / "data/file").is_symlink()
    fetch(Hostile(tar(("file", plain))), ".", here / "data")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (here / "data/file").read_text() == "evil"
    assert not (here / "data/file").is_symlink()


@pytest.mark.parametrize("code", [None, 2], ids=["line", "machine"])
def test_interrupted_fetch_changes_nothing(here: Path, code: int | None) -> None:
    """The connection was lost, or the data ended too early: the existing file is unchanged."""
    (here / "data").mkdir()
    (here / "data/file").write_text("good")
    data = tar(("file", plain), ("other", plain))[: 3 * 512 + 100]
    with pytest.raises((Failed, Transient)):
        fetch(Hostile(data, code), ".", here / "data")
    assert [each.name for each in here.rglob("*") if each.is_file()] == ["file"]
    assert (here / "data/file").read_text() == "good"


def test_interrupted_send_changes_nothing_on_the_machine(machine: Path, here: Path) -> None:
    """The data sent before the connection was lost is removed."""
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
    """A name may have spaces, quotes, newlines and dashes. Folders are merged, files are replaced."""
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
