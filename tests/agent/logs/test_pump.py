"""The pump: its process may die at any moment, and the stream still equals the job's masked output."""

import os
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.logs import pipe_journal
from provisioner.agent.logs.mask import Mask
from provisioner.agent.logs.mask import Stream as Masking
from provisioner.agent.logs.pipe_journal import PipeJournal
from provisioner.agent.logs.pump import Pump
from provisioner.agent.logs.spool import Spool, Stream
from provisioner.core.protocol.command_lines import Extent

SECRET = b"hunter2-hunter2"


class Death(Exception):
    """The death of the agent's process."""


class Frail(Stream):
    """A stream that takes `left` bytes and then raises Death."""

    left = 1 << 30

    def write(self, data: bytes, *, wait: bool = True) -> list[Extent]:
        extents = super().write(data[: self.left], wait=wait)
        self.left -= len(data)
        if self.left <= 0:
            raise Death
        return extents


class Mortal(Pump):
    """A pump whose steps the test calls one by one."""

    def take_over(self) -> None:
        self._pass(self._masking.feed(self._journal.rest()))

    def turn(self) -> None:
        self._pass(self._masking.feed(self._take(over=False)))

    def end(self) -> None:
        self._pass(self._masking.finish())


@given(
    lives=st.lists(
        st.tuples(
            st.lists(st.one_of(st.binary(min_size=1, max_size=60), st.sampled_from([SECRET, SECRET[:9], SECRET[9:]]))),
            st.integers(1, 100),
        ),
        max_size=6,
    ),
)
def test_no_death_loses_or_doubles_a_byte_or_shows_a_secret(
    tmp_path_factory: object, lives: list[tuple[list[bytes], int]]
) -> None:
    """The death may come after the read, during the write to the spool, or before the write is noted."""
    folder: Path = tmp_path_factory.mktemp("pump")  # type: ignore[attr-defined]
    mask, written = Mask(), b""
    mask.add([SECRET])
    reader, writer = os.pipe()

    def life(pieces: list[bytes], left: int, *, last: bool = False) -> None:
        """Run one process until it dies; the last one does not die."""
        nonlocal written
        spool = Spool(folder / "log", 1 << 20)
        stream = spool.streams["output"] = Frail(spool, "output")
        taken = PipeJournal(folder / "tape", stream.produced)
        pump = Mortal(reader, stream, mask, taken)
        stream.left = left
        try:
            pump.take_over()
            for piece in pieces:
                os.write(writer, piece)
                written += piece
                pump.turn()
            if last:
                pump.end()
        except Death:
            pass
        finally:
            stream.close()
            taken.close()

    with mock.patch.object(pipe_journal, "LONG", 100):
        for pieces, left in lives:
            life(pieces, left)
        life([b"the end"], 1 << 30, last=True)
    os.close(reader)
    os.close(writer)
    masking, segments = Masking(mask), sorted((folder / "log/output").iterdir())
    assert b"".join(segment.read_bytes() for segment in segments) == masking.feed(written) + masking.finish()
