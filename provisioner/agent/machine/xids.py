"""Find the errors of NVIDIA's driver, called Xids, in the kernel's log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: `NVRM: Xid (PCI:0000:65:00): 79, pid=…` (NVIDIA, "XID Errors": "Viewing Xid Error Messages").
XID = re.compile(r"NVRM: Xid \(([^)]*)\): (\d+)(.*)")

#: The address of a GPU on the PCI bus: domain, bus and device, as hexadecimal numbers. In an Xid the domain has four
#: digits, in the answers of nvidia-smi eight.
PLACE = re.compile(r"([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)")

#: Xids that show a broken GPU: a new process does not fix them. For each, NVIDIA's Xid catalogue ("Analyzing Xid Errors
#: with the Xid Catalog") demands an immediate reset of the GPU, restart of the computer or check of parts.
BROKEN = {
    46: "the GPU stopped processing",
    48: "a memory error of two bits",
    54: "the GPU's auxiliary power is not connected",
    62: "a micro-controller of the GPU halted",
    64: "bad memory could not be remapped",
    74: "an NVLink error",
    79: "the GPU has fallen off the bus",
    95: "an uncontained memory error",
    109: "a context switch timed out",
    110: "a security fault",
    119: "the GPU's system processor does not answer",
    120: "the GPU's system processor failed",
    136: "an NVLink could not be trained",
    140: "an unrecovered memory error",
    143: "the GPU could not be initialised",
    151: "a key could not be rotated",
    155: "an NVLink error defined by software",
    156: "a part of the GPU must be retired",
    158: "a fatal time-out of the GPU",
}

#: Xids of NVLinks, which may recover while a job runs: the catalogue has a workflow for them. If the GPU needs a reset,
#: the driver also logs Xid 154.
OF_LINKS = frozenset({74, 155})

#: Summarises for a GPU what the Xids before it demand (Xid catalogue, 154): `154, GPU recovery action changed from 0x0
#: (None) to 0x2 (Node Reboot Required)`.
ACTION_CHANGED = 154
ACTION = re.compile(r"\bto 0x[0-9a-fA-F]+ \(([^)]*)\)")

#: The actions of Xid 154 after which the GPU still works: `Drain P2P` concerns only transfers between GPUs.
HARMLESS = frozenset({"None", "Drain P2P"})


@dataclass(frozen=True)
class Xid:
    """One error of the driver."""

    #: The GPU, as the driver names it: `PCI:0000:65:00`.
    where: str
    code: int
    #: In words, why the GPU is broken; empty if a job may cause this Xid.
    broken: str

    def __str__(self) -> str:
        return f"Xid {self.code} of {self.where}" + (f" ({self.broken})" if self.broken else "")


def xids(lines: Iterable[str]) -> list[Xid]:
    """Return the Xids in lines of the kernel's log, each once."""
    met = filter(None, map(XID.search, lines))
    return list(dict.fromkeys(Xid(match[1], int(match[2]), _broken(int(match[2]), match[3])) for match in met))


def broken(lines: Iterable[str], *, running: bool = False) -> list[Xid]:
    """Return the Xids that show a broken GPU; with `running`, those that end a job which uses the GPUs."""
    return [xid for xid in xids(lines) if xid.broken and not (running and xid.code in OF_LINKS)]


def place(text: str) -> str:
    """Return the PCI address in an Xid or an answer of nvidia-smi in one form, so that they can be compared."""
    found = PLACE.search(text)
    return ":".join(f"{int(part, 16):x}" for part in found.groups()) if found else ""


def _broken(code: int, message: str) -> str:
    if code != ACTION_CHANGED:
        return BROKEN.get(code, "")
    action = ACTION.search(message)
    return f"the driver demands: {action[1]}" if action and action[1] not in HARMLESS else ""
