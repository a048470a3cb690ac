"""The store's SQLite file: only its owner may read it, and a moved or replaced file is detected before a write."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from provisioner.adapters import private
from provisioner.adapters.descriptors import shortage
from provisioner.core.errors import Invalid, Transient

#: Suffixes of the files that SQLite makes beside a database in WAL mode (SQLite, "Write-Ahead Logging").
BESIDE = ("-wal", "-shm")


class StoreFile:
    """The file at a path, identified by the device and inode that it had when it was opened."""

    def __init__(self, path: Path) -> None:
        """Make the file if no store was ever at this path, and remove the permissions of other users.

        Raises Invalid if a store was at this path and its file is missing, and OSError if the file cannot be made.
        """
        self._path = path
        #: The path without symbolic links: SQLite makes its other files beside a link's target, not beside the link.
        self.real = Path(os.path.realpath(path))
        self.lease = self.real.with_name(f"{self.real.name}.lease")
        beside = [self.real.with_name(self.real.name + end) for end in BESIDE]
        # Every process makes the store's file before the lease and WAL files. So if a lease or WAL file exists, the
        # store's file must exist too.
        left = [each for each in (self.lease, *beside) if each.exists()]
        if left and not self.real.exists():
            names = " ".join(map(str, left))
            raise Invalid(
                f"{path} is missing, but {left[0].name} exists, so a store was there: restore the file, or start with "
                f"an empty store: rm {names}"
            )
        private.make_folder(self.real.parent)
        private.make_file(self.real)
        for each in beside:
            private.restrict(each)
        self._identity = self._now()

    def connect(self, *, timeout: float = 5.0) -> sqlite3.Connection:
        """Open a connection to the file, which must exist. Raises Transient as `check` does."""
        self.check()
        try:
            return self._connect(timeout)
        except sqlite3.Error as error:
            # The file may have been removed just now, or this process may have no file descriptor left.
            self.check()
            if short := shortage():
                raise short from error
            raise

    def _connect(self, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.real))}?mode=rw",
            uri=True,
            timeout=timeout,
            # Autocommit: our own BEGIN starts each transaction, never the driver.
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # SQLite has opened the file only now, so the earlier check may be out of date.
            self.check()
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def present(self) -> bool:
        """Whether the file at the path is the one that was opened; takes 2 µs."""
        return self._now() == self._identity

    def check(self) -> None:
        """Raise Transient while another file, or none, is at the path: writes to the open file would be lost."""
        if (found := self._now()) != self._identity:
            what = "was replaced by another file" if found else "is missing"
            raise Transient(
                f"the store {self._path} {what}: nothing is read, written or launched. "
                "Restore the original file, or restart to use the present one"
            )

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
