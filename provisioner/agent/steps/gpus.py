"""Check the machine's GPUs, and that Docker can find them, before anything is pulled."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from provisioner.agent.machine import kernel, xids
from provisioner.agent.machine.tools import CHANGE, OVERDUE, Answer, ask
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended, broken
from provisioner.core.protocol.words import Engine, Outcome, Step

#: Maximum seconds for the whole check. A driver that hangs answers nvidia-smi never, or after minutes
#: (awslabs/amazon-eks-ami issue 1523, NVIDIA/open-gpu-kernel-modules issue 446).
PATIENCE = 180.0

#: Seconds of this time that the driver may take to show its GPUs after boot.
DRIVER = 60.0

#: Seconds between two reads of the kernel's log while nvidia-smi runs, and between two questions to the driver.
OFTEN = 1.0

#: The states of the NVLink fabric, in the answer of `nvidia-smi -q`, in which CUDA cannot begin: it fails with error
#: 802 (NVIDIA, "Fabric Manager User Guide"; NVML, nvmlGpuFabricState_t). GPUs without a fabric have "N/A".
NOT_READY = frozenset({"Not Started", "In Progress"})
READY = "Completed"

#: The values of the fabric's status that are no error, once it is READY.
NO_ERROR = frozenset({"Success", "N/A", ""})

#: The device of an NVLink switch, and the service that sets switches up. GPUs older than Hopper, as in p4d, report no
#: state of the fabric (assumed): there only the service shows it.
SWITCH = Path("/dev/nvidia-nvswitch0")
MANAGER = "nvidia-fabricmanager"

#: The folders for descriptions of devices, which Docker reads ("Container Device Interface devices"), and the file that
#: NVIDIA's toolkit writes ("Support for Container Device Interface").
CDI_FOLDERS = ("etc/cdi", "var/run/cdi")
CDI_FILE = "var/run/cdi/nvidia.yaml"


def check_gpus(node: Node) -> None:
    """Wait for the GPUs that the instance type promises; raise Ended (LOST) if one is missing, broken or not ready."""
    if node.order.gpus:
        _Check(node).run()


class _Check:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._patience = float(os.environ.get("PROVISION_GPU_CHECK") or PATIENCE)
        self._began = time.monotonic()
        self._look_at = 0.0

    def run(self) -> None:
        self._node.say(f"checking the GPUs, for at most {self._patience:.0f} s")
        words = self._count()
        self._memory()
        self._manager()
        self._fabric()
        self._node.say("; ".join([words, *map(str, xids.xids(kernel.messages()))]))

    def _count(self) -> str:
        """Wait for all GPUs; return their number and names."""
        wanted = self._node.order.gpus
        while True:
            answer = self._ask("--list-gpus")
            found = sum(line.startswith("GPU ") for line in answer.text.splitlines())
            self._look()
            if found >= wanted:
                return f"{found} GPUs: {answer.text}"
            late = time.monotonic() >= self._began + min(DRIVER, self._patience)
            # Without an error, the driver has found all GPUs that there are; without the program, there is no driver.
            if answer.code in (0, 127) or late:
                raise _lost(f"only {found} of {wanted} GPUs were found: {answer.text}")
            time.sleep(OFTEN)

    def _memory(self) -> None:
        """Raise Ended if a GPU has had uncorrected memory errors since boot; a GPU without ECC reports no number."""
        answer = self._ask("--query-gpu=ecc.errors.uncorrected.volatile.total", "--format=csv,noheader")
        errors = [int(line) for line in map(str.strip, answer.text.splitlines()) if line.isdigit()]
        if not answer.code and any(errors):
            raise _lost(f"a GPU has uncorrected memory errors: {errors}")

    def _fabric(self) -> None:
        """Wait until the NVLink fabric, if there is one, is ready."""
        while True:
            found = fabric(self._ask("-q").text)
            failed = [status for state, status in found if state == READY and status not in NO_ERROR]
            if failed:
                raise _lost(f"the GPUs' NVLink fabric failed: {', '.join(dict.fromkeys(failed))}")
            waiting = [state for state, _ in found if state in NOT_READY]
            if not waiting:
                return
            self._pause(", ".join(dict.fromkeys(waiting)))

    def _manager(self) -> None:
        """Wait until the fabric manager has begun, on a machine with NVLink switches."""
        while SWITCH.exists():
            answer = ask(["systemctl", "is-active", MANAGER])
            if answer.text == "failed":
                raise _lost(f"{MANAGER} failed: CUDA would fail with error 802")
            if answer.text != "activating":
                return
            self._pause(f"{MANAGER} is still starting")

    def _pause(self, state: str) -> None:
        """Wait a moment for the NVLink fabric, which is in this state; raise Ended if the time of the check is over."""
        self._look()
        if time.monotonic() >= self._began + self._patience:
            reason = f"was not ready within {self._patience:.0f} s ({state}): CUDA would fail with error 802"
            raise _lost(f"the GPUs' NVLink fabric {reason}")
        time.sleep(OFTEN)

    def _ask(self, *options: str) -> Answer:
        """Ask the driver, within the time that is left for the check."""
        left = max(OFTEN, self._began + self._patience - time.monotonic())
        try:
            answer = ask(["nvidia-smi", *options], left, self._look)
        except OSError as error:
            return Answer(127, str(error))
        if answer.code == OVERDUE:
            raise _lost(f"the GPU driver hangs: nvidia-smi did not answer within {self._patience:.0f} s")
        return answer

    def _look(self) -> None:
        """Raise Ended if the kernel's log names a broken GPU, or if the job must stop."""
        self._node.halt.check(Step.BOOT)
        if time.monotonic() >= self._look_at:
            found = xids.broken(kernel.messages())
            if found:
                raise _lost(broken(found))
            self._look_at = time.monotonic() + OFTEN


def _lost(reason: str) -> Ended:
    return Ended(Outcome.LOST, Step.BOOT, reason)


def fabric(text: str) -> list[tuple[str, str]]:
    """Return state and status of the NVLink fabric of each GPU, from the answer of `nvidia-smi -q`.

    Both stand, each on a line, in the section `Fabric` of a GPU.
    """
    found, inside = list[tuple[str, str]](), False
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "Fabric":
            inside = True
        elif inside and name == "State":
            found.append((value, ""))
        elif inside and name == "Status" and found:
            found[-1] = (found[-1][0], value)
            inside = False
    return found


def describe_gpus(node: Node) -> None:
    """Make NVIDIA's CDI specification if it is missing: Docker may need it for `--gpus`. Never ends the attempt.

    Docker prefers CDI for NVIDIA's GPUs since version 29 (moby/moby pull request 50228), and then refuses a container
    whose devices no specification describes.
    """
    if not node.order.gpus or node.order.engine is not Engine.CONTAINER or shutil.which("nvidia-ctk") is None:
        return
    folders = [Path(f"{node.paths.root}/{folder}") for folder in CDI_FOLDERS]
    if any("nvidia" in path.name for folder in folders if folder.is_dir() for path in folder.iterdir()):
        return
    file = Path(f"{node.paths.root}/{CDI_FILE}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        answer = ask(["nvidia-ctk", "cdi", "generate", f"--output={file}"], CHANGE)
    except OSError as error:
        answer = Answer(127, str(error))
    if answer.code:
        # Docker must not read a part of a specification.
        file.unlink(missing_ok=True)
        node.say(f"the CDI specification of the GPUs cannot be made: {answer.text}")
    else:
        node.say(f"the CDI specification of the GPUs was missing: made {file}")
