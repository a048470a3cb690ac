"""Copy files and folders to and from a machine as one tar.

The receiving side first unpacks everything beside the target and then moves it there. On this computer, an error
while files are moved restores the replaced files.
"""

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from provisioner.core.errors import Failed, Invalid, Transient
from provisioner.ports.connection import Connection, Process
from provisioner.service.ssh_entry.unpacking import BadArchive, Unpacked, unpack

#: Bytes of a tar that are read or written at once.
BLOCK = 1 << 18
#: The last member of a tar that is sent: the machine rejects a tar without it, because the connection broke.
WHOLE = ".provision-whole"

#: Shell script: write a tar of the folder "$1" with its contents as `.`, or of the file "$1" by its name.
READ = """
if [ -d "$1" ]; then exec tar -C "$1" -cf - .; fi
[ -e "$1" ] || { echo "there is no $1" >&2; exit 1; }
case $1 in */*) cd -- "${1%/*}/" || exit ;; esac
exec tar -h -cf - "./${1##*/}"
"""

#: Shell script: unpack a tar to "$1", or into it if it is a folder; "$2" is the source's name, "$3" file or folder.
WRITE = """
set -e
case $1 in /*) target=$1 ;; *) target=$PWD/$1 ;; esac
if [ -d "$target" ]; then target=${target%/}/$2; fi
beside=${target%/*}/
[ -d "$beside" ] || { echo "there is no folder $beside" >&2; exit 1; }
if [ -d "$target" ]; then there=folder; elif [ -e "$target" ]; then there=file; else there=$3; fi
[ "$there" = "$3" ] || { echo "$target is a $there" >&2; exit 1; }
part=$beside.provision-$$
mkdir "$part"
trap 'cd / && rm -rf "$part"' EXIT
trap 'exit 1' HUP INT TERM PIPE
tar -C "$part" -xf -
[ -f "$part/.provision-whole" ] || { echo "what came is not whole" >&2; exit 1; }
cd "$part"
if [ "$3" = file ]; then mv -f it "$target"; exit; fi
cd it
find . -type d -exec sh -c 'for each; do mkdir -p "$0/$each" || exit; done' "$target" {} +
find . ! -type d -exec sh -c 'for each; do
    [ ! -d "$0/$each" ] || { echo "$0/$each is a folder" >&2; exit 1; }
    mv -f "$each" "$0/$each" || exit
done' "$target" {} +
"""


@dataclass(frozen=True)
class Copied:
    files: int
    size: int
    #: The warning of the machine's tar that a file changed while it was read.
    remark: str = ""


class _Reader(io.RawIOBase):
    """A process's output as a file."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._process.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)


class _Writer(io.RawIOBase):
    """A process's input as a file."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def write(self, data: Any) -> int:
        self._process.write(bytes(data))
        return len(bytes(data))


def fetch(connection: Connection, path: str, local: Path) -> Copied:
    """Copy the machine's `path` to `local`, or into `local` if that is a folder.

    Raises Invalid for a target that cannot exist, Transient for an error of this computer's disk, and Failed for an
    incomplete archive or one that may not be unpacked. After an error nothing is changed on this computer.
    """
    path = path or "."
    name = path.rstrip("/").rpartition("/")[2]
    into = local.is_dir() and name not in ("", ".", "..")
    target = local / name if into else local
    if not target.absolute().parent.is_dir():
        raise Invalid(f"there is no folder {target.parent}")
    # Unpack inside an existing target folder, because it may be a file system of its own.
    beside = target if target.is_dir() else target.absolute().parent
    process = connection.start(["sh", "-c", READ, "sh", path])
    try:
        with tempfile.TemporaryDirectory(prefix=".provision-", dir=beside) as part:
            came = Path(part) / "it"
            came.mkdir()
            try:
                unpacked = _received(process, came)
            except BadArchive as error:
                raise Failed(f"{path} is not copied: {error}") from error
            code, remark = process.wait()
            # GNU tar exits 1 if files changed while it read them (its manual, "Synopsis").
            if code and not (code == 1 and "as we read it" in remark):
                raise Failed(f"{path} is not copied: {remark or f'exit code {code}'}")
            _place(came, target, Path(part) / "replaced", folder=unpacked.folder)
    except OSError as error:
        raise Transient(f"{path} is not copied to {target}: {error.strerror or error}") from error
    return Copied(unpacked.files, unpacked.size, remark)


