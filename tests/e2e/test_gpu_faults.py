"""A machine whose GPUs hang, are not ready, or break costs minutes, and its run goes on elsewhere."""

from collections.abc import Iterator

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.e2e.rig import Rig, rig
from tests.e2e.rows import Row, again, check, played, result_of

XID = "[   12.345678] NVRM: Xid (PCI:0000:65:00): {}"
#: Writes a line to the machine's kernel log, in the first attempt only.
FIRST = '[ "$PROVISION_ATTEMPT" -gt 1 ] || echo "{}" >>"$HOME/../../var/log/dmesg"'
FALLEN = FIRST.format(XID.format("79, GPU has fallen off the bus."))
REBOOT = FIRST.format(XID.format("154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"))

#: Seconds that the check of the GPUs and the pause of the watch take in the tests, instead of 180 s and 10 s.
QUICK = {"PROVISION_GPU_CHECK": "3", "PROVISION_GPU_INTERVAL": "0.3"}

#: Faults of the first machine of a type, as in a scenario file; later machines are healthy.
FAULTS = [{"type": "g5.2xlarge", "fault": "hangs"}, {"type": "p4d.24xlarge", "fault": "fabric"}]

#: Other defects of the first machine of a type.
AILING = {
    "g5.4xlarge": {
        "PROVISION_GPU_FAULT": "hangs",
        "PROVISION_GPU_CHECK": "600",
        "PROVISION_KERNEL_LOG": XID.format("119, pid=1, Timeout after 6s of waiting for RPC response from GPU0 GSP!"),
    },
    "g6.2xlarge": {"PROVISION_FABRIC": "Completed Failure"},
}


ROWS = [
    again("nvidia-smi hangs", "g5.2xlarge", "the GPU driver hangs: nvidia-smi did not answer within 3 s"),
    again("nvidia-smi hangs, and the kernel's log says why", "g5.4xlarge", "Xid 119 of PCI:0000:65:00"),
    again("the fabric is in progress", "p4d.24xlarge", "NVLink fabric was not ready within 3 s (In Progress)"),
    again("the fabric has failed", "g6.2xlarge", "NVLink fabric failed: Failure"),
    again(
        "a GPU breaks under a job that hangs",
        "g5.xlarge",
        "a GPU is broken: Xid 79 of PCI:0000:65:00 (the GPU has fallen off the bus)",
        f'{FALLEN}; [ "$PROVISION_ATTEMPT" -gt 1 ] || sleep 600; echo sound',
    ),
    again(
        "a GPU breaks under a job that fails of it",
        "g5.xlarge",
        "the driver demands: Node Reboot Required",
        f'{REBOOT}; [ "$PROVISION_ATTEMPT" -gt 1 ] || exit 1; echo sound',
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run all rows at once on one installation."""
    ailing = dict(AILING)
    folder = tmp_path_factory.mktemp("gpus")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(
            folder,
            patch,
            ailing=lambda guest: {**QUICK, **ailing.pop(guest.instance_type, {})},
            gpu_faults=FAULTS,
        ) as whole,
    ):
        yield whole, played(whole, ROWS, folder)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_of_a_gpu_loses_the_attempt_and_uses_no_retry(finished: tuple[Rig, dict[str, Run]], row: Row) -> None:
    """The first attempt is lost with the reason, on the console too; its machine is billed for at most ten minutes."""
    whole, runs = finished
    run = runs[row.name]
    check(whole, run, row)
    first = result_of(whole, run, 1)
    assert first.outcome is Outcome.LOST
    assert run.retries_used == 0
    bill = next(bill for bill in whole.service.runs.receipt(run.id).machines if bill.attempt == 1)
    assert bill.seconds_at_most <= 600
    assert f"provision: lost: {first.reason}" in whole.host.console(bill.instance_id)


def test_no_machine_outlives_its_fault(finished: tuple[Rig, dict[str, Run]]) -> None:
    """When all runs are done, no machine is alive."""
    whole, _ = finished
    assert whole.double.alive() == []
