"""Paths and files of the machine: writes are atomic, and a job's paths stay inside its folder."""

import errno
from pathlib import Path

import pytest

from provisioner.agent.machine import files
from provisioner.core.errors import Invalid


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/jovyan", "/base/home/jovyan"),
        ("/home/../../../etc/passwd", "/base/etc/passwd"),
        ("//etc/passwd", "/base/etc/passwd"),
        ("/", "/base/"),
        ("/a/./b//c/", "/base/a/b/c"),
    ],
)
def test_a_path_of_the_job_stays_below_its_base(path: str, expected: str) -> None:
    """A recipe's `..` must not reach the machine's own files."""
    assert files.inside("/base", path) == expected


@pytest.mark.parametrize("path", ["", "home", "../etc", "/a\0b"])
def test_a_path_that_is_not_absolute_is_refused(path: str) -> None:
    """A relative path has no defined base."""
    with pytest.raises(Invalid):
        files.inside("/base", path)


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not leave a partial fuse, or partial state for the agent's successor."""
    path = tmp_path / "fuse"
    files.replace(path, b"old")
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        real(self, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["fuse"]


def test_a_private_folder_is_this_users_alone_and_gone_afterwards(tmp_path: Path) -> None:
    """The folder holds credentials."""
    with files.private(tmp_path / "secrets") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "key").write_text("x")
    assert not (tmp_path / "secrets").exists()
