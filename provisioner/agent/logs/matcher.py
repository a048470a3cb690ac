"""Search data for many strings at once, at a cost that hardly grows with their number.

One word (4 or 8 bytes) in every 4 to 32 bytes of the data is looked up in a table of the strings' words. Wherever
a long string begins in the data, its first bytes contain one of the words that are looked up. So a long string is
searched for only if the lookup found a word of its first bytes. The few strings that are too short for this are
searched for one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Literal

#: The size of a word in bytes, the bytes from one word to the next, and the format of the words for a memoryview.
Sample = tuple[int, int, Literal["I", "Q"]]
SAMPLES: tuple[Sample, ...] = ((8, 32, "Q"), (8, 16, "Q"), (8, 8, "Q"), (4, 4, "I"))

#: Nanoseconds to look up a word, and to search one byte of data for a one-byte string; longer strings are faster.
LOOK, FIND = 35, 3.5

Span = tuple[int, int]

#: Returns whether the occurrence of a string at this span counts.
Counts = Callable[[Span], bool]


class Sieve:
    """Finds which of many strings may be in some data."""

    def __init__(self, strings: Iterable[bytes] = ()) -> None:
        #: The strings by their root, the shortest string that they begin with; only roots are searched for.
        self._families: dict[bytes, list[bytes]] = {}
        root = b""
        for string in sorted(set(strings)):
            if not root or not string.startswith(root):
                root = string
            self._families.setdefault(root, []).append(string)
        self._size, self._stride, self._format = min(SAMPLES, key=self._cost)
        #: A string of at least this many bytes contains a looked-up word, wherever the string begins.
        self.reach = self._size + self._stride - 1
        self._short = [root for root in self._families if len(root) < self.reach]
        self._by_word: dict[int, list[bytes]] = {}
        for root in self._families:
            for at in range(self._stride if len(root) >= self.reach else 0):
                word = int.from_bytes(root[at : at + self._size], sys.byteorder)
                self._by_word.setdefault(word, []).append(root)
        self._words = frozenset(self._by_word)

    def _cost(self, sample: Sample) -> float:
        size, stride, _ = sample
        return LOOK / stride + sum(FIND / len(root) for root in self._families if len(root) < size + stride - 1)

    def suspects(self, data: bytes) -> list[bytes]:
        """Return the strings that may be in the data.

        They include every string in the data, and every string whose first `reach` bytes or more are at the data's end.
        """
        if not self._families:
            return []
        whole = len(data) - len(data) % self._size
        words = memoryview(data)[:whole].cast(self._format)[:: self._stride // self._size]
        roots = {root for word in self._words.intersection(words) for root in self._by_word[word]}
        roots.update(root for root in self._short if root in data)
        return [string for root in roots for string in self._families[root]]


class Strings:
    """Finds the strings in data, and the strings whose beginning is at the end of the data."""

    def __init__(self, strings: Iterable[bytes], reach: int) -> None:
        """`reach` must be at least the `reach` of each Sieve that returns the suspects."""
        self.all = frozenset(strings)
        self._reach = reach
        self._prefixes = frozenset(
            string[:length] for string in self.all for length in range(1, min(reach, len(string)))
        )
        self._letters = bytes(set(b"".join(self._prefixes)))

    def spans(self, data: bytes, suspects: Iterable[bytes], counts: Counts = bool) -> list[Span]:
        """Return the spans of the suspects, if `counts` accepts them; overlapping spans of one string are merged."""
        spans = []
        for string in self.all.intersection(suspects):
            at = data.find(string)
            while at >= 0:
                last = at + 1
                if counts((at, at + len(string))):
                    last = _end_of_row(data, string, at, counts)
                    spans.append((at, last))
                at = data.find(string, last)
        return spans

    def begun(self, data: bytes, suspects: Iterable[bytes]) -> list[int]:
        """Return, in order, the positions from which the rest of the data is the beginning of a string."""
        starts = set()
        for string in self.all.intersection(suspects):
            begin = string[: self._reach]
            at = data.find(begin, max(0, len(data) - len(string) + 1))
            while at >= 0:
                if string.startswith(data[at:]):
                    starts.add(at)
                at = data.find(begin, at + 1)
        tail = data[-self._reach + 1 :]
        # Only bytes that occur in the prefixes can be part of a prefix.
        run = len(tail) - len(tail.rstrip(self._letters))
        starts.update(len(data) - length for length in range(1, run + 1) if tail[-length:] in self._prefixes)
        return sorted(starts)


def _end_of_row(data: bytes, string: bytes, at: int, counts: Counts) -> int:
    """Return the end of the row of overlapping occurrences that begins at `at`."""
    size = len(string)
    least, last = at + 1, at + size
    # Search backwards, because in a run of one letter a string may begin at every position.
    at = data.rfind(string, least, last - 1 + size)
    while at >= 0:
        if counts((at, at + size)):
            least, last = at + 1, at + size
            at = data.rfind(string, least, last - 1 + size)
        else:
            at = data.rfind(string, least, at - 1 + size)
    return last
