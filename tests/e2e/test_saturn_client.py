"""Saturn's unchanged command-line client against this project's server on a rehearsal."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.api.served import Server
from tests.e2e.rig import Rig, rig
from tests.e2e.saturns import SC, Client
from tests.polling import until

pytestmark = pytest.mark.saturn

#: A command that continues when its file exists.
PATIENT = 'echo "line 1"; while [ ! -e "$GO" ]; do sleep 0.05; done; echo "line 2"; exit 3'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    assert SC.exists(), "scripts/test --saturn installs it"
    folder = tmp_path_factory.mktemp("saturn")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch) as whole:
        yield whole


@pytest.fixture(scope="module")
def server(whole: Rig) -> Iterator[Server]:
    with Server(whole.settings) as server:
        yield server


@pytest.fixture
def sc(whole: Rig, server: Server, tmp_path: Path) -> Iterator[Client]:
    yield Client(whole, server, server.token("ann"), tmp_path)
    (tmp_path / "go").touch()


def test_a_run_from_apply_to_its_archive(sc: Client, tmp_path: Path) -> None:
    """Covers apply --start, list, get, pods, and logs of a live, a finished and an archived run, with exit code."""
    told = sc("apply", sc.recipe("whole", PATIENT), "--start")
    assert "Started job whole" in told
    pod = sc.until_pod("whole", "running")
    assert "whole" in sc("list", "job", "who")
    assert yaml.safe_load(sc("get", "job", "whole"))["spec"]["command"] == PATIENT
    until(lambda: "line 1" in sc("logs", "job", "whole"), "the line is shipped")
    assert "line 2" not in sc("logs", "job", "whole", pod)

    (tmp_path / "go").touch()
    assert sc.until_pod("whole", "error") == pod
    # Without a pod's name the log comes from the history. With a pod's name it comes from the finished pod.
    assert "line 1\nline 2" in sc("logs", "job", "whole")
    told = sc("logs", "job", "whole", pod)
    assert "line 1\nline 2" in told
    assert "Terminated 3 at 2" in told
    assert "line 1\nline 2" in sc("logs", "job", "whole", pod, "--source", "historical")
    assert "the command exited with 3" in sc("logs", "job", "whole", pod, "--all-containers")
    assert sc.pods("whole", "--source", "live") == []
    assert [row[0] for row in sc.pods("whole", "--source", "historical", "--status", "error")] == [pod]


def test_run_with_two_machines_has_two_pods(sc: Client) -> None:
    """Each pod has the log of its own rank."""
    sc("apply", sc.recipe("pair", 'echo "rank $SATURN_JOB_RANK of $SATURN_JOB_SCALE"; exit 3', scale=2), "--start")
    until(lambda: [row[1] for row in sc.pods("pair")] == ["error"] * 2, "both pods have ended")
    until(lambda: not sc.whole.service.operator.unfinished(), "the run is done")
    pods = sorted(row[0] for row in sc.pods("pair", "--source", "historical"))
    assert [pod.rpartition("-")[2] for pod in pods] == ["0", "1"]
    for rank, pod in enumerate(pods):
        told = sc("logs", "job", "pair", pod)
        assert f"rank {rank} of 2" in told
        assert f"rank {1 - rank} of 2" not in told


def test_downloaded_recipe_can_be_applied(sc: Client, tmp_path: Path) -> None:
    """The recipe includes the fields that the server added."""
    sc("apply", sc.recipe("trip", "true", start_script="echo ready"))
    (tmp_path / "got.yaml").write_text(sc("get", "job", "trip"))
    assert "Applied job trip" in sc("apply", str(tmp_path / "got.yaml"))
    assert yaml.safe_load(sc("get", "job", "trip"))["spec"]["start_script"].strip() == "echo ready"


def test_start_restart_stop_and_delete(sc: Client) -> None:
    """Stop ends all runs; a job with an unfinished run cannot be deleted."""
    sc("apply", sc.recipe("acts", PATIENT))
    assert sc("start", "job", "acts") == "Started job acts\n"
    sc.until_pod("acts", "running")
    assert "Restarted job acts" in sc("restart", "job", "acts")
    until(lambda: sorted(row[1] for row in sc.pods("acts")) == ["running", "stopped"], "the first is stopped")
    assert "are not done" in sc("delete", "job", "acts", code=1)
    assert sc("stop", "job", "acts") == "Stopped job acts\n"
    until(lambda: sc.whole.service.operator.unfinished() is False, "all of it is over")
    assert {row[1] for row in sc.pods("acts")} == {"stopped"}
    assert sc("delete", "job", "acts") == "Deleted job acts\n"
    assert "no job" in sc("get", "job", "acts", code=1)


def test_schedule_is_set_disabled_and_enabled(sc: Client) -> None:
    """The schedule is set, disabled and enabled again; an invalid one is refused."""
    sc("apply", sc.recipe("nightly", "true"))
    assert "Scheduled job nightly" in sc("schedule", "nightly", "0 2 * * *")
    assert yaml.safe_load(sc("get", "job", "nightly"))["spec"]["schedule"] == "0 2 * * *"
    assert "Unscheduled" in sc("schedule", "nightly", "--disable")
    assert yaml.safe_load(sc("get", "job", "nightly"))["spec"]["schedule"] is None
    sc("schedule", "nightly")
    assert [each.job for each in sc.whole.service.schedules.all()].count("ann/nightly") == 1
    assert "whenever" in sc("schedule", "nightly", "whenever", code=1)


def test_clone_and_options(sc: Client) -> None:
    """A clone has another name and command; instance types are listed by pattern."""
    sc("apply", sc.recipe("original", "true", schedule="@every 4h"))
    sc("clone", "job", "original", "job", "copy", "--command", "echo copy")
    assert yaml.safe_load(sc("get", "job", "copy"))["spec"]["command"] == "echo copy"
    assert "already" in sc("clone", "job", "original", "job", "copy", "--command", "true", code=1)
    assert "'name': 'g5.xlarge'" in sc("options", "--glob", "g5.*")
    assert "p5" not in sc("options", "--glob", "g5.*")


def test_wrong_use_of_saturns_client_gives_one_line(sc: Client) -> None:
    """The exit code is 1, as with Saturn's server."""
    wrong = sc.recipe("wrong", "true", instance_typ="g5.xlarge")
    assert "instance_typ" in sc("apply", wrong, code=1)
    assert "no job 'nope'" in sc("start", "job", "nope", code=1)
    sc("apply", sc.recipe("debugged", "true"))
    assert "debug_mode" in sc("start", "job", "debugged", "--debug", code=1)
    assert "something else than text at 1" in sc("apply", sc.recipe("many", ["a", 3]), code=1)
    other = Client(sc.whole, sc.server, sc.server.token("eve"), sc.folder)
    assert "no job" in other("get", "job", "debugged", "--owner", "ann", code=1)
    assert "debugged" not in other("list", "job")
    assert "unknown" in Client(sc.whole, sc.server, "wrong", sc.folder)("list", "job", code=1)
