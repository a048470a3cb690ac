"""The check of the GPUs before the pull, the watch over them while the job runs, and Docker's way to find them."""

import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.agent.machine.paths import Paths
from provisioner.agent.machine.xids import broken, place, xids
from provisioner.agent.outcomes import Ended, Halt, outcome_of
from provisioner.agent.slots.gpu_shares import may_use_broken_gpu
from provisioner.agent.steps import gpus
from provisioner.agent.steps.gpus import describe_gpus, fabric
from provisioner.core.protocol.messages import Orders, Stop
from provisioner.core.protocol.words import Engine, Outcome, Step
from tests.agent.conftest import Site
from tests.polling import until
from tests.support.command_lists import ends, list_order, output, start_list

LINE = "[   12.345678] NVRM: Xid (PCI:0000:65:00): {}"
FALLEN = LINE.format("79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
ACTION = LINE.format("154, GPU recovery action changed from 0x0 (None) to {}")
#: Writes a line to the machine's kernel log.
LOG = 'echo "{}" >>"$HOME/../../var/log/dmesg"'

#: A part of the answer of `nvidia-smi -q` for two GPUs, with sections before and after the fabric's.
QUERY = """
==============NVSMI LOG==============
Attached GPUs                             : 2
GPU 00000000:53:00.0
    Product Name                          : NVIDIA H100 80GB HBM3
    GPU Fabric GUID                       : 0x9cba26cfbefb98ca
    Fabric
        State                             : Completed
        Status                            : Success
        CliqueId                          : 0
        Health
            Bandwidth                     : N/A
    Clocks Event Reasons
        Idle                              : Active
    GSP Firmware State
        State                             : Loaded
GPU 00000000:64:00.0
    Fabric
        State                             : In Progress
        Status                            : N/A
"""


def test_state_of_the_fabric_is_read_for_each_gpu() -> None:
    """Other sections have states, too; an older driver shows no fabric."""
    assert fabric(QUERY) == [("Completed", "Success"), ("In Progress", "N/A")]
    assert fabric("GPU 0\n    Fabric\n        State                             : N/A\n") == [("N/A", "")]
    assert fabric("GPU 0\n    Product Name : Tesla T4\n") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE.format("119, pid=1, Timeout after 6s of waiting for RPC"), "119"),
        (LINE.format("48, pid=1, DBE (double bit error)"), "48"),
        (ACTION.format("0x2 (Node Reboot Required)"), "the driver demands: Node Reboot Required"),
        (ACTION.format("0x1 (GPU Reset Required)"), "the driver demands: GPU Reset Required"),
        # The catalogue has other texts than some drivers.
        (ACTION.format("0x2 (OS Reboot)"), "the driver demands: OS Reboot"),
        (ACTION.format("0x3 (Drain P2P)"), None),
        (LINE.format("154, GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)"), None),
        (LINE.format("154"), None),
        # A program can cause these.
        (LINE.format("13, Graphics SM Warp Exception"), None),
        (LINE.format("31, MMU Fault"), None),
        (LINE.format("43, Ch 00000010"), None),
    ],
)
def test_xids_that_break_a_gpu_are_known(line: str, said: str | None) -> None:
    """By NVIDIA's catalogue; Xid 154 says in words what the driver demands."""
    found = broken([line])
    assert len(found) == (said is not None)
    assert all(str(said) in str(xid) for xid in found)
    assert [str(xid) for xid in broken([line], running=True)] == list(map(str, found))


def test_an_nvlink_error_ends_no_running_job() -> None:
    """A link may recover; before the job it counts."""
    lines = [LINE.format("74, NVLink: fatal error detected on link 6")]
    assert (len(broken(lines)), broken(lines, running=True)) == (1, [])


def test_addresses_of_xid_and_nvidia_smi_are_compared_in_one_form() -> None:
    """The driver prints four digits for the domain, nvidia-smi eight."""
    assert place("PCI:0000:C1:00") == place("00000000:c1:00.0") == "0:c1:0"
    assert place("PCI:0008:01:00") != place("0000:01:00")
    assert place("nothing") == ""


