"""Check that the machine's GPUs are complete and not broken, and find the driver's errors in the kernel's log."""

from __future__ import annotations

import re
import time

from provisioner.agent.machine import kernel
from provisioner.agent.machine.tools import ask
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.words import Outcome, Step

#: Seconds that the driver may take to show its GPUs after boot.
PATIENCE = 60.0

#: `NVRM: Xid (PCI:0000:65:00): 79, pid=…` (NVIDIA, "XID Errors": "Viewing Xid Error Messages").
XID = re.compile(r"NVRM: Xid \(([^)]*)\): (\d+)")

#: Xids that show a broken GPU if they are logged before any job has used the GPUs: a new process does not fix them.
#: For each, NVIDIA's Xid catalogue demands an immediate reset of the GPU, restart of the computer or check of parts.
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
    158: "a fatal time-out of the GPU",
}


def wait_for_gpus(node: Node) -> None:
    """Wait for the GPUs that the instance type promises; raise Ended (LOST) if one is missing or broken."""
    wanted, limit = node.order.gpus, time.time() + PATIENCE
    while wanted:
        try:
            answer = ask(["nvidia-smi", "--list-gpus"])
            found, words = sum(line.startswith("GPU ") for line in answer.text.splitlines()), answer.text
            final = answer.code in (0, 127)
        except OSError as error:
            found, words, final = 0, str(error), True
        lines = kernel.messages()
        if broken := xids([line for line in lines if _code(line) in BROKEN]):
            raise Ended(Outcome.LOST, Step.BOOT, f"a GPU is broken: {', '.join(broken)}")
        if found >= wanted:
            node.say("; ".join([f"{found} GPUs: {words}", *xids(lines)]))
            _check_memory()
            return
        node.halt.check(Step.BOOT)
        if final or time.time() > limit:
            raise Ended(Outcome.LOST, Step.BOOT, f"only {found} of {wanted} GPUs were found: {words}")
        time.sleep(1)


def _check_memory() -> None:
    """Raise Ended if a GPU has had uncorrected memory errors since boot; a GPU without ECC reports no number."""
    query = "--query-gpu=ecc.errors.uncorrected.volatile.total"
    answer = ask(["nvidia-smi", query, "--format=csv,noheader"])
    errors = [int(line) for line in map(str.strip, answer.text.splitlines()) if line.isdigit()]
    if not answer.code and any(errors):
        raise Ended(Outcome.LOST, Step.BOOT, f"a GPU has uncorrected memory errors: {errors}")


def xids(lines: list[str]) -> list[str]:
    """Return the driver's errors in lines of the kernel's log, as text, each once."""
    found = ((match[1], int(match[2])) for match in map(XID.search, lines) if match)
    return [
        f"Xid {code} of {where}" + (f" ({BROKEN[code]})" if code in BROKEN else "")
        for where, code in dict.fromkeys(found)
    ]


def _code(line: str) -> int | None:
    match = XID.search(line)
    return int(match[2]) if match else None
