"""Unpack a tar archive from another computer, which may be malicious.

This module uses tarfile only to decode single headers. tarfile's extraction is not safe: its "data" filter checks a
path with realpath(), which a chain of long symbolic links overflows (CVE-2025-4517; Python 3.11.7 has no fix). This
module opens each component of a path relative to its parent folder, without following links. So it never writes through
a link from the archive.
"""

import contextlib
import errno
import itertools
import os
import stat
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: Maximum number of bytes of a file's content in memory at once.
CHUNK = 1 << 18
#: Limits of an archive: members, folders above a member, bytes of a path or link (PATH_MAX), bytes of an extended
#: header, and extended headers before a member.
MEMBERS, DEPTH, PATH, EXTENDED, HEADERS = 1_000_000, 100, 4095, 1 << 20, 8
#: PLACE: the attribute of TarInfo that each pax record with a path or link target sets. SPARSE: the prefix of the pax
#: records of sparse files, which are rejected. Other records, except `size`, do not change the content: ignore them.
PLACE, SPARSE = {b"path": "name", b"linkpath": "linkname"}, b"GNU.sparse."
#: Flags to open a folder relative to its parent.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BadArchive(Exception):
    """The archive is damaged or unsafe; the message names the member and the reason."""


@dataclass(frozen=True)
class Unpacked:
    files: int
    size: int
    #: Whether the archive has a folder, not a single file.
    folder: bool


def unpack(stream: BinaryIO, into: Path) -> Unpacked:
    """Unpack an archive of a folder (its first member is `.`) or of one regular file into the empty folder `into`.

    Files keep their modification time and their owner's permissions. The setuid, setgid and sticky bits, and write
    permission for group and others, are dropped. Raises BadArchive, and OSError for errors of the disk. After an error
    the caller must remove the unpacked files.
    """
    files = size = members = 0
    folder = False
    with contextlib.closing(_Tree(into)) as tree:
        for member in _members(stream):
            parts = _parts(member.name)
            if members == 0:
                folder = member.isdir() and not parts
            if not folder and (members or not member.isreg() or len(parts) != 1):
                raise BadArchive("the archive is neither a folder nor a single file")
            members += 1
            if members > MEMBERS:
                raise BadArchive(f"the archive has more than {MEMBERS:,} files and folders: copy them as one tar file")
            tree.add(parts, member, stream)
            files, size = files + (not member.isdir()), size + (member.size if member.isreg() else 0)
    if not members:
        raise BadArchive("the archive is empty")
    return Unpacked(files, size, folder)


class _Tree:
    """The target folder, with open descriptors of it and of each folder on the path to the last member."""

    def __init__(self, root: Path) -> None:
        self._open = [os.open(root, FOLDER)]
        self._names: list[str] = []

    def close(self) -> None:
        for each in self._open:
            os.close(each)

    def add(self, parts: Sequence[str], member: tarfile.TarInfo, content: BinaryIO) -> None:
        beside = self._enter(parts if member.isdir() else parts[:-1], member)
        if member.isdir():
            return
        if not parts:
            raise BadArchive(f"invalid file name {member.name!r}")
        try:
            if member.isreg():
                _write(parts[-1], beside, member, content)
            elif member.issym():
                _check_symbolic_link(member, len(parts) - 1)
                os.symlink(member.linkname, parts[-1], dir_fd=beside)
            elif member.islnk():
                self._hard_link(parts, member)
            else:
                raise BadArchive(f"{member.name!r} is neither a file, a folder nor a link")
        except FileExistsError as error:
            raise BadArchive(f"{member.name!r} is in the archive twice") from error

    def _enter(self, parts: Sequence[str], member: tarfile.TarInfo) -> int:
        """Return an open descriptor of the folder; make missing folders. Raises BadArchive if a link is on the path."""
        same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts, self._names, strict=False)))
        while len(self._names) > len(same):
            self._names.pop()
            os.close(self._open.pop())
        for name in parts[len(same) :]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._open[-1])
            try:
                self._open.append(os.open(name, FOLDER, dir_fd=self._open[-1]))
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise BadArchive(f"{name!r} in the path {member.name!r} is not a folder") from error
            self._names.append(name)
        return self._open[-1]

    def _hard_link(self, parts: Sequence[str], member: tarfile.TarInfo) -> None:
        """Make a hard link to a regular file that was unpacked before; raises BadArchive for any other target."""
        target = _parts(member.linkname)
        beside = os.dup(self._open[-1])
        try:
            there = self._enter(target[:-1], member)
            if not target or not stat.S_ISREG(os.stat(target[-1], dir_fd=there, follow_symlinks=False).st_mode):
                raise FileNotFoundError
            os.link(target[-1], parts[-1], src_dir_fd=there, dst_dir_fd=beside, follow_symlinks=False)
        except FileNotFoundError as error:
            raise BadArchive(f"{member.name!r} is a hard link to {member.linkname!r}, not an earlier file") from error
        finally:
            os.close(beside)


