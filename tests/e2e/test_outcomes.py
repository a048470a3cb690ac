"""The outcome table, row by row, end to end: real agent, real adapters, the double of EC2."""

from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.e2e.rig import Rig, make_repository, rig
from tests.e2e.rows import Row, check, played

#: A type of another architecture than the AMI's: `apply` accepts it for a job without a GPU.
OTHER: dict[str, Any] = {"instance_type": "g5g.xlarge", "placement": {"gpu": "none"}}
ROWS = [
    Row("exits 0", "echo fine", Outcome.SUCCEEDED, 0, "exited with 0", b"fine\n"),
    Row("exits n", "echo bad; exit 7", Outcome.FAILED, 7, "7", b"bad\n"),
    Row("dies of a signal", "kill -KILL $$", Outcome.FAILED, 137, "KILL"),
    Row(
        "retries while they last",
        "echo $PROVISION_ATTEMPT; exit 3",
        Outcome.FAILED,
        3,
        "3",
        b"3\n",
        attempts=3,
        spec={"retries": 2},
    ),
    Row(
        "succeeds at the second try",
        "test $PROVISION_ATTEMPT = 2",
        Outcome.SUCCEEDED,
        0,
        "0",
        attempts=2,
        spec={"retries": 5},
    ),
    Row("start script fails", "echo never", Outcome.FAILED, 9, "start script", spec={"start_script": "exit 9"}),
    Row("run limit", "sleep 600", Outcome.TIMED_OUT, 143, "limits.runtime of 1 s", spec={"limits": {"runtime": "1s"}}),
    Row(
        "setup limit",
        "echo never",
        Outcome.TIMED_OUT,
        143,
        "limits.setup of 1 s",
        spec={"start_script": "sleep 600", "limits": {"setup": "1s"}},
    ),
    Row(
        "no such branch",
        "echo never",
        Outcome.REFUSED,
        None,
        "no-such-branch",
        spec={"git_repositories": [{"url": "REPOSITORY", "reference": "no-such-branch"}]},
    ),
    Row(
        "no such repository",
        "echo never",
        Outcome.REFUSED,
        None,
        "no-such-repository",
        spec={"git_repositories": [{"url": "file:///no-such-repository"}]},
    ),
    Row(
        "git host that does not resolve",
        "echo never",
        Outcome.REFUSED,
        None,
        "nowhere.invalid",
        attempts=2,
        spec={"git_repositories": [{"url": "https://nowhere.invalid/x/y"}]},
    ),
    Row("type for another AMI", "echo never", Outcome.REFUSED, None, "x86_64", b"", 0, OTHER),
    Row(
        "queue limit",
        "echo never",
        Outcome.TIMED_OUT,
        None,
        "queue_time",
        b"",
        0,
        {"instance_type": "p4d.24xlarge", "limits": {"queue_time": "2s"}},
    ),
    Row(
        "spot falls back to on-demand",
        "echo dear",
        Outcome.SUCCEEDED,
        0,
        "0",
        b"dear\n",
        1,
        {"instance_type": "g6.xlarge", "use_spot_instance": True, "placement": {"spot_fallback": True}},
    ),
    Row(
        "another type of the list",
        "echo other",
        Outcome.SUCCEEDED,
        0,
        "0",
        b"other\n",
        1,
        {"instance_type": "p4d.24xlarge", "placement": {"instance_types": ["g4dn.xlarge"]}},
    ),
    Row(
        "interrupted, then elsewhere",
        'test "$PROVISION_ATTEMPT" = 2 || sleep 600; echo again',
        Outcome.SUCCEEDED,
        0,
        "0",
        b"again\n",
        2,
        {"instance_type": "g5.2xlarge", "use_spot_instance": True},
        interrupted=True,
    ),
    Row(
        "exits 0 after a notice",
        "trap 'echo saved; exit 0' TERM; test $PROVISION_ATTEMPT = 2 || { sleep 600 & wait; }; echo done",
        Outcome.SUCCEEDED,
        0,
        "0",
        b"done\n",
        2,
        {"instance_type": "g5.4xlarge", "use_spot_instance": True},
        interrupted=True,
    ),
    Row(
        "is done after a notice",
        "trap 'echo saved; : >\"$PROVISION_DONE_FILE\"; exit 0' TERM; sleep 600 & wait",
        Outcome.SUCCEEDED,
        0,
        "PROVISION_DONE_FILE",
        b"saved\n",
        1,
        {"instance_type": "g6.8xlarge", "use_spot_instance": True},
        interrupted=True,
    ),
    Row(
        "saved, and not done",
        "test $PROVISION_ATTEMPT = 3 || exit 75",
        Outcome.SUCCEEDED,
        0,
        "0",
        attempts=3,
        spec={"instance_type": "g6.16xlarge", "retry": {"requeue_on": [75]}},
    ),
    Row(
        "is told to move elsewhere",
        'until [ -s "$PROVISION_REBALANCE_FILE" ]; do sleep 0.1; done; echo "moving since $PROVISION_ATTEMPT"',
        Outcome.SUCCEEDED,
        0,
        "0",
        b"moving since 1\n",
        spec={"instance_type": "g5.16xlarge", "use_spot_instance": True},
    ),
    Row("ends at its launch", "echo up", Outcome.SUCCEEDED, 0, "0", b"up\n", 2, {"instance_type": "g6.2xlarge"}),
    Row(
        "cannot start at all",
        "echo never",
        Outcome.REFUSED,
        None,
        # EC2's whole answer to a launch that may not use the key of its disk.
        "Client error on launch; if the account encrypts disks with a key of its own, name its ARN in `kms_keys`",
        spec={"instance_type": "g6.4xlarge"},
    ),
    Row(
        "dies while it works",
        'test "$PROVISION_ATTEMPT" = 2 || sleep 600',
        Outcome.SUCCEEDED,
        0,
        "0",
        attempts=2,
        spec={"instance_type": "g5.8xlarge"},
    ),
    Row(
        "has no quota",
        "echo never",
        Outcome.REFUSED,
        None,
        "VcpuLimitExceeded",
        attempts=0,
        spec={"instance_type": "g4dn.2xlarge"},
    ),
    Row(
        "would fit no image",
        "echo never",
        Outcome.REFUSED,
        None,
        "x86_64",
        attempts=0,
        spec=OTHER,
    ),
]

