"""Records of a run's list of commands. Each command's state is in a block; all other records are counters and plans.

Times are Unix seconds.
"""

from dataclasses import dataclass

from provisioner.core.protocol.batches import Range

#: Number of commands in a block.
BLOCK = 10_000
#: Maximum number of commands that are being stopped at the same time, each alone.
STOPS_MOST = 1000


@dataclass(frozen=True)
class CommandList:
    """The list of a run, counted: `total - next + waiting + out` commands are open, all others have a final state."""

    #: The run's id.
    id: str
    total: int
    #: The first index that was never handed out or sealed; all later ones were neither.
    next: int = 0
    #: Number of commands that are handed out again.
    waiting: int = 0
    #: Number of commands that a machine has and whose end is not recorded.
    out: int = 0
    succeeded: int = 0
    failed: int = 0
    lost: int = 0
    cancelled: int = 0
    not_run: int = 0
    #: Number of times that a command was taken back from a lost machine.
    retried: int = 0
    #: Number of times that a command was to run again after it had failed.
    repeated: int = 0
    #: Number of the cancelled commands that a machine ended together with its whole work.
    halted: int = 0
    #: Indices of commands that were stopped alone and have no final state yet; at most STOPS_MOST. A machine has them,
    #: or they are behind `next`: then they are cancelled when their turn comes.
    stops: tuple[int, ...] = ()
    #: When every command had its final state; None before. A list without open commands may wait for the run's end.
    sealed_at: float | None = None
    block_size: int = BLOCK
    #: Maximum number of commands of a batch, so that it is not too large; None if the list is short.
    batch_most: int | None = None
    version: int = 0

    @property
    def ended(self) -> int:
        """Number of commands with a final state."""
        return self.succeeded + self.failed + self.lost + self.cancelled + self.not_run

    @property
    def open(self) -> int:
        """Number of commands without a final state."""
        return self.total - self.ended

    @property
    def remaining(self) -> int:
        """Number of commands that can be handed out now."""
        return self.total - self.next + self.waiting


@dataclass(frozen=True)
class Worker:
    """What a node of a list run has got and has recorded."""

    #: The node's id.
    id: str
    run: str
    box: str
    attempt: int
    rank: int
    #: Number of commands that it runs at once.
    slots: int
    #: The number of its last batch; 0 before the first.
    batches: int = 0
    #: Number of bytes of its stream `records` that are recorded.
    records_read: int = 0
    #: The last recorded bytes, if they are the beginning of a line; each character is one byte.
    rest: str = ""
    #: Number of its commands that ended, and of those among them that failed.
    ended: int = 0
    failed: int = 0
    #: Commands a second that it runs while it has some; 0 before the first has ended. And the seconds of its work that
    #: this is the average of.
    rate: float = 0.0
    rated: float = 0.0
    #: The commands that failed on the machine since the last one that succeeded; without those that had failed before.
    streak: tuple[Range, ...] = ()
    #: Number of commands of the list that had succeeded when the streak began.
    succeeded_before: int = 0
    #: When it was found that the machine is bad: all its commands fail, and those of other machines succeed.
    doubted_at: float | None = None
    #: When it was decided that it gets no more commands, because none is left for it.
    released_at: float | None = None
    #: When, after the end of the node's work, a listing of its whole inbox showed no chunk that is to be recorded.
    listed_at: float | None = None
    #: When the commands without a record were taken back from it.
    closed_at: float | None = None
    version: int = 0


@dataclass(frozen=True)
class Batch:
    """Commands that were handed out to one node together."""

    #: The node's id and the number, with a point in between.
    id: str
    run: str
    node: str
    box: str
    #: 1 for the node's first batch, then 2, and so on.
    number: int
    #: In the order in which the machine begins the commands. They do not change until the machine answers a recall.
    ranges: tuple[Range, ...]
    #: Number of its commands without a record.
    left: int
    #: Whether its only command may kill the machine: then the machine gets no other until this one has ended.
    alone: bool = False
    #: When its object was put into the mailbox.
    put_at: float | None = None
    #: When the commands that the machine has not begun were recalled, but for the first `spare` of them; once for each
    #: batch.
    recall_at: float | None = None
    spare: int = 0
    #: The machine's answer, which is final: number of commands that it keeps. `ranges` has only these then.
    kept: int | None = None
    closed_at: float | None = None
    version: int = 0


@dataclass(frozen=True)
class Block:
    """The states and generations of `block_size` commands of a list; use it through `blocks.Blocks`."""

    #: The run's id and the number with six digits, with a point in between.
    id: str
    run: str
    #: The first index divided by the list's `block_size`.
    number: int
    #: One byte for each command, compressed with zlib.
    states: bytes
    generations: bytes
    #: Number of its commands that are handed out again.
    waiting: int = 0
    #: One byte for each command (`blocks.Count`), compressed with zlib; empty while all of them are 0.
    failures: bytes = b""
    deaths: bytes = b""
    excused: bytes = b""
    version: int = 0


@dataclass(frozen=True)
class RecordChunk:
    """One recorded chunk of a node's stream `records`."""

    #: The node's id and the offset with 15 digits, with a point in between.
    id: str
    run: str
    attempt: int
    rank: int
    offset: int
    length: int
    #: The least and the greatest index in it; 0 and -1 if it has no line that can be read.
    first: int
    last: int
    #: The beginning of its first line, from the chunk before; each character is one byte.
    rest: str = ""
    version: int = 0
