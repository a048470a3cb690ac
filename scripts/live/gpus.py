"""Compare what a real NVIDIA driver says with what the agent reads and the doubles say; see scripts/gpu-check.

Imports only the agent and the standard library, because the computer may have no other package.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from provisioner.agent.machine import kernel, xids
from provisioner.agent.machine.tools import Answer, ask
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.agent.steps import gpus

#: Seconds that one command may take; pulling the image may take minutes.
PATIENCE, PULL = 60.0, 900.0
SAMPLES = 5
IMAGE = "nvidia/cuda:12.8.1-base-ubuntu24.04"

GPU_LINE = re.compile(r"GPU \d+: \S.* \(UUID: GPU-[0-9A-Za-z-]+\)")
MIG_LINE = re.compile(r"MIG \S+\s+Device\s+\d+: \(UUID: MIG-[0-9A-Za-z-]+\)")

Line = tuple[str, str]


class Commands:
    """Runs commands, and keeps the output of each in a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, *words: str, patience: float = PATIENCE) -> Answer:
        try:
            answer = ask(list(words), patience)
        except OSError as error:
            answer = Answer(127, str(error))
        if self._folder:
            name = re.sub("[^0-9A-Za-z.]+", "-", " ".join(words))[:80].strip("-")
            (self._folder / f"{name}.txt").write_text(f"{answer.text}\n")
        return answer


def main() -> int:
    run = Commands(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    checks: Sequence[Callable[[Commands], Iterator[Line]]] = (listed, fabric, memory, used, logged, checked, container)
    surprises = 0
    for check in checks:
        for result, words in check(run):
            surprises += result == "unexpected"
            print(f"{check.__name__:<10} {result:<11} {'; '.join(words.splitlines())}", flush=True)
    print(f"{surprises} unexpected" if surprises else "all as expected")
    return int(bool(surprises))


def listed(run: Commands) -> Iterator[Line]:
    """Check that each line of `nvidia-smi --list-gpus` has the double's form: the agent counts these lines."""
    answer = run("nvidia-smi", "--list-gpus")
    lines = [line for line in answer.text.splitlines() if line.strip()]
    odd = [line for line in lines if not GPU_LINE.fullmatch(line) and not MIG_LINE.fullmatch(line.strip())]
    yield _judged(answer.code == 0 and lines and not odd, f"{len(lines)} lines: {'; '.join(odd or lines)}")


def fabric(run: Commands) -> Iterator[Line]:
    """Whether the state of the NVLink fabric is read from `nvidia-smi -q`, and is one that the agent knows."""
    answer = run("nvidia-smi", "-q")
    found = gpus.fabric(answer.text)
    if not found:
        yield _judged("Fabric" not in answer.text, "the driver names no fabric")
    known = {gpus.READY, "N/A", "Not Supported", *gpus.NOT_READY}
    for state, status in dict.fromkeys(found):
        yield _judged(state in known, f"state {state!r}, status {status!r}")


def memory(run: Commands) -> Iterator[Line]:
    """Whether the count of uncorrected memory errors is a number, or says that there is none."""
    answer = run("nvidia-smi", "--query-gpu=ecc.errors.uncorrected.volatile.total", "--format=csv,noheader")
    lines = [line.strip() for line in answer.text.splitlines()]
    yield _judged(answer.code == 0 and all(line.isdigit() or line == "[N/A]" for line in lines), "; ".join(lines))


def used(run: Commands) -> Iterator[Line]:
    """Whether use and memory can be sampled, and how long a sample takes."""
    query = "--query-gpu=utilization.gpu,memory.used,memory.total"
    began, answer = time.monotonic(), Answer(0, "")
    for _ in range(SAMPLES):
        answer = run("nvidia-smi", query, "--format=csv,noheader,nounits")
    seconds = (time.monotonic() - began) / SAMPLES
    lines = answer.text.splitlines()
    good = answer.code == 0 and all(re.fullmatch(r"(\d+|\[N/A\])(, (\d+|\[N/A\])){2}", line) for line in lines)
    yield _judged(good, f"{'; '.join(lines)} (%, MiB, MiB); {seconds:.2f} s for a sample")


def logged(run: Commands) -> Iterator[Line]:
    """Whether the kernel's log can be read, and every line about an Xid is understood."""
    answer = run("dmesg")
    if answer.code:
        yield "skipped", f"the kernel's log cannot be read: {answer.text[-200:]}"
        return
    lines = [line for line in kernel.messages() if "NVRM" in line]
    odd = [line for line in lines if "Xid" in line and not xids.xids([line])]
    yield _judged(not odd, f"{len(lines)} lines of the driver; not understood: {odd or 'none'}")
    for found in map(str, xids.xids(lines)):
        yield "seen", found


def checked(run: Commands) -> Iterator[Line]:
    """Whether the agent's own check accepts the GPUs of this computer."""
    count = sum(line.startswith("GPU ") for line in run("nvidia-smi", "--list-gpus").text.splitlines())
    said: list[str] = []
    order, halt = SimpleNamespace(gpus=count), SimpleNamespace(check=lambda _: None)
    began = time.monotonic()
    try:
        gpus.check_gpus(cast(Node, SimpleNamespace(order=order, halt=halt, say=said.append)))
    except Ended as ended:
        yield "unexpected", f"the agent would end the attempt: {ended.reason}"
        return
    yield _judged(count, f"{'; '.join(said) or 'no GPU'} ({time.monotonic() - began:.1f} s)")


def container(run: Commands) -> Iterator[Line]:
    """Whether a container gets the GPUs with `--gpus all`."""
    info = run("docker", "info")
    if info.code:
        yield "skipped", f"there is no Docker to ask: {info.text[-200:]}"
        return
    answer = run("docker", "run", "--rm", "--gpus", "all", IMAGE, "nvidia-smi", "--list-gpus", patience=PULL)
    yield _judged(answer.code == 0 and "GPU 0:" in answer.text, answer.text[-500:])


def _judged(holds: Any, words: str) -> Line:
    return ("as expected" if holds else "unexpected"), words


if __name__ == "__main__":
    sys.exit(main())