def _write(name: str, folder: int, member: tarfile.TarInfo, content: BinaryIO) -> None:
    mode = member.mode & 0o755 | 0o600
    if not mode & 0o100:
        mode &= ~0o111
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        left = member.size
        while left:
            data = _exactly(content, min(left, CHUNK))
            left -= len(data)
            while data:
                data = data[file.write(data) :]
        os.fchmod(file.fileno(), mode)
        # If the file system cannot store this modification time, keep the file without it.
        with contextlib.suppress(OSError, OverflowError):
            os.utime(file.fileno(), (member.mtime, member.mtime))
    _exactly(content, -member.size % tarfile.BLOCKSIZE)


def _check_symbolic_link(member: tarfile.TarInfo, depth: int) -> None:
    """Raise BadArchive for a link that may lead out of the archive.

    A target may have `..` only at its beginning, and at most one for each folder above the link (`depth`). So each `..`
    leads to a real parent folder, never through another link, and no chain of links leaves the archive.
    """
    target = member.linkname
    if not target or len(os.fsencode(target)) > PATH:
        raise BadArchive(f"the link {member.name!r} has no target, or one of more than {PATH} bytes")
    steps = [step for step in target.split("/") if step not in ("", ".")]
    climbs = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    if target.startswith("/") or climbs > depth or ".." in steps[climbs:]:
        raise BadArchive(f"the link {member.name!r} to {target!r} may point outside the copied folder")


def _parts(path: str) -> list[str]:
    """Return the components of a path. Raises BadArchive for a path that leaves the archive or is too long."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if len(os.fsencode(path)) > PATH or len(parts) > DEPTH:
        raise BadArchive(f"{path[:60]!r}… is longer than {PATH} bytes or more than {DEPTH} folders deep")
    if path.startswith("/") or ".." in parts:
        raise BadArchive(f"{path!r} points outside the copied folder")
    return parts


def _members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members up to the archive's end. The caller reads the content of each regular file from `stream`.

    Raises BadArchive if the archive is damaged or the stream ends too early.
    """
    encoding = sys.getfilesystemencoding()
    changes: dict[str, str | int] = {}
    headers = 0
    while True:
        block = _exactly(stream, tarfile.BLOCKSIZE)
        if not any(block):
            return
        try:
            member = tarfile.TarInfo.frombuf(block, encoding, "surrogateescape")
        except tarfile.HeaderError as error:
            raise BadArchive(f"the archive is damaged ({error})") from error
        if member.size < 0 or member.type == tarfile.GNUTYPE_SPARSE:
            raise BadArchive(f"{member.name!r} is sparse or has no size")
        headers += 1
        if headers > HEADERS:
            raise BadArchive(f"{member.name!r} has more than {HEADERS} extended headers")
        if member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = os.fsdecode(_extended(stream, member).partition(b"\0")[0])
            changes["name" if member.type == tarfile.GNUTYPE_LONGNAME else "linkname"] = text
        elif member.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
            found = _records(_extended(stream, member))
            if found and member.type == tarfile.XGLTYPE:
                raise BadArchive("the archive has a global pax header with a name or size")
            changes |= found
        else:
            for name, value in changes.items():
                setattr(member, name, value)
            changes, headers = {}, 0
            if "\0" in member.name + member.linkname:
                raise BadArchive(f"{member.name[:60]!r} has a zero byte in its name")
            yield member


def _extended(stream: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if member.size > EXTENDED:
        raise BadArchive(f"a name or its attributes have {member.size:,} bytes; {EXTENDED:,} are allowed")
    return _exactly(stream, member.size + -member.size % tarfile.BLOCKSIZE)[: member.size]


def _records(data: bytes) -> dict[str, str | int]:
    """Return the attributes of TarInfo that pax records change; each record is `LENGTH KEY=VALUE\\n`."""
    found: dict[str, str | int] = {}
    while data:
        number, _, _ = data.partition(b" ")
        length = int(number) if number.isdigit() and len(number) < 8 else 0
        key, equals, value = data[len(number) + 1 : max(length, 1) - 1].partition(b"=")
        if not equals or data[length - 1 : length] != b"\n":
            raise BadArchive("the archive is damaged (a pax header)")
        if key.startswith(SPARSE):
            raise BadArchive("the archive has sparse files")
        if key in PLACE:
            found[PLACE[key]] = os.fsdecode(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise BadArchive("the archive is damaged (a pax size)")
            found["size"] = int(value)
        data = data[length:]
    return found


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise BadArchive("the archive ends too early")
    return data
