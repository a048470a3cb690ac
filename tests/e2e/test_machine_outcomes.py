"""Rows of the outcome table that the machine decides, end to end, with their next attempts."""

from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.rig import Rig, make_repository, rig
from tests.e2e.rows import Row, again, check, played, result_of
from tests.support import needs

XID = "[   12.345678] NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', GPU has fallen off the bus."
KILL = "[  100.000001] Out of memory: Killed process 4711 (worker) total-vm:1kB, anon-rss:1kB, UID:0"

#: Kills the first agent and its successor.
KILL_AGENTS = 'while sleep 0.1; do pkill -9 -f "${HOME%/home/*}/var/lib/provision/[a]gent"; done'

#: Defects of the first machine of a type; later machines are healthy.
AILING = {
    "g5.12xlarge": {"PROVISION_GPUS": "3"},
    "g5.2xlarge": {"PROVISION_KERNEL_LOG": XID},
    "g5.4xlarge": {"PROVISION_ECC_ERRORS": "1"},
}
#: Disk size, in bytes, of a type's first machine: too small for the repository's largest file, enough for the agent.
DISKS = {"g5.24xlarge": 40 << 20, "g6.2xlarge": 128 << 20}
LARGE = 32 << 20


def variable(name: str) -> list[dict[str, str]]:
    return [{"attachment_type": "environment_variable", "location": "X", "name": name}]


ROWS = [
    Row(
        "secret missing",
        "echo never",
        Outcome.REFUSED,
        None,
        "the secret ssm:/team/missing cannot be read",
        spec={"secrets": variable("ssm:/team/missing")},
    ),
    Row(
        "secret denied",
        "echo never",
        Outcome.REFUSED,
        None,
        "AccessDeniedException",
        spec={"secrets": variable("ssm:/other/token")},
    ),
    Row(
        "git credential of the wrong kind",
        "echo never",
        Outcome.REFUSED,
        None,
        "cannot be used for git@github.com:org/private.git",
        spec={
            "git_repositories": [{"url": "git@github.com:org/private.git"}],
            "git": {"credential": "ssm:/team/token"},
        },
    ),
    Row(
        "package step fails",
        "echo never",
        Outcome.FAILED,
        1,
        "the package step (pip) exited with 1",
        spec={"extra_packages": {"pip": "no-such-package"}, "environment_variables": {"PIP_NO_INDEX": "1"}},
    ),
    Row(
        "a code that is not retried",
        "exit 3",
        Outcome.FAILED,
        3,
        "retry.on has only 4",
        spec={"retries": 2, "retry": {"on": [4]}},
    ),
    Row(
        "a code that is retried",
        "exit 4",
        Outcome.FAILED,
        4,
        "4",
        attempts=2,
        spec={"retries": 1, "retry": {"on": [4], "backoff": "3s"}},
    ),
    Row(
        "lost, and not to be run again",
        KILL_AGENTS,
        Outcome.LOST,
        None,
        "ended without a result",
        spec={"retry": {"rerun": "before_start"}},
    ),
    Row(
        "interrupted, and not to be run again",
        "echo up; sleep 600",
        Outcome.INTERRUPTED,
        None,
        "takes the spot machine back",
        b"up\n",
        spec={"use_spot_instance": True, "retry": {"rerun": "before_start"}},
        interrupted=True,
    ),
    again("a GPU is missing", "g5.12xlarge", "only 3 of 4 GPUs were found"),
    again("a GPU has broken", "g5.2xlarge", "Xid 79 of PCI:0000:65:00 (the GPU has fallen off the bus)"),
    again("a GPU's memory has errors", "g5.4xlarge", "uncorrected memory errors"),
    again(
        "no space for the clone",
        "g5.24xlarge",
        "No space left on device",
        git_repositories=[{"url": "REPOSITORY"}],
        retry={"rerun": "before_start"},
    ),
    Row(
        "a child is killed for want of memory",
        f"echo '{KILL}' >>\"$HOME/../../var/log/dmesg\"; exit 1",
        Outcome.FAILED,
        1,
        "out of memory: the kernel killed worker (process 4711)",
    ),
    Row(
        "the disk is full",
        "cat /dev/zero >big 2>/dev/null; echo saved; exit 7",
        Outcome.FAILED,
        7,
        "set a larger placement.disk_size",
        b"saved\n",
        spec={"instance_type": "g6.2xlarge"},
    ),
]

SCENARIO: dict[str, Any] = {
    "parameters": {"/team/token": "a token", "/other/token": "another"},
    "job_policy": {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": "arn:aws:ssm:*:*:parameter/team/*"},
        ],
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run all rows at once on one installation."""
    folder = tmp_path_factory.mktemp("machines")
    repository = make_repository(folder / "repository", large=LARGE)
    ailing, disks = dict(AILING), dict(DISKS)
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(
            folder / "rig",
            patch,
            ailing=lambda guest: ailing.pop(guest.instance_type, {}),
            disk=lambda guest: disks.pop(guest.instance_type, None),
            **SCENARIO,
        ) as whole,
    ):
        sandboxed = LightHost(folder / "unused").sandboxed
        # A machine has its own disk only in a sandbox.
        yield whole, played(whole, [row for row in ROWS if sandboxed or not _has_a_disk(row)], repository)


def _has_a_disk(row: Row) -> bool:
    return row.spec.get("instance_type") in DISKS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_cause_has_its_outcome(finished: tuple[Rig, dict[str, Run]], row: Row) -> None:
    """Checks outcome, exit code, reason, log and number of attempts."""
    whole, runs = finished
    needs.bubblewrap(works=row.name in runs, proves=f"outcome and log of `{row.name}`, on a disk of its own size")
    check(whole, runs[row.name], row)


def test_a_pause_between_attempts_is_kept(finished: tuple[Rig, dict[str, Run]]) -> None:
    """The next attempt's machine is launched after retry.backoff."""
    whole, runs = finished
    first, second = (result_of(whole, runs["a code that is retried"], attempt) for attempt in (1, 2))
    # LaunchTime is in whole seconds.
    assert second.spans["boot"].began >= int(first.at + 3)


def test_broken_machine_and_full_disk_use_no_retry(finished: tuple[Rig, dict[str, Run]]) -> None:
    """A broken machine, or a full disk before the job, is not the job's failure."""
    _, runs = finished
    assert {runs[row.name].retries_used for row in ROWS if row.before and row.name in runs} == {0}


def test_nothing_is_left(finished: tuple[Rig, dict[str, Run]]) -> None:
    """When all runs are done, no machine is alive."""
    whole, _ = finished
    assert whole.double.alive() == []
    assert list((whole.folder / "machines").glob("*")) == []
