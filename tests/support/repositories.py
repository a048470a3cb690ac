"""Git repositories for tests, made with this computer's git."""

import hashlib
import os
import subprocess
from pathlib import Path

#: The path of a job's repository.
FOLDER = "/home/jovyan/workspace"
#: The token that opens private repositories.
TOKEN = "token-0123456789"
#: The content of a file in git LFS, its object id, its pointer, and the attributes that make it an LFS file.
WEIGHTS = b"weights " * 1000
OID = hashlib.sha256(WEIGHTS).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(WEIGHTS)}\n"
ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"


def git(folder: Path, *args: str) -> str:
    author = {f"GIT_{who}_{what}": "x@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    # Ignore this computer's git configuration, for example an LFS filter.
    own = {**author, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(
        ["git", "-C", str(folder), *args], env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def repository(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, content in {"file": folder.name, **files}.items():
        (folder / name).write_text(content)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "x")
    return folder


def submodule(folder: Path, url: str, inner: Path) -> None:
    """Add a submodule as `git submodule add` does, but fetch nothing."""
    (folder / ".gitmodules").write_text(f'[submodule "inner"]\n\tpath = inner\n\turl = {url}\n')
    git(folder, "add", ".")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{git(inner, 'rev-parse', 'HEAD')},inner")
    git(folder, "commit", "--quiet", "-m", "submodule")
