"""Store the agent's state, so that another agent process can take over in the same boot if this process dies."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioner.agent.job.processes import Reached
from provisioner.agent.machine import files
from provisioner.agent.outcomes import Cause
from provisioner.core.protocol import codec
from provisioner.core.protocol.messages import Notice, Result, Span


@dataclass(frozen=True)
class Memory:
    spans: Mapping[str, Span] = field(default_factory=dict)
    notice: Notice | None = None
    #: Why the job gets SIGTERM; None if it does not.
    signalled: Cause | None = None
    #: Names of the processes that setup left running for the command.
    daemons: tuple[str, ...] = ()
    #: How far the sending of SIGTERM has progressed.
    reached: Reached = field(default_factory=Reached)
    kernel_mark: str | None = None
    #: The values that the mask hides, in base64.
    hidden: tuple[str, ...] = ()
    #: The settled result, or None. Once the result is settled, nothing more is written to any stream.
    result: Result | None = None
    #: The attempt, if it is not the machine's first one; otherwise 0.
    later: int = 0


def read(folder: Path, later: int = 0) -> Memory | None:
    """Return the stored state of this attempt; None if no agent process of this boot has read its work order.

    Deletes the state of an earlier attempt.
    """
    try:
        found = codec.decode(Memory, (folder / "memory").read_bytes())
    except FileNotFoundError:
        return None
    if found.later == later:
        return found
    shutil.rmtree(folder)
    return None


def write(folder: Path, memory: Memory) -> None:
    """Store the state in `folder`, which is in memory because of the secrets; raises OSError if memory is full."""
    files.own(folder)
    files.replace(folder / "memory", codec.encode(memory))


def coded(values: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(base64.b64encode(value).decode() for value in values))


def decoded(values: Iterable[str]) -> list[bytes]:
    return [base64.b64decode(value) for value in values]