def _received(process: Process, came: Path) -> Unpacked:
    stream = io.BufferedReader(_Reader(process), BLOCK)
    if not stream.peek(1):
        code, words = process.wait()
        raise BadArchive(words or f"nothing came, exit code {code}")
    unpacked = unpack(stream, came)
    # Read the writer's padding after the end of the tar.
    stream.read(BLOCK)
    return unpacked


def _place(came: Path, target: Path, replaced: Path, *, folder: bool) -> None:
    """Move the unpacked files to the target, all or none; `replaced` keeps the replaced files for an undo."""
    if folder and not os.path.lexists(target):
        came.rename(target)
        return
    moves = list(_moves(came, target.resolve() if folder else target, folder=folder))
    replaced.mkdir()
    undo: list[Callable[[], object]] = []
    try:
        for number, (source, to) in enumerate(moves):
            if source.is_dir() and not source.is_symlink():
                if not to.is_dir():
                    undo.append(to.rmdir)
                    to.mkdir()
                continue
            # Note the undo of each step before the step, because Ctrl-C may come between the two.
            if os.path.lexists(to):
                old = replaced / str(number)
                undo.append(partial(os.replace, old, to))
                _keep(to, old)
            else:
                undo.append(to.unlink)
            os.replace(source, to)
    except BaseException:
        for step in reversed(undo):
            # A step that was not made, or cannot be undone, must not prevent the undo of the others.
            with contextlib.suppress(OSError):
                step()
        raise


def _keep(file: Path, to: Path) -> None:
    """Link the file to a second name, so that its path always exists; move it if links cannot be made."""
    try:
        os.link(file, to, follow_symlinks=False)
    except OSError:
        file.rename(to)


def _moves(part: Path, target: Path, *, folder: bool) -> Iterator[tuple[Path, Path]]:
    """Yield source and target of each move, before anything is moved. Raises Invalid if a target cannot be replaced."""
    if not folder:
        [file] = part.iterdir()
        if target.is_dir():
            raise Invalid(f"{target} is a folder")
        yield file, target
        return
    for here, folders, names in os.walk(part):
        to = target / Path(here).relative_to(part)
        # An existing link would redirect the files to another folder.
        if to.is_symlink() or (to.exists() and not to.is_dir()):
            raise Invalid(f"{to} is there, and no folder")
        yield Path(here), to
        for name in [*names, *(name for name in folders if (Path(here) / name).is_symlink())]:
            if (to / name).is_dir() and not (to / name).is_symlink():
                raise Invalid(f"{to / name} is a folder")
            yield Path(here) / name, to / name


def send(connection: Connection, local: Path, path: str) -> Copied:
    """Copy `local` to the machine's `path`, or into `path` if that is a folder.

    Raises Invalid if `local` is neither a file nor a folder, and Failed for an error on the machine. The target is
    unchanged then, unless the error came while the machine moved the files there.
    """
    source = local.resolve()
    if not (source.is_dir() or source.is_file()):
        raise Invalid(f"{local} is neither a file nor a folder")
    files = size = 0

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal files, size
        files, size = files + (not member.isdir()), size + (member.size if member.isreg() else 0)
        # The owner's id on this computer means nothing on the machine.
        return member.replace(uid=0, gid=0, uname="", gname="", deep=False)

    kind = "folder" if source.is_dir() else "file"
    process = connection.start(["sh", "-c", WRITE, "sh", path, source.name, kind])
    try:
        # busybox's tar reads this format too.
        with tarfile.open(fileobj=_Writer(process), mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as archive:
            archive.add(source, "it", filter=nobodys)
            archive.addfile(tarfile.TarInfo(WHOLE))
        process.finish()
    except OSError as error:
        raise Failed(f"{local} is not copied: {error}") from error
    except Transient:
        pass  # The machine reads no more: `wait` returns the reason, or raises if the connection is lost.
    code, words = process.wait()
    if code:
        raise Failed(f"{local} is not copied: {words or f'exit code {code}'}")
    return Copied(files, size)
