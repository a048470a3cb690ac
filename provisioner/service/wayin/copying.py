"""Files and folders to and from a machine, as one tar that is taken whole or not at all.

At either end all of it is unpacked beside its place first; then each file takes its place at once.
"""

import io
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provisioner.core.errors import Failed, Invalid, Transient
from provisioner.ports.connection import Connection, Process

#: Bytes of a tar at once.
BLOCK = 1 << 18
#: What stands for the end of what is sent: without it the line went dead on the way.
WHOLE = ".provision-whole"

#: The folder as what is in it, anything else by its name.
READ = """
if [ -d "$1" ]; then exec tar -C "$1" -cf - .; fi
[ -e "$1" ] || { echo "there is no $1" >&2; exit 1; }
case $1 in */*) cd -- "${1%/*}/" || exit ;; esac
exec tar -h -cf - "./${1##*/}"
"""

#: To "$1", or into it where that is a folder; "$2" is the name of what comes, "$3" whether it is a file or folder.
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
    #: What the machine's tar had to say of it: that a file changed while it was read.
    remark: str = ""


class _Reader(io.RawIOBase):
    """A process's output as a file."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._first = process.read(BLOCK) or b""

    @property
    def empty(self) -> bool:
        return not self._first

    def read(self, size: int = -1) -> bytes:
        """As many bytes, or all that there are."""
        found, self._first = bytearray(self._first[:size]), self._first[size:]
        while len(found) < size and (data := self._process.read(size - len(found))):
            found += data
        return bytes(found)


class _Writer(io.RawIOBase):
    """A process's input as a file."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def write(self, data: Any) -> int:
        self._process.write(bytes(data))
        return len(bytes(data))


def fetch(connection: Connection, path: str, local: Path) -> Copied:
    """Copy `path` to `local`, or into it where that is a folder.

    Raises Invalid for a place that cannot be, and Failed for what did not come whole or would leave its place: then
    nothing is changed here.
    """
    path = path or "."
    name = path.rstrip("/").rpartition("/")[2]
    into = local.is_dir() and name not in ("", ".", "..")
    target = local / name if into else local
    if not target.absolute().parent.is_dir():
        raise Invalid(f"there is no folder {target.parent}")
    process = connection.start(["sh", "-c", READ, "sh", path])
    with tempfile.TemporaryDirectory(prefix=".provision-", dir=target.absolute().parent) as part:
        try:
            copied, folder = _unpack(process, Path(part))
        except tarfile.FilterError as error:
            raise Failed(f"{path} is not copied: what came would leave its place ({error})") from error
        except (tarfile.TarError, OSError) as error:
            raise Failed(f"{path} is not copied: {error}") from error
        code, remark = process.wait()
        # GNU tar's 1: files changed while they were read (its manual, "Synopsis").
        if code and not (code == 1 and "as we read it" in remark):
            raise Failed(f"{path} is not copied: {remark or f'exit code {code}'}")
        moves = list(_moves(Path(part), target.resolve() if folder else target, folder=folder))
        for source, to in moves:
            to.mkdir(exist_ok=True) if source.is_dir() and not source.is_symlink() else os.replace(source, to)
        return replace(copied, remark=remark)


def _unpack(process: Process, part: Path) -> tuple[Copied, bool]:
    """What came, and whether it is a folder or a single file; raises what tarfile raises."""
    files = size = 0
    folder = False
    reader = _Reader(process)
    if reader.empty:
        code, words = process.wait()
        raise OSError(words or f"nothing came, exit code {code}")
    with tarfile.open(fileobj=reader, mode="r|", bufsize=BLOCK) as archive:
        for number, member in enumerate(archive):
            if number == 0:
                folder = member.isdir() and posixpath.normpath(member.name) == "."
            if not folder and (number or not member.isreg() or "/" in posixpath.normpath(member.name)):
                raise OSError("what came is neither a folder nor a file")
            archive.extract(member, part, filter="data")
            files, size = files + (not member.isdir()), size + (member.size if member.isreg() else 0)
    # Behind a tar's end there is less than a block of its writer's.
    reader.read(BLOCK)
    return Copied(files, size), folder


def _moves(part: Path, target: Path, *, folder: bool) -> Iterator[tuple[Path, Path]]:
    """From where to where; raises Invalid for a place that is taken, before anything is moved."""
    if not folder:
        [file] = part.iterdir()
        if target.is_dir():
            raise Invalid(f"{target} is a folder")
        yield file, target
        return
    for here, folders, names in os.walk(part):
        to = target / Path(here).relative_to(part)
        # A link that is there would lead elsewhere.
        if to.is_symlink() or (to.exists() and not to.is_dir()):
            raise Invalid(f"{to} is there, and no folder")
        yield Path(here), to
        for name in [*names, *(name for name in folders if (Path(here) / name).is_symlink())]:
            if (to / name).is_dir() and not (to / name).is_symlink():
                raise Invalid(f"{to / name} is a folder")
            yield Path(here) / name, to / name


def send(connection: Connection, local: Path, path: str) -> Copied:
    """Copy `local` to `path`, or into it where that is a folder.

    Raises Invalid for what is not here, and Failed for what the machine did not take: then nothing is changed there.
    """
    source = local.resolve()
    if not (source.is_dir() or source.is_file()):
        raise Invalid(f"{local} is neither a file nor a folder")
    files = size = 0

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal files, size
        files, size = files + (not member.isdir()), size + (member.size if member.isreg() else 0)
        # Who it belongs to here means nothing there.
        return member.replace(uid=0, gid=0, uname="", gname="", deep=False)

    kind = "folder" if source.is_dir() else "file"
    process = connection.start(["sh", "-c", WRITE, "sh", path, source.name, kind])
    try:
        # What busybox's tar reads as well.
        with tarfile.open(fileobj=_Writer(process), mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as archive:
            archive.add(source, "it", filter=nobodys)
            archive.addfile(tarfile.TarInfo(WHOLE))
        process.finish()
    except OSError as error:
        raise Failed(f"{local} is not copied: {error}") from error
    except Transient:
        pass  # It takes no more: it says why, or is gone.
    code, words = process.wait()
    if code:
        raise Failed(f"{local} is not copied: {words or f'exit code {code}'}")
    return Copied(files, size)
