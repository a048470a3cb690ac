"""One file with everything that a control host has and the bucket has not: the store, and the secret of SSH keys.

It is a ZIP archive, which only its owner may read: the store has the variables of jobs.
"""

import json
import os
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from provisioner.adapters import private
from provisioner.core.errors import Conflict, Invalid, Transient

STORE, KEY, ABOUT = "store.db", "store.key", "backup.json"
#: Bytes of a key's secret, at most, and of the description.
SMALL = 1 << 16
#: Bytes that are copied at a time.
BLOCK = 1 << 20


@dataclass(frozen=True)
class About:
    """What a backup is of."""

    installation: str
    bucket: str
    #: Unix seconds.
    made_at: float


def make(target: Path, about: About, copy_store: Callable[[Path], None], key: Path) -> int:
    """Write a backup to `target`, completely or not at all, and return its size in bytes.

    `copy_store` writes a consistent copy of the store to a path. Raises Invalid and Transient.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".provision-backup.", dir=target.parent) as name:
            part = Path(name, "part")
            private.make_file(part)
            copy_store(Path(name, STORE))
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr(ABOUT, json.dumps(asdict(about)))
                archive.write(Path(name, STORE), STORE)
                if key.exists():
                    archive.write(key, KEY)
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            size = part.stat().st_size
            part.replace(target)
            return size
    except FileNotFoundError as error:
        raise Invalid(f"{target}: there is no folder {target.parent}") from error
    except OSError as error:
        raise Transient(f"{target}: {error.strerror}") from error


def restore(source: Path, store: Path, key: Path, installation: str, bucket: str) -> About:
    """Put the store and the secret of a backup in their places, and return what it was of.

    The store gets a new id and no lease, so that the store that was backed up no longer owns the bucket after a
    takeover. Raises Conflict if there is a store, Invalid for a file that is no backup of this installation, and
    Transient.
    """
    for path in (store, key):
        if path.exists():
            raise Conflict(f"{path} is there: move it away first, with the files beside it")
    try:
        with zipfile.ZipFile(source) as archive:
            about = About(**json.loads(_read(archive, ABOUT)))
            if (about.installation, about.bucket) != (installation, bucket):
                raise Invalid(
                    f"{source} is of installation {about.installation!r} with bucket {about.bucket!r}; the settings "
                    f"name {installation!r} and {bucket!r}"
                )
            private.make_folder(store.parent)
            with tempfile.TemporaryDirectory(prefix=".provision-restore.", dir=store.parent) as name:
                part = Path(name, STORE)
                private.make_file(part)
                with archive.open(STORE) as packed, open(part, "wb") as file:
                    while block := packed.read(BLOCK):
                        file.write(block)
                    os.fsync(file.fileno())
                _renew(part)
                if KEY in archive.namelist():
                    secret = Path(name, KEY)
                    private.make_file(secret)
                    secret.write_bytes(_read(archive, KEY))
                    secret.replace(key)
                # The store comes last: with it, the restored installation is complete.
                part.replace(store)
            return about
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, sqlite3.DatabaseError) as error:
        raise Invalid(f"{source} is no backup: {error}") from error
    except FileNotFoundError as error:
        raise Invalid(f"{error.filename} is not there") from error
    except OSError as error:
        raise Transient(f"{error.filename or source}: {error.strerror}") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as packed:
        data = packed.read(SMALL + 1)
    if len(data) > SMALL:
        raise ValueError(f"{name} has more than {SMALL} bytes")
    return data


def _renew(path: Path) -> None:
    """Remove the store's id and its lease; the epoch stays, because it must only grow."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM note WHERE key = 'store id'")
        connection.execute("UPDATE lease SET holder = '', expires_at = 0")
        connection.commit()
