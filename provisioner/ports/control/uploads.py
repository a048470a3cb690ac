"""The contract for uploading lists of commands."""

from collections.abc import Iterable
from typing import Protocol

from provisioner.core.views.upload import Upload


class Uploads(Protocol):
    def add(self, lines: Iterable[bytes], owner: str = "", *, null: bool = False) -> Upload:
        """Store a list of commands, one in each line, for runs of the owner's jobs (`Runs.start`).

        `lines` is a text in UTF-8, in pieces of any size; memory is bounded, however long the text is. A line ends with
        LF or CR LF; at the end of the text this may be missing. With `null`, each command ends with a NUL byte instead,
        and may have several lines. The default owner is the caller's first one.

        Raises Invalid for an empty text, one with more than 10,000,000 lines or 2 GiB, and for lines that are no shell
        line; the message names up to five of these. Raises LimitReached if the owner would have too much stored. After
        an error nothing is stored.

        An upload that no run uses is deleted after 24 h.
        """
