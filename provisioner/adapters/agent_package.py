"""Builds the agent's archive: its own code, for the standard library of any Python of at least 3.10."""

import hashlib
import importlib.resources
import io
import zipfile
from collections.abc import Iterator
from importlib.resources.abc import Traversable

#: What of the package is in the archive, with an empty root package: the rest is the control plane's alone.
SHIPPED = ("agent", "core/__init__.py", "core/errors.py", "core/protocol")

SUFFIXES = (".py", ".sh")

MAIN = "from provisioner.agent.main import main\n\nmain()\n"

#: Equal content gives equal bytes: the archive is named by its checksum.
MOMENT = (2020, 1, 1, 0, 0, 0)


def build() -> bytes:
    """The archive as a zip file."""
    files, target = _files(), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return target.getvalue()


def fingerprint() -> str:
    """What the archive would be made of, known without making it."""
    digest = hashlib.sha256()
    for name, data in sorted(_files().items()):
        digest.update(name.encode() + data)
    return digest.hexdigest()


def fetch_source() -> str:
    """The program that fetches the archive, as it travels in the user-data."""
    return (importlib.resources.files("provisioner") / "agent/aws/fetch.py").read_text()


def tail_source() -> str:
    """The program that tells what is in a machine's spool, as it is run there."""
    return (importlib.resources.files("provisioner") / "agent/logs/tail.py").read_text()


def _files() -> dict[str, bytes]:
    own = importlib.resources.files("provisioner")
    files = {"__main__.py": MAIN.encode(), "provisioner/__init__.py": b""}
    for name in SHIPPED:
        files |= dict(_below(own.joinpath(name), f"provisioner/{name}"))
    return files


def _below(item: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Return the names and contents of the source files that are `item` or in that folder."""
    if item.is_dir():
        for each in item.iterdir():
            yield from _below(each, f"{name}/{each.name}")
    elif name.endswith(SUFFIXES):
        yield name, item.read_bytes()
