"""Files that a repository keeps in git LFS: git-lfs fetches them; without git-lfs the run is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Outcome, Step

#: The configuration that `git lfs install` writes, as options of each git command, so that nothing is installed.
FILTER = tuple(
    word
    for line in (
        "smudge=git-lfs smudge -- %f",
        "clean=git-lfs clean -- %f",
        "process=git-lfs filter-process",
        "required=true",
    )
    for word in ("-c", f"filter.lfs.{line}")
)

#: The first bytes of a pointer file, and the size in bytes that it stays below (git-lfs, docs/spec.md, "The Pointer").
POINTER, LARGEST_POINTER = (
    (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"),
    1024,
)


def lfs_options() -> tuple[str, ...]:
    """Return the options with which `git checkout` fetches LFS files; none if this machine has no git-lfs."""
    return FILTER if shutil.which("git-lfs") else ()


def refuse_pointers(repository: Repository, folder: str, listed: Callable[..., list[str]]) -> None:
    """Raise Ended if the checkout in `folder` has LFS pointers instead of files that the job needs.

    `listed` runs a git command in the folder and returns the entries of its output.
    """
    if not repository.lfs or shutil.which("git-lfs"):
        return
    found = list(_pointers(folder, listed))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        name = found[0] if found[0].isprintable() else repr(found[0])
        raise Ended(
            Outcome.REFUSED,
            Step.CLONE,
            f"{repository.url} keeps {name}{more} in git LFS, and this machine has no git-lfs, so the job would get"
            " pointers instead of the files; install git-lfs in the AMI, or set lfs: false for a job that does not read"
            " them",
        )


def _pointers(folder: str, listed: Callable[..., list[str]]) -> Iterator[str]:
    """Yield the paths, in `folder`, of files with the attribute `filter=lfs` whose content is a pointer."""
    checkouts = ["."]
    if os.path.exists(os.path.join(folder, ".gitmodules")):
        checkouts += listed("submodule", "--quiet", "foreach", "--recursive", "printf '%s\\0' \"$displaypath\"")
    for checkout in checkouts:
        for file in listed("-C", checkout, "ls-files", "-z", ":(attr:filter=lfs)"):
            path = os.path.normpath(os.path.join(checkout, file))
            if _is_pointer(os.path.join(folder, path)):
                yield path


def _is_pointer(path: str) -> bool:
    # A repository may have a symbolic link at any path, also one to a device.
    if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) >= LARGEST_POINTER:
        return False
    with open(path, "rb") as file:
        return file.read(LARGEST_POINTER).startswith(POINTER)