SCENARIO: dict[str, Any] = {
    "capacity": [
        {"type": "p4d.24xlarge", "machines": 0},
        {"market": "spot", "type": "g6.xlarge", "machines": 0},
    ],
    "quotas": [{"type": "g4dn.2xlarge", "vcpus": 0}],
    "rebalances": [{"type": "g5.16xlarge", "at": "1s"}],
    "breakdowns": [
        {"type": "g6.2xlarge"},
        {"type": "g6.4xlarge", "code": "Client.InternalError", "message": "Client error on launch", "times": "always"},
        {"type": "g5.8xlarge", "at": "8s"},
    ],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run all rows at once on one installation; they must not affect each other."""
    folder = tmp_path_factory.mktemp("outcomes")
    repository = make_repository(folder / "repository")
    with pytest.MonkeyPatch.context() as patch, rig(folder / "rig", patch, **SCENARIO) as whole:
        yield whole, played(whole, ROWS, repository)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_cause_has_its_outcome(finished: tuple[Rig, dict[str, Run]], row: Row) -> None:
    """Checks outcome, exit code, reason, log and number of attempts."""
    whole, runs = finished
    check(whole, runs[row.name], row)


def test_nothing_is_left(finished: tuple[Rig, dict[str, Run]]) -> None:
    """When all runs are done, no machine is alive and no machine's folder is left."""
    whole, _ = finished
    assert whole.double.alive() == []
    assert list((whole.folder / "machines").glob("*")) == []
