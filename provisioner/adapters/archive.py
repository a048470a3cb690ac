"""Builds the agent's archive: everything the agent imports, for any Python of at least 3.10."""

import gzip
import hashlib
import importlib.metadata
import importlib.resources
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable

#: The agent's own part, with an empty root: the control plane's code stays at home.
OWN = ("core/__init__.py", "core/errors.py", "core/work.py")

VENDORS = ("botocore", "jmespath", "dateutil", "urllib3")

#: The same by their names as packages: versions tell their contents.
PACKAGES = ("botocore", "jmespath", "python-dateutil", "urllib3", "six")

#: botocore describes all of AWS in its data; the agent needs little of it.
DATA = (
    "endpoints.json",
    "partitions.json",
    "sdk-default-configuration.json",
    "_retry.json",
    "s3",
    "ssm",
    "secretsmanager",
    "ecr",
)

#: Of a service's description only what these calls need goes along.
CALLS = {
    "s3": ("GetObject", "PutObject"),
    "ssm": ("GetParameter",),
    "secretsmanager": ("GetSecretValue",),
    "ecr": ("GetAuthorizationToken",),
}

#: What no import of the agent reaches.
LEFT_OUT = frozenset({"__pycache__", "examples", "examples-1.json", "emscripten", "dateutil/zoneinfo"})

SUFFIXES = (".py", ".json", ".json.gz", ".pem", ".sh")

MAIN = "from provisioner.agent.main import main\n\nmain()\n"

#: Equal content gives equal bytes: the archive is named by its checksum.
MOMENT = (2020, 1, 1, 0, 0, 0)


def build() -> bytes:
    """The archive as a zip file; to be unpacked, because botocore reads its data from real files."""
    files = {"__main__.py": MAIN.encode(), "provisioner/__init__.py": b""}
    own = importlib.resources.files("provisioner")
    for name in OWN:
        files[f"provisioner/{name}"] = own.joinpath(name).read_bytes()
    files.update(_tree(own / "agent", "provisioner/agent"))
    for vendor in VENDORS:
        files.update(_tree(importlib.resources.files(vendor), vendor))
    files["six.py"] = (importlib.resources.files("botocore") / ".." / "six.py").read_bytes()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return target.getvalue()


def fingerprint() -> str:
    """What the archive would be made of, known without making it."""
    digest = hashlib.sha256(" ".join(importlib.metadata.version(name) for name in PACKAGES).encode())
    own = importlib.resources.files("provisioner")
    for name in OWN:
        digest.update(own.joinpath(name).read_bytes())
    for name, data in sorted(_tree(own / "agent", "provisioner/agent")):
        digest.update(name.encode() + data)
    return digest.hexdigest()


def fetch_source() -> str:
    """The program that fetches the archive, as it travels in the user-data."""
    return (importlib.resources.files("provisioner") / "agent" / "fetch.py").read_text()


def tail_source() -> str:
    """The program that tells what is in a machine's spool, as it is run there."""
    return (importlib.resources.files("provisioner") / "agent" / "tail.py").read_text()


def _tree(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        path = f"{name}/{item.name}"
        if item.name in LEFT_OUT or path in LEFT_OUT:
            continue
        if name == "botocore/data" and item.name not in DATA:
            continue
        if item.is_dir():
            yield from _tree(item, path)
        elif item.name.endswith(SUFFIXES):
            calls = CALLS.get(name.split("/")[2]) if item.name == "service-2.json.gz" else None
            yield path, _trimmed(item.read_bytes(), calls) if calls else item.read_bytes()


def _trimmed(description: bytes, calls: Sequence[str]) -> bytes:
    """A service's description with these calls and the shapes that they need."""
    whole = json.loads(gzip.decompress(description))
    operations = {call: whole["operations"][call] for call in calls}
    kept: dict[str, object] = {}
    wanted = [*operations.values()]
    while wanted:
        # Whatever names a shape has a member "shape".
        for name in re.findall(r'"shape": "([^"]+)"', json.dumps(wanted.pop())):
            if name not in kept:
                kept[name] = whole["shapes"][name]
                wanted.append(kept[name])
    return gzip.compress(json.dumps({**whole, "operations": operations, "shapes": kept}).encode(), mtime=0)
