"""Copy files and folders to and from a machine as one tar.

The receiving side first unpacks all files to a temporary folder, and then moves them to the target. If an error occurs
on this computer while files are moved, the replaced files are restored.
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
#: The name of the last member of a tar that is sent. The machine rejects a tar without this member, because the
#: connection broke before the end of the tar.
WHOLE = ".provision-whole"

#: Shell script: print a tar of the folder or file "$1". In the tar, a folder is named `.`, and a file has its own name.
READ = """
if [ -d "$1" ]; then exec tar -C "$1" -cf - .; fi
[ -e "$1" ] || { echo "there is no $1" >&2; exit 1; }
case $1 in */*) cd -- "${1%/*}/" || exit ;; esac
exec tar -h -cf - "./${1##*/}"
"""

#: Shell script: unpack a tar to "$1", or into the folder "$1"; "$2" is the source's name, "$3" is `file` or `folder`.
WRITE = """
set -e
case $1 in /*) target=$1 ;; *) target=$PWD/$1 ;; esac
if [ -d "$target" ]; then target=${target%/}/$2; fi
beside=${target%/*}/
[ -d "$beside" ] || { echo "folder $beside does not exist on the machine" >&2; exit 1; }
if [ -d "$target" ]; then there=folder; elif [ -e "$target" ]; then there=file; else there=$3; fi
[ "$there" = "$3" ] || { echo "$target is a $there" >&2; exit 1; }
part=$beside.provision-$$
mkdir "$part"
trap 'cd / && rm -rf "$part"' EXIT
trap 'exit 1' HUP INT TERM PIPE
tar -C "$part" -xf -
[ -f "$part/.provision-whole" ] || { echo "the transfer was incomplete: the connection broke" >&2; exit 1; }
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
    #: The warning of the machine's tar that a file changed while tar read it, or "".
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

    Raises Invalid for a target that cannot be made or replaced, Transient for an error of this computer's disk, and
    Failed for an archive that is incomplete or unsafe. After an error, this computer's files are unchanged.
    """
    path = path or "."
    name = path.rstrip("/").rpartition("/")[2]
    into = local.is_dir() and name not in ("", ".", "..")
    target = local / name if into else local
    if not target.absolute().parent.is_dir():
        raise Invalid(f"folder {target.parent} does not exist")
    # Unpack inside an existing target folder: it may be a mount point, and files are moved only within a file system.
    beside = target if target.is_dir() else target.absolute().parent
    process = connection.start(["sh", "-c", READ, "sh", path])
    try:
        with tempfile.TemporaryDirectory(prefix=".provision-", dir=beside) as part:
            came = Path(part) / "it"
            came.mkdir()
            try:
                unpacked = _received(process, came)
            except BadArchive as error:
                raise Failed(f"cannot copy {path}: {error}") from error
            code, remark = process.wait()
            # GNU tar exits with 1 if files changed while it read them (GNU tar manual, "Synopsis").
            if code and not (code == 1 and "as we read it" in remark):
                raise Failed(f"cannot copy {path}: {remark or f'exit code {code}'}")
            _place(came, target, Path(part) / "replaced", folder=unpacked.folder)
    except OSError as error:
        raise Transient(f"cannot copy {path} to {target}: {error.strerror or error}") from error
    return Copied(unpacked.files, unpacked.size, remark)


def _received(process: Process, came: Path) -> Unpacked:
    stream = io.BufferedReader(_Reader(process), BLOCK)
    if not stream.peek(1):
        code, words = process.wait()
        raise BadArchive(words or f"the machine sent no data (exit code {code})")
    unpacked = unpack(stream, came)
    # Read the writer's padding after the end of the tar.
    stream.read(BLOCK)
    return unpacked


def _place(came: Path, target: Path, replaced: Path, *, folder: bool) -> None:
    """Move all unpacked files to the target, or none. The folder `replaced` keeps the replaced files for the undo."""
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
            # Record the undo before the step itself, because Ctrl-C may come between the two.
            if os.path.lexists(to):
                old = replaced / str(number)
                undo.append(partial(os.replace, old, to))
                _keep(to, old)
            else:
                undo.append(to.unlink)
            os.replace(source, to)
    except BaseException:
        for step in reversed(undo):
            # An undo fails if its step was never made. Its error must not prevent the undo of the other steps.
            with contextlib.suppress(OSError):
                step()
        raise


def _keep(file: Path, to: Path) -> None:
    """Hard-link the file to `to`, so that its own path always exists; if that is impossible, move the file."""
    try:
        os.link(file, to, follow_symlinks=False)
    except OSError:
        file.rename(to)


def _moves(part: Path, target: Path, *, folder: bool) -> Iterator[tuple[Path, Path]]:
    """Yield the source and target of each move, without moving. Raises Invalid if a target cannot be replaced."""
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
            raise Invalid(f"{to} exists and is not a folder")
        yield Path(here), to
        for name in [*names, *(name for name in folders if (Path(here) / name).is_symlink())]:
            if (to / name).is_dir() and not (to / name).is_symlink():
                raise Invalid(f"{to / name} is a folder")
            yield Path(here) / name, to / name


def send(connection: Connection, local: Path, path: str) -> Copied:
    """Copy `local` to the machine's `path`, or into `path` if that is a folder.

    Raises Invalid if `local` is neither a file nor a folder, and Failed for an error on the machine. After an error the
    target is unchanged, unless the machine had begun to move the files to the target.
    """
    source = local.resolve()
    if not (source.is_dir() or source.is_file()):
        raise Invalid(f"{local} is neither a file nor a folder")
    files = size = 0

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal files, size
        files, size = files + (not member.isdir()), size + (member.size if member.isreg() else 0)
        # User and group ids of this computer have no meaning on the machine.
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
        raise Failed(f"cannot copy {local}: {error}") from error
    except Transient:
        pass  # The machine stopped reading: `wait` returns the reason, or raises Transient if the connection is lost.
    code, words = process.wait()
    if code:
        raise Failed(f"cannot copy {local}: {words or f'exit code {code}'}")
    return Copied(files, size)
