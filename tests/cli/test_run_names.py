"""An argument that names a run: an id, the beginning of an id, or a job's name, which stands for its latest run."""

import json
from collections.abc import Callable

import pytest

from provisioner.faces.cli import exits
from tests.cli.conftest import Provision

pytestmark = pytest.mark.usefixtures("whole")


@pytest.fixture
def started(provision: Provision, recipe: Callable[..., str]) -> Callable[[str], str]:
    def start(name: str) -> str:
        provision("apply", recipe(name))
        done = provision("start", name, "--wait", "--json")
        return str(json.loads(done.out)["id"])

    return start


def _id(provision: Provision, name: str) -> str:
    done = provision("status", name, "--json")
    assert done.code == 0, done.err
    return str(json.loads(done.out)["run"]["id"])


def test_job_means_its_latest_run(provision: Provision, started: Callable[[str], str]) -> None:
    started("good-latest")
    second = started("good-latest")
    assert _id(provision, "good-latest") == second
    assert provision("status", "good-latest").err.splitlines()[0] == f"good-latest: its latest run, {second[:12]}"


def test_four_hex_digits_are_the_beginning_of_an_id(provision: Provision, started: Callable[[str], str]) -> None:
    run = started("good-hex")
    assert _id(provision, run[:8]) == run
    assert provision("status", run[:3]).code == exits.NOT_FOUND


def test_name_of_a_job_that_is_also_the_beginning_of_an_id_is_refused(
    provision: Provision, started: Callable[[str], str]
) -> None:
    run = started("good-both")
    name = run[:6]
    started(name)
    done = provision("status", name)
    assert done.code == exits.INVALID
    assert run in done.err


def test_misspelt_job_is_suggested(provision: Provision, started: Callable[[str], str]) -> None:
    started("good-spelling")
    assert "did you mean good-spelling?" in provision("status", "good-speling").err
    done = provision("start", "good-speling")
    assert (done.code, "did you mean good-spelling?" in done.err) == (exits.NOT_FOUND, True)
    assert provision("runs", "nope").code == exits.NOT_FOUND


def test_attempt_that_does_not_exist_is_not_found(provision: Provision, started: Callable[[str], str]) -> None:
    run = started("good-attempt")
    done = provision("logs", run, "--attempt", "9")
    assert (done.code, "has no attempt 9" in done.err) == (exits.NOT_FOUND, True)


def test_stop_of_a_job_stops_its_unfinished_runs_only(provision: Provision, recipe: Callable[..., str]) -> None:
    """The double has no machine of this type, so the runs stay queued."""
    for name in ("waiting", "other"):
        provision("apply", recipe(name, instance_type="p4d.24xlarge"))
    runs = [provision("start", name, "--detach").out.decode().strip() for name in ("waiting", "waiting", "other")]
    assert provision("stop", "--job", "waiting").code == exits.INVALID, "without a terminal it needs --yes"
    assert provision("stop", "--job", "waiting", "--yes").code == 0
    assert provision("wait", *runs[:2]).code == 81
    assert json.loads(provision("status", runs[2], "--json").out)["run"]["outcome"] is None
    assert provision("stop", "--all", "--yes").code == 0
    assert provision("wait", runs[2]).code == 81
    assert provision("stop", "--all", "--yes").err == "no unfinished runs\n"


def test_stop_all_stops_the_callers_own_runs_only(provision: Provision, recipe: Callable[..., str]) -> None:
    """An admin may stop other owners' runs one by one, but `stop --all` does not stop them."""
    provision("apply", recipe("mine", instance_type="p4d.24xlarge"))
    provision("apply", recipe("theirs", owner="other", instance_type="p4d.24xlarge"))
    mine, theirs = (provision("start", name, "--detach").out.decode().strip() for name in ("mine", "other/theirs"))
    assert provision("stop", "--all", "--yes").code == 0
    assert provision("wait", mine).code == 81
    assert json.loads(provision("status", theirs, "--json").out)["run"]["stop"] is None
    assert provision("stop", theirs).code == 0
    assert provision("wait", theirs).code == 81