#: The variables of the doubles and the agent.
NAMES = {
    "FAULT": "PROVISION_GPU_FAULT",
    "CHECK": "PROVISION_GPU_CHECK",
    "FABRIC": "PROVISION_FABRIC",
    "GPUS": "PROVISION_GPUS",
    "XID": "PROVISION_KERNEL_LOG",
}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FAULT": "hangs", "CHECK": "1"}, "the GPU driver hangs: nvidia-smi did not answer within 1 s"),
        # The kernel's log ends the check at once.
        ({"FAULT": "hangs", "CHECK": "600", "XID": FALLEN}, "Xid 79 of PCI:0000:65:00"),
        ({"FAULT": "fabric", "CHECK": "2"}, "fabric was not ready within 2 s (In Progress)"),
        ({"FABRIC": "Completed Insufficient_Resources", "CHECK": "600"}, "fabric failed: Insufficient"),
        ({"GPUS": "0", "CHECK": "2"}, "only 0 of 1 GPUs were found"),
        ({"GPUS": "1", "CHECK": "600"}, "only 1 of 2 GPUs were found"),
    ],
)
def test_gpu_that_is_not_ready_loses_the_attempt_before_the_pull(
    site: Site, variables: dict[str, str], words: str
) -> None:
    """The reason is on the console, too, for a machine whose log nobody gets."""
    site.variables.update({NAMES[name]: value for name, value in variables.items()})
    machine = site.run(site.order("echo never", gpus=1 + int(variables.get("GPUS", "0"))))
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.LOST, Step.BOOT, None)
    assert words in result.reason
    assert f"provision: lost: {result.reason}" in site.host.console(machine)
    assert Step.PULL.value not in result.spans


def test_fabric_that_becomes_ready_lets_the_job_begin(site: Site, tmp_path: Path) -> None:
    """The fabric needs some seconds after boot."""
    ready = tmp_path / "ready"
    site.variables.update({"PROVISION_GPU_FAULT": "fabric", "PROVISION_FABRIC_AFTER": str(ready)})
    machine = site.start(site.order("echo sound", gpus=2))
    until(lambda: b"run " in site.log(machine, "system") or site.reports(machine), "the first report")
    assert machine not in site.off
    ready.touch()
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.SUCCEEDED, site.result(machine).reason


#: Drops an argument for each earlier call, but not the last one.
NEXT = 'n=$(wc -l <"$0.asked"); while [ "$n" -gt 1 ] && [ $# -gt 1 ]; do shift; n=$((n - 1)); done'


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ("activating active", ""),
        ("inactive", ""),
        ("activating failed", "nvidia-fabricmanager failed"),
        (
            "activating activating activating",
            "fabric was not ready within 1 s (nvidia-fabricmanager is still starting)",
        ),
    ],
)
def test_fabric_manager_is_awaited_where_there_are_nvlink_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: str, reason: str
) -> None:
    """The GPUs of p4d report no state of the fabric. A manager that is no service of systemd is not judged."""
    answers = {
        "systemctl": f'set -- {states}; echo >>"$0.asked"; {NEXT}; echo "$1"',
        "nvidia-smi": 'case $1 in --list-gpus) echo "GPU 0: A100" ;; *) echo "    Fabric" ;; esac',
        "dmesg": "",
    }
    for name, script in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PROVISION_GPU_CHECK", "1" if "within" in reason else "600")
    monkeypatch.setattr(gpus, "OFTEN", 0.3)
    monkeypatch.setattr(gpus, "SWITCH", tmp_path)
    node: Any = SimpleNamespace(order=SimpleNamespace(gpus=1), halt=Halt(), say=lambda _: None)
    if not reason:
        gpus.check_gpus(node)
        return
    with pytest.raises(Ended, match=re.escape(reason)) as ended:
        gpus.check_gpus(node)
    assert ended.value.outcome is Outcome.LOST


