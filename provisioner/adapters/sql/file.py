"""The store's file: private, made once, and watched, so that nothing is written to another one."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from provisioner.adapters import private
from provisioner.adapters.descriptors import shortage
from provisioner.core.errors import Invalid, Transient

#: What SQLite keeps beside a database in WAL mode (SQLite, "Write-Ahead Logging"), with the database's own mode.
BESIDE = ("-wal", "-shm")


class StoreFile:
    """The file at a path, and which file that was when it was opened."""

    def __init__(self, path: Path) -> None:
        """Make the file if no store was ever here, and restrict it to its owner.

        Raises Invalid where a store was here and its file is missing, and OSError.
        """
        self._path = path
        #: SQLite keeps its files beside the file itself, not beside a link to it.
        self.real = Path(os.path.realpath(path))
        self.lease = self.real.with_name(f"{self.real.name}.lease")
        beside = [self.real.with_name(self.real.name + end) for end in BESIDE]
        # The file is made before its lease and its log, so these are looked for first.
        left = [each for each in (self.lease, *beside) if each.exists()]
        if left and not self.real.exists():
            names = " ".join(map(str, left))
            raise Invalid(
                f"{path} is missing, and {left[0].name} shows that a store was there: put the file back; "
                f"or, for a new and empty store: rm {names}"
            )
        private.make_folder(self.real.parent)
        private.make_file(self.real)
        for each in beside:
            private.restrict(each)
        self._identity = self._now()

    def connect(self, *, timeout: float = 5.0) -> sqlite3.Connection:
        """A connection to the very file; it never makes one. Raises Transient, as `check` does."""
        self.check()
        try:
            return self._connect(timeout)
        except sqlite3.Error as error:
            # The cause may be that the file has gone just now, or that there is no descriptor left.
            self.check()
            if short := shortage():
                raise short from error
            raise

    def _connect(self, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.real))}?mode=rw",
            uri=True,
            timeout=timeout,
            # AUTOCOMMIT in the driver: transactions are begun by our own BEGIN, never by the driver's guess.
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Only now it is certain which file was opened.
            self.check()
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def present(self) -> bool:
        """Whether the file at the path is the one that was opened; costs two microseconds."""
        return self._now() == self._identity

    def check(self) -> None:
        """Raises Transient while another file, or none, is at the path: what is written now would be lost."""
        if (found := self._now()) != self._identity:
            what = "was replaced by another file" if found else "is missing"
            raise Transient(
                f"the store {self._path} {what}: nothing is read, written or launched. "
                "Put the file back as it was, or restart to use what is there now"
            )

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
