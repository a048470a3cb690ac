"""Read a run's log over SSH from the spool on its machine, before the log is in the bucket.

Secrets are masked in the spool.
"""

from collections.abc import Iterator, Mapping, Sequence

from provisioner.core.errors import Invalid, ProvisionError, Transient
from provisioner.core.protocol.words import STREAMS
from provisioner.core.run.records import Node, Run
from provisioner.ports.clock import Clock
from provisioner.ports.connection import Connection, Process
from provisioner.ports.control.logs import LogPiece
from provisioner.service.ssh_entry.entrance import Entrance

#: The folder of the agent's spool.
SPOOL = "/var/lib/provision/log"
#: Maximum number of bytes of one read, and of one piece.
CHUNK = 1 << 17
#: Maximum number of bytes of a piece's first line, `STREAM OFFSET LENGTH`.
HEAD = 100


class Direct:
    """Reads the log of a run's present attempt from its machine. After an error, the machine is not tried again."""

    def __init__(self, entrance: Entrance, clock: Clock) -> None:
        self._entrance, self._clock = entrance, clock
        self._node: Node | None = None
        self._connection: Connection | None = None
        self._process: Process | None = None
        self._heard = b""
        #: Ids of the nodes whose machines are not tried again.
        self._given_up: set[str] = set()
        #: For each node in `_given_up`, one line with the reason.
        self.told: list[str] = []

    def on(self, run: Run, nodes: Sequence[Node], offsets: Mapping[str, int]) -> bool:
        """Return whether the log can be read from the last node's machine; connect, at these offsets, if necessary."""
        node = nodes[-1] if nodes else None
        if self._node and (node is None or node.id != self._node.id):
            self.close()
        if node is None or node.id in self._given_up or node.report is None or node.attempt != run.attempt:
            return False
        if self._process is None:
            try:
                self._begin(run, node, offsets)
            except ProvisionError as error:
                self._give_up(node, str(error))
        return self._process is not None

    def _begin(self, run: Run, node: Node, offsets: Mapping[str, int]) -> None:
        self._node, self._heard = node, b""
        self._connection = self._entrance.enter(run, node, host=True)
        wanted = [f"{stream}={offset}" for stream, offset in offsets.items()]
        self._process = self._connection.start(["python3", "-c", self._entrance.tail, SPOOL, *wanted])

    def pieces(self, seconds: float) -> Iterator[LogPiece]:
        """Yield the pieces that arrive within `seconds`, as they arrive."""
        end = self._clock.now() + seconds
        while self._process is not None and (left := end - self._clock.now()) > 0:
            try:
                data = self._process.read(CHUNK, left)
                if data is None:
                    return
                if not data:
                    code, words = self._process.wait()
                    raise Transient(words.rpartition("\n")[2] or f"the log reader on the machine exited with {code}")
                self._heard += data
                yield from self._whole()
            except (Transient, Invalid) as error:
                assert self._node is not None
                self._give_up(self._node, str(error))

    def _whole(self) -> Iterator[LogPiece]:
        """Yield the pieces that have arrived completely. Raises Invalid for malformed data."""
        assert self._node is not None
        while b"\n" in self._heard[:HEAD] or len(self._heard) > HEAD:
            head, _, rest = self._heard.partition(b"\n")
            stream, *numbers = head.decode(errors="replace").split(" ")
            if stream not in STREAMS or len(numbers) != 2 or not all(each.isdecimal() for each in numbers):
                raise Invalid("the log reader on the machine sent malformed data")
            offset, length = map(int, numbers)
            if length > CHUNK:
                raise Invalid(f"the log reader sent a piece of {length} bytes; at most {CHUNK} are allowed")
            if len(rest) < length:
                return
            self._heard = rest[length:]
            yield LogPiece(self._node.attempt, stream, offset, rest[:length], self._node.rank)

    def _give_up(self, node: Node, why: str) -> None:
        self.close()
        self._given_up.add(node.id)
        self.told.append(f"cannot read the log from {node.instance_id} ({why}): it is read from the bucket instead")

    def close(self) -> None:
        """Disconnect, if connected. A later call of `on` connects again, at the offsets that are passed to `on`."""
        connection, self._connection, self._process, self._node = self._connection, None, None, None
        if connection:
            connection.close()