def test_a_stop_ends_a_check_that_hangs(site: Site) -> None:
    """The order takes effect while nvidia-smi runs."""
    site.variables["PROVISION_GPU_FAULT"] = "hangs"
    machine = site.start(site.order("echo never", gpus=1))
    until(lambda: site.reports(machine), "the first report")
    site.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("command", "words"),
    [
        # It would run until its limit.
        (f"{LOG.format(FALLEN)}; sleep 600", "died of SIGTERM"),
        # A trainer that saves at SIGTERM and exits 0 has not finished its work.
        (f"trap 'exit 0' TERM; {LOG.format(FALLEN)}; while :; do sleep 0.1; done", "its PROVISION_DONE_FILE"),
        # It fails before the agent reads the log.
        (f"{LOG.format(FALLEN)}; exit 1", "exited with 1"),
    ],
)
def test_a_gpu_that_breaks_ends_the_attempt_as_lost(site: Site, command: str, words: str) -> None:
    """The Xid is named once, and the process's own code is kept."""
    site.variables["PROVISION_GPU_INTERVAL"] = "600" if "exit 1" in command else "0.2"
    result = site.result(site.run(site.order(command, gpus=1)))
    assert (result.outcome, result.step) == (Outcome.LOST, Step.COMMAND), result.reason
    assert "a GPU is broken: Xid 79 of PCI:0000:65:00 (the GPU has fallen off the bus)" in result.reason
    assert words in result.reason
    assert result.reason.count("Xid") == 1
    assert result.exit_code == {"died of SIGTERM": 143, "exited with 1": 1}.get(words, 0)


def test_a_gpu_that_breaks_during_setup_loses_the_attempt(site: Site) -> None:
    """A start script uses the GPUs, too."""
    site.variables["PROVISION_GPU_INTERVAL"] = "0.2"
    script = f"{LOG.format(ACTION.format('0x2 (Node Reboot Required)'))}; sleep 600"
    result = site.result(site.run(site.order("echo never", start_script=script, gpus=1)))
    assert (result.outcome, result.step) == (Outcome.LOST, Step.SETUP), result.reason
    assert "the driver demands: Node Reboot Required" in result.reason


def test_xids_of_programs_and_machines_without_gpus_end_nothing(site: Site) -> None:
    """A success stays a success, whatever the log says."""
    site.variables["PROVISION_GPU_INTERVAL"] = "0.1"
    harmless = f"{LOG.format(LINE.format('31, MMU Fault'))}; sleep 1; exit 3"
    assert site.result(site.run(site.order(harmless, gpus=1))).outcome is Outcome.FAILED
    without = f"{LOG.format(FALLEN)}; sleep 1; exit 3"
    assert site.result(site.run(site.order(without))).outcome is Outcome.FAILED
    site.variables["PROVISION_GPU_INTERVAL"] = "600"
    assert site.result(site.run(site.order(LOG.format(FALLEN), gpus=1))).outcome is Outcome.SUCCEEDED


def test_of_a_list_only_the_commands_on_the_broken_gpu_end(site: Site) -> None:
    """Their commands get no record, so that they execute again elsewhere; the others finish, and no command begins."""
    site.variables.update({"PROVISION_GPU_INTERVAL": "0.2", "PROVISION_GPUS": "2"})
    go = site.folder / "go"
    on_first = f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo done"
    on_second = LOG.format(LINE.replace("65", "01").format("79, GPU has fallen off the bus.")) + "; sleep 600"
    order = list_order(site, 2, gpus=2)
    machine = start_list(site, order, [on_first, on_second, "echo third", "exit 4"])
    until(lambda: b"a GPU is broken" in site.log(machine, "system"), "the Xid")
    until(lambda: len(site.reports(machine)[-1].commands.running) == 1, "the end of the second command")  # type: ignore[union-attr]
    go.touch()
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step) == (Outcome.LOST, Step.COMMAND), result.reason
    assert "Xid 79 of PCI:0000:01:00" in result.reason
    [(index, end)] = ends(site, machine).items()
    assert (index, end.code, output(site, machine, end)) == (0, 0, b"begun\ndone\n")


def test_command_that_fails_as_its_gpu_breaks_gets_no_record(site: Site) -> None:
    """It ends before the agent reads the log, and executes again elsewhere."""
    site.variables["PROVISION_GPU_INTERVAL"] = "600"
    machine = start_list(site, list_order(site, 1, gpus=1), ["echo sound", f"{LOG.format(FALLEN)}; exit 5"])
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.LOST, site.result(machine).reason
    assert {index: end.code for index, end in ends(site, machine).items()} == {0: 0}


