"""/metrics and /readyz, for runs on scripted machines and for a server that does not act."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.api.served import Server, recipe
from tests.e2e.rig import Rig, rig
from tests.polling import until


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    host = ScriptedHost((Script(job="bad", command=0.1, exit_code=3), Script(command=0.1)))
    dry = [{"type": "p4d.24xlarge", "machines": 0}]
    folder = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch, host=host, capacity=dry) as whole:
        yield whole


def figures(server: Server, token: str) -> dict[tuple[str, str], float]:
    """Return each sample by its name and its label values, in the order of the labels' names."""
    with server.client(token) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_count_runs_launches_machines_and_requests(whole: Rig) -> None:
    """The metrics cover runs, outcomes, launch errors, phases, machines, passes and requests."""
    with Server(whole.settings) as server, server.client(server.token("tester")) as client:
        admin = server.token("root", admin=True)
        for name, kind in (("good", "g5.xlarge"), ("bad", "g5.xlarge"), ("dry", "p4d.24xlarge")):
            server.service.jobs.apply(recipe(name, "tester", instance_type=kind), "the test's recipe")
            assert client.post(f"/api/jobs/{name}/start").status_code == 200

        def over() -> bool:
            runs = client.get("/api/runs").json()["runs"]
            return sum(run["done_at"] is not None for run in runs) == 2

        until(over, "two runs that are done")
        until(lambda: ("provision_runs", "capacity queued") in figures(server, admin), "a run that waits for capacity")
        assert client.get("/readyz").json() == {"status": "acting"}
        found = figures(server, admin)
        assert found["provision_runs_ended_total", "succeeded"] == 1
        assert found["provision_runs_ended_total", "failed"] == 1
        assert found["provision_launch_errors_total", "InsufficientInstanceCapacity"] >= 1
        assert found["provision_phase_seconds_count", "command"] == 2
        assert found["provision_machine_seconds_total", "on-demand"] >= 120
        assert found["provision_pass_seconds_count", ""] >= 1
        assert found["provision_oldest_obligation_seconds", ""] == 0
        assert found["provision_http_requests_total", "POST /api/jobs/{job}/start 200"] == 3
    with Server(whole.settings) as again:
        # Figures that come from the store are present at once after a restart.
        assert figures(again, admin)["provision_runs_ended_total", "failed"] == 1


def test_standby_server_is_ready_while_another_acts(whole: Rig) -> None:
    """Ready means that some process acts, this server or another."""
    with Server(whole.settings) as acting, Server(whole.settings) as second:
        said = set()
        for server in (acting, second):
            with server.client() as client:
                until(lambda: client.get("/readyz").status_code == 200, "a server that is ready")
                said.add(client.get("/readyz").json()["status"])
        assert said == {"acting", "standing by"}
