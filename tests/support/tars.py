"""Tar archives with members of every kind, for tests."""

import io
import tarfile
from collections.abc import Callable


def tar(*members: tuple[str, Callable[[tarfile.TarInfo], None]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar archive with these members; each is a file of four bytes unless its function changes it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
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


def folder(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.DIRTYPE, 0


def device(member: tarfile.TarInfo) -> None:
    member.type, member.size, member.devmajor, member.devminor = tarfile.CHRTYPE, 0, 1, 3


def pipe(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.FIFOTYPE, 0