@pytest.mark.parametrize(
    ("slot_gpus", "found", "hit"),
    [
        ((frozenset({"0:1:0"}), frozenset({"0:2:0"})), "PCI:0000:02:00", [False, True]),
        # The GPU is one of the machine's, and no slot has it.
        ((frozenset({"0:1:0"}), frozenset({"0:2:0"})), "PCI:0000:03:00", [False, False]),
        # It is none of the machine's known GPUs.
        ((frozenset({"0:1:0"}), frozenset({"0:2:0"})), "PCI:0000:09:00", [True, True]),
        # The job itself chooses its GPUs, or another agent process shared them.
        ((), "PCI:0000:02:00", [True, True]),
    ],
)
def test_slots_whose_gpus_are_unknown_may_use_a_broken_one(
    slot_gpus: tuple[frozenset[str], ...], found: str, hit: list[bool]
) -> None:
    """Then a command is rather executed twice than left on a broken GPU."""
    xid = xids([FALLEN.replace("PCI:0000:65:00", found)])
    node: Any = SimpleNamespace(broken_gpus=xid, slot_gpus=slot_gpus, gpu_places=frozenset({"0:1:0", "0:2:0", "0:3:0"}))
    assert [may_use_broken_gpu(node, slot) for slot in (0, 1)] == hit


class Toolkit:
    """A machine with NVIDIA's container toolkit, which writes a specification or fails."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = 'echo spec >"${3#--output=}"'
    ) -> None:
        (folder / "bin").mkdir()
        (folder / "bin/nvidia-ctk").write_text(f'#!/bin/sh\n[ "$1 $2" = "cdi generate" ] || exit 9\n{script}\n')
        (folder / "bin/nvidia-ctk").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        self.said: list[str] = []
        self.file = folder / "var/run/cdi/nvidia.yaml"
        self.node: Any = SimpleNamespace(
            order=SimpleNamespace(gpus=1, engine=Engine.CONTAINER), paths=Paths(str(folder)), say=self.said.append
        )


def test_missing_cdi_specification_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call finds it."""
    toolkit = Toolkit(tmp_path, monkeypatch)
    describe_gpus(toolkit.node)
    describe_gpus(toolkit.node)
    assert (toolkit.file.read_text(), len(toolkit.said)) == ("spec\n", 1)


def test_cdi_specification_of_the_ami_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in either folder that Docker reads."""
    toolkit = Toolkit(tmp_path, monkeypatch)
    (tmp_path / "etc/cdi").mkdir(parents=True)
    (tmp_path / "etc/cdi/nvidia.json").touch()
    describe_gpus(toolkit.node)
    assert (toolkit.file.exists(), toolkit.said) == (False, [])


def test_toolkit_that_fails_leaves_no_part_of_a_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt goes on: Docker may not need the specification."""
    toolkit = Toolkit(tmp_path, monkeypatch, 'echo part >"${3#--output=}"; echo "no device"; exit 1')
    describe_gpus(toolkit.node)
    assert (toolkit.file.exists(), toolkit.said) == (
        False,
        ["the CDI specification of the GPUs cannot be made: no device"],
    )


def test_machine_without_gpus_or_toolkit_needs_no_cdi_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run and nothing is logged."""
    toolkit = Toolkit(tmp_path, monkeypatch)
    toolkit.node.order.gpus = 0
    describe_gpus(toolkit.node)
    toolkit.node.order.gpus = 1
    monkeypatch.setenv("PATH", "/nowhere")
    describe_gpus(toolkit.node)
    assert (toolkit.file.exists(), toolkit.said) == (False, [])


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', Outcome.LOST),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all: not found", Outcome.LOST),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", Outcome.LOST),
        ("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0", Outcome.REFUSED),
    ],
)
def test_gpus_that_docker_cannot_give_to_the_container_are_the_machines_fault(text: str, outcome: Outcome) -> None:
    """Texts of Docker and NVIDIA's toolkit. An image that needs a newer driver fails on every machine of the AMI."""
    assert outcome_of(f"Error response from daemon: {text}") is outcome
