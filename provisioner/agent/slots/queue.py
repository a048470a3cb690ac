"""The commands that were assigned to this machine and have not begun, in the order in which they begin."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.agent.machine import files
from provisioner.core.errors import Invalid
from provisioner.core.protocol.batches import BatchHead, decode_batch

#: Name of the file with the answers to recalls, and maximum number of answers in it.
KEPT, KEPT_MOST = "kept", 16
#: Name of the file with the commands that are never begun because they were stopped.
SKIPPED = "skipped"
#: The answer to a recall if nothing is given back; larger than any batch.
ALL = 1 << 20


@dataclass(frozen=True)
class Assigned:
    """One command: its place in a batch, its index in the list, the generation of its assignment, and its text."""

    batch: int
    position: int
    index: int
    generation: int
    text: bytes


class Queue:
    """Batches, each in a file until all of its commands have begun.

    One thread takes commands; another adds batches, and gives commands back.
    """

    def __init__(self, folder: Path, run: str, attempt: int, rank: int, begun: tuple[int, int] = (0, 0)) -> None:
        """`begun` is the place, batch and position, of the last command that has begun under an earlier agent process.

        `folder` has the batches that this process has read.
        """
        files.own(folder)
        self._folder = folder
        self._node = (run, attempt, rank)
        self._lock = threading.Lock()
        #: By batch: how many of its commands this machine keeps, after it gave the others back.
        self._kept: dict[int, int] = dict(_stored(folder / KEPT))
        #: Commands that were stopped before they began: number of the batch, position, index and generation.
        self._skipped: list[tuple[int, int, int, int]] = [tuple(each) for each in _stored(folder / SKIPPED)]
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        #: Number of the last batch that was read.
        self.read = max([*numbers, begun[0]])
        #: The batches that no command was taken from, with the number of their commands.
        self._ahead: deque[tuple[int, int]] = deque()
        self._open: deque[Assigned] = deque()
        for number in numbers:
            commands = deque(each for each in self._commands(number) if (number, each.position) > begun)
            if not commands:
                self._path(number).unlink()
            elif number == begun[0]:
                self._open = commands
            else:
                self._ahead.append((number, len(commands)))

    @property
    def kept(self) -> dict[int, int]:
        """The latest answers to recalls: by batch, how many of its commands this machine keeps."""
        return dict(self._kept)

    @property
    def waiting(self) -> int:
        """The number of commands that have not begun."""
        return len(self._open) + sum(count for _, count in list(self._ahead))

    def add(self, number: int, data: bytes) -> None:
        """Store a batch. Raises Invalid if it is not this node's batch with that number, and OSError."""
        head, texts = decode_batch(data)
        found = (head.run, head.attempt, head.rank, head.number)
        if found != (*self._node, number):
            raise Invalid(f"a batch of {found} instead of {(*self._node, number)}")
        files.replace(self._path(number), data)
        with self._lock:
            self._ahead.append((number, len(texts)))
            self.read = number

    def take(self) -> Assigned | None:
        """Remove and return the next command, or None. It may begin once its place is stored."""
        with self._lock:
            while not self._open:
                if not self._ahead:
                    return None
                number, _ = self._ahead[0]
                self._open.extend(self._commands(number))
                self._ahead.popleft()
            return self._open.popleft()

    def give_back(self, number: int, spare: int) -> bool:
        """Give back the commands of a batch that have not begun, but for the first `spare`.

        Returns False if nothing changes: the batch is not read yet, or was given back before. The answer is stored
        before it has effect, so no later agent process begins a command that was given back. Raises OSError.
        """
        with self._lock:
            if number in self._kept or number > self.read:
                return False
            unbegun = [each.position for each in self._open if each.batch == number]
            if number in dict(self._ahead):
                unbegun = [each.position for each in self._commands(number)]
            count = unbegun[spare] if spare < len(unbegun) else ALL
            kept = dict(sorted((self._kept | {number: count}).items())[-KEPT_MOST:])
            files.replace(self._folder / KEPT, json.dumps(list(kept.items())).encode())
            self._kept = kept
            self._open = deque(each for each in self._open if each.batch != number or each.position < count)
            self._recount(number)
            return True

    @property
    def skipped(self) -> list[Assigned]:
        """The commands that `skip` has returned, without their texts, except for those of deleted batches."""
        return [Assigned(*each, b"") for each in list(self._skipped)]

    def skip(self, indices: Collection[int]) -> list[Assigned]:
        """Remove the commands with these indices that have not begun; return them. Raises OSError.

        The removal is stored first, so no later agent process begins one of them.
        """
        with self._lock:
            found = [each for each in self._open if each.index in indices]
            for number, _ in self._ahead:
                found += (each for each in self._commands(number) if each.index in indices)
            if not found:
                return []
            kept = [each for each in self._skipped if self._path(each[0]).exists()]
            skipped = [*kept, *((each.batch, each.position, each.index, each.generation) for each in found)]
            files.replace(self._folder / SKIPPED, json.dumps(skipped).encode())
            self._skipped = skipped
            self._open = deque(each for each in self._open if each.index not in indices)
            self._recount(*{each.batch for each in found})
            return found

    def _recount(self, *numbers: int) -> None:
        """Count the commands of these batches again, from which no command was taken."""
        places = [
            (each, sum(1 for _ in self._commands(each)) if each in numbers else several)
            for each, several in self._ahead
        ]
        self._ahead = deque(place for place in places if place[1])

    def drop(self, before: int) -> None:
        """Delete the files of batches with smaller numbers, all of whose commands have begun."""
        for path in self._folder.iterdir():
            if path.name.isdigit() and int(path.name) < before:
                path.unlink()

    def _commands(self, number: int) -> Iterator[Assigned]:
        head, texts = decode_batch(self._path(number).read_bytes())
        skipped = {position for batch, position, _, _ in self._skipped if batch == number}
        for position, ((index, generation), text) in enumerate(zip(_spread(head), texts, strict=True)):
            if position < self._kept.get(number, ALL) and position not in skipped:
                yield Assigned(number, position, index, generation, text)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"


def _stored(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_bytes()) if path.exists() else []
    return found


def _spread(head: BatchHead) -> Iterator[tuple[int, int]]:
    for first, count, generation in head.ranges:
        for index in range(first, first + count):
            yield index, generation
