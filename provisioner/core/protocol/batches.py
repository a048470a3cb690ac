"""Encode a batch of a list's commands, and decode it; standard library only.

A batch is written once to a machine's mailbox. Its first line is the head as JSON; the texts of the commands follow in
the order of the head's ranges, each with a NUL byte after it: no command contains one.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode, encode

#: Commands that follow each other: the first index, the number of commands, and their generation.
Range = tuple[int, int, int]


@dataclass(frozen=True)
class BatchHead:
    """Which commands a machine has to run, in this order."""

    run: str
    attempt: int
    rank: int
    #: 1 for the machine's first batch, then 2, and so on.
    number: int
    ranges: tuple[Range, ...]

    @property
    def count(self) -> int:
        """Number of commands."""
        return sum(count for _, count, _ in self.ranges)


def encode_batch(head: BatchHead, texts: bytes) -> bytes:
    """Return a batch; `texts` has the commands in the order of the ranges, each with a NUL byte after it."""
    return encode(head) + b"\n" + texts


def decode_batch(data: bytes) -> tuple[BatchHead, list[bytes]]:
    """Return the head of a batch and its commands; raises Invalid if the number of commands is wrong."""
    first, _, rest = data.partition(b"\n")
    head, texts = decode(BatchHead, first), rest.split(b"\0")
    if texts.pop():
        raise Invalid("the last command of the batch has no NUL byte after it")
    if len(texts) != head.count:
        raise Invalid(f"the batch has {len(texts)} commands; its head names {head.count}")
    return head, texts
