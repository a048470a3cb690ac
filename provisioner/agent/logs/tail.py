"""Print the spool, whose bytes are already masked, while the agent writes it; the control plane runs this over SSH.

    python3 -c THIS-TEXT FOLDER STREAM=OFFSET...

For each piece it prints a line, `STREAM OFFSET LENGTH`, and then that number of bytes. Bytes that were shipped before
they could be read are left out: the bucket has them. The program ends when standard input ends. Needs Python 3.7.
"""

from __future__ import annotations

import os
import select
import sys

#: Seconds between two reads while nothing is written.
LOOK = 0.1

#: Maximum bytes of a piece.
PIECE = 65536


class Stream:
    """One stream's segments: files that are named by their offset, and deleted when the bucket has them."""

    def __init__(self, folder: str, name: str, offset: int) -> None:
        self.name = name
        #: The offset of the next byte.
        self.at = offset
        self._folder = f"{folder}/{name}"
        #: The open file of the segment that is read; its bytes can be read even after it was deleted.
        self._file: int | None = None
        self._begin = 0

    def news(self) -> bytes:
        """Return the next bytes, and set `at` to the offset after them; empty if there are none now."""
        while True:
            later = [begin for begin in self._segments() if self._file is None or begin > self._begin]
            if self._file is not None:
                data = os.read(self._file, PIECE)
                self.at += len(data)
                # If the segment had a successor before this read, it does not grow any more.
                if data or not later:
                    return data
                self.close()
            if not later:
                return b""
            self._open(max((begin for begin in later if begin <= self.at), default=later[0]))

    def _open(self, begin: int) -> None:
        try:
            self._file = os.open(f"{self._folder}/{begin:015d}", os.O_RDONLY)
        except FileNotFoundError:
            # The segment was shipped meanwhile. The next read finds its successor, if there is one.
            return
        self._begin = begin
        self.at = max(self.at, self._begin)
        os.lseek(self._file, self.at - self._begin, os.SEEK_SET)

    def _segments(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(self._folder))
        except FileNotFoundError:
            return []

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def main(folder: str, *wanted: str) -> None:
    streams = [Stream(folder, name, int(offset)) for name, _, offset in (each.partition("=") for each in wanted)]
    pause = 0.0
    while not (select.select([0], [], [], pause)[0] and not os.read(0, PIECE)):
        pause = LOOK
        for stream in streams:
            data = stream.news()
            if data:
                pause = 0.0
                head = f"{stream.name} {stream.at - len(data)} {len(data)}\n"
                sys.stdout.buffer.write(head.encode() + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
