"""Build the agent's archive: only our own code, which needs only Python 3.10 or later and its standard library."""

import hashlib
import importlib.resources
import io
import zipfile
from collections.abc import Iterator
from importlib.resources.abc import Traversable

#: Files and folders of the package that the archive contains, beside an empty root package. Only the control plane
#: needs the rest.
SHIPPED = ("agent", "core/__init__.py", "core/errors.py", "core/protocol")

SUFFIXES = (".py", ".sh")

MAIN = "from provisioner.agent.main import main\n\nmain()\n"

#: The time of every file in the archive. The archive is named by its checksum, so equal content must give equal bytes.
MOMENT = (2020, 1, 1, 0, 0, 0)


def build() -> bytes:
    """Return the archive as a zip file."""
    files, target = _files(), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return target.getvalue()


def fingerprint() -> str:
    """Return a SHA-256 of the archive's content, as hex digits, without building the archive."""
    digest = hashlib.sha256()
    for name, data in sorted(_files().items()):
        digest.update(name.encode() + data)
    return digest.hexdigest()


def fetch_source() -> str:
    """Return the source of the program that fetches the archive; the user-data contains it."""
    return (importlib.resources.files("provisioner") / "agent/aws/fetch.py").read_text()


def tail_source() -> str:
    """Return the source of the program that prints a machine's spool; it runs on the machine."""
    return (importlib.resources.files("provisioner") / "agent/logs/tail.py").read_text()


def _files() -> dict[str, bytes]:
    own = importlib.resources.files("provisioner")
    files = {"__main__.py": MAIN.encode(), "provisioner/__init__.py": b""}
    for name in SHIPPED:
        files |= dict(_below(own.joinpath(name), f"provisioner/{name}"))
    return files


def _below(item: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each source file: `item` itself, or all source files below it if it is a folder."""
    if item.is_dir():
        for each in item.iterdir():
            yield from _below(each, f"{name}/{each.name}")
    elif name.endswith(SUFFIXES):
        yield name, item.read_bytes()
