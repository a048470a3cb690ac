"""Silent machines: silence does not prove that a machine has ended, and the control plane may be the cause."""

from dataclasses import replace

from provisioner.core.protocol.messages import Report
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.silence import FEWEST, SILENT, are_we_deaf, is_silent
from provisioner.core.run.records import Node, Verdict

NODE = Node("n", "run", 1, 0, "launch", "template", "i-1", "box", bound_at=0.0, epoch=1)
HEARD = replace(NODE, report=Report(1, 100.0, "p", Step.COMMAND), reported_at=100.0)
LATER = 100.0 + SILENT + 1


def test_only_a_machine_that_once_spoke_can_fall_silent() -> None:
    """A machine that never reported is subject to the boot limit; a machine with a verdict is no longer watched."""
    over = replace(HEARD, verdict=Verdict(Outcome.FAILED, "", 0.0))
    assert is_silent(HEARD, LATER)
    assert not is_silent(HEARD, 100.0 + SILENT)
    assert not is_silent(NODE, LATER)
    assert not is_silent(over, LATER)


def test_machines_of_many_silent_runs_point_to_the_control_plane() -> None:
    """The control plane is the suspect if the machines of more than a fifth of at least five runs are silent."""

    def several(silent: int, speaking: int) -> list[Node]:
        heard = [HEARD] * silent + [replace(HEARD, reported_at=LATER)] * speaking
        return [replace(node, run=f"run {number}") for number, node in enumerate(heard)]

    assert not are_we_deaf(several(FEWEST - 1, 0), LATER)
    assert not are_we_deaf(several(1, 4), LATER)
    assert are_we_deaf(several(2, 4), LATER)
    assert are_we_deaf(several(FEWEST, 0), LATER)


def test_the_silent_machines_of_one_run_do_not() -> None:
    """They share a network and a job, which may be the cause."""
    speaking = [replace(HEARD, run=f"run {number}", reported_at=LATER) for number in range(FEWEST)]
    assert not are_we_deaf([*[HEARD] * 100, *speaking], LATER)
