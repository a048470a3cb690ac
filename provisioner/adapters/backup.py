"""Back up and restore the files that only the control host has: the store, and the secret of the SSH keys.

A backup is a ZIP archive that only its owner may read, because the store contains the variables of jobs.
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
#: Maximum number of bytes of the secret, and of the description.
SMALL = 1 << 16
#: Bytes that are copied at a time.
BLOCK = 1 << 20


@dataclass(frozen=True)
class About:
    """The description in a backup: its installation, its bucket and its time."""

    installation: str
    bucket: str
    #: Unix seconds.
    made_at: float


def make(target: Path, about: About, copy_store: Callable[[Path], None], key: Path) -> int:
    """Write a backup to `target`, completely or not at all, and return its size in bytes.

    `copy_store` writes a consistent copy of the store to a path. Raises Invalid if the folder of `target` is missing,
    and Transient if a file cannot be written.
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
    """Write the store and the secret of a backup to `store` and `key`; return the description of the backup.

    The store gets a new id and no lease. Therefore the original store no longer owns the bucket after a takeover.
    Raises Conflict if `store` or `key` exists, Invalid if `source` is not a backup of this installation, and Transient
    if a file cannot be read or written.
    """
    for path in (store, key):
        if path.exists():
            raise Conflict(f"{path} exists: move it and the files beside it to another folder first")
    try:
        with zipfile.ZipFile(source) as archive:
            about = About(**json.loads(_read(archive, ABOUT)))
            if (about.installation, about.bucket) != (installation, bucket):
                raise Invalid(
                    f"{source} is a backup of installation {about.installation!r}, bucket {about.bucket!r}, but the "
                    f"settings have {installation!r}, {bucket!r}"
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
                # Write the store last: if it exists, the restored installation is complete.
                part.replace(store)
            return about
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, sqlite3.DatabaseError) as error:
        raise Invalid(f"{source} is not a valid backup: {error}") from error
    except FileNotFoundError as error:
        raise Invalid(f"{error.filename} does not exist") from error
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
