"""A virtual machine whose GPU driver hangs ends by itself within minutes."""

from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome, Step
from provisioner.rehearsal.ec2.conditions import GpuFault
from provisioner.rehearsal.machines.virtual.qemu import WAY_IN, QemuHost
from tests.e2e.rig import Rig
from tests.e2e.rows import result_of
from tests.vm.guest import ask

pytestmark = pytest.mark.vm

#: Prints the state of nvidia-smi, as in proc_pid_stat(5).
STATE = """
for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm")" = nvidia-smi ]; then
        cut -d " " -f 3 "$process/stat"
    fi
done 2>/dev/null
"""


def hangs(folder: Path) -> bool:
    """Return whether nvidia-smi is in an uninterruptible sleep on the machine with this folder."""
    return (folder / WAY_IN).exists() and ask(folder, STATE).text == "D\n"


def test_machine_whose_gpu_driver_hangs_is_billed_for_minutes(whole: Rig, host: QemuHost, image: str) -> None:
    """Its attempt is lost with the reason, which its console shows; no signal ends a driver that hangs (state D)."""
    whole.double.change(gpu_faults=(GpuFault("hangs"),))
    run = whole.start("echo never", image=image, instance_type="g5.xlarge")
    whole.until(lambda: any(hangs(host.folder(each.id)) for each in whole.double.alive()))
    whole.until(lambda: whole.service.runs.record(run.id).verdict is not None)
    whole.service.runs.stop(run.id)
    [done] = whole.done(run)
    first = result_of(whole, done, 1)
    assert first.outcome is Outcome.LOST
    assert first.reason.startswith("the GPU driver hangs: nvidia-smi did not answer within 180 s")
    [bill, *_] = whole.service.runs.receipt(run.id).machines
    assert bill.attempt == 1
    # How long an emulated guest boots depends on this computer; EC2's machines boot within two minutes.
    boot = first.spans[Step.BOOT]
    assert boot.ended is not None
    assert bill.seconds_at_most - (boot.ended - boot.began) <= 480
    assert f"provision: lost: {first.reason}" in host.console(bill.instance_id)
    assert whole.double.alive() == []
