"""Saturn's endpoints: the shapes that its client requires, at every point of a run's life."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.faces.api.saturn import recipes
from tests.api.served import Server, recipe
from tests.e2e.rig import Rig, rig
from tests.polling import until

#: A command that continues when its file exists.
PATIENT = 'echo "line 1"; while [ ! -e "$GO" ]; do sleep 0.05; done; echo "line 2"; exit 3'


@dataclass
class Saturn:
    """A client that calls the server as Saturn's client does."""

    whole: Rig
    http: httpx.Client
    go: Path

    def get(self, path: str, status: int = 200, **query: str) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path: str, body: object = None, status: int = 200, method: str = "POST") -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def apply(self, name: str, command: str = "true", **spec: Any) -> str:
        text = recipe(name, command=command, environment_variables={"GO": str(self.go)}, **spec)
        return str(self.post("/api/recipes", json.loads(text), 201, "PUT")["state"]["id"])

    def start(self, job: str) -> str:
        return str(self.post(f"/api/jobs/{job}/start")["run"]["id"])

    def run(self, run: str) -> Run:
        return self.whole.service.runs.record(run)

    def reaches(self, run: str, state: Callable[[Run], bool]) -> None:
        until(lambda: state(self.run(run)), f"the run {run[:12]} gets there")

    def pods(self, job: str) -> list[dict[str, Any]]:
        found = self.get("/api/active/pods", workload_type="job", workload_id=job)
        assert found["next_key"] is None
        return list(found["pod_summaries"])

    def history(self, job: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/jobs/{job}/history")["pods"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("saturn")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch, capacity=[{"type": "p5.*", "machines": 0}]) as whole:
        yield whole


@pytest.fixture(scope="module")
def server(whole: Rig) -> Iterator[Server]:
    with Server(whole.settings) as server:
        yield server


@pytest.fixture
def saturn(whole: Rig, server: Server, tmp_path: Path) -> Iterator[Saturn]:
    go = tmp_path / "go"
    with server.client(server.token("ann")) as http:
        yield Saturn(whole, http, go)
    go.touch()


def test_status_version_enables_the_active_pods_api(saturn: Saturn) -> None:
    """Saturn's client compares the server's version as text."""
    assert saturn.get("/api/status")["version"] >= "2026.02.01"


def test_a_recipe_comes_back_as_it_can_be_applied_again(saturn: Saturn) -> None:
    """The owner is text, the start script not null, the id present; `state` is ignored in a request."""
    id = saturn.apply("round-trip", start_script=None)
    told = saturn.get("/api/recipes/job/round-trip")
    assert told["spec"]["owner"] == "ann"
    assert told["spec"]["start_script"] == ""
    assert told["spec"]["instance_type"] == "g5.xlarge"
    assert told["state"] == {"id": id, "status": "stopped"}
    again = saturn.post("/api/recipes", told, 201, "PUT")
    assert again["state"]["id"] == id
    template = saturn.get("/api/recipes/job/round-trip", as_template="True")
    assert "state" not in template
    assert "owner" not in template["spec"]


def test_recipes_come_in_pages_by_the_beginning_of_their_name(saturn: Saturn) -> None:
    """The pages end with next_key null; other types have no recipes."""
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        saturn.apply(name)
    found: list[str] = []
    key = ""
    for _ in range(10):
        page = saturn.get("/api/recipes", type="job", name="page-", page_size="2", next_key=key)
        found += [each["spec"]["name"] for each in page["recipes"]]
        key = page["next_key"]
        if key is None:
            break
    assert found == names
    assert saturn.get("/api/recipes", type="deployment")["recipes"] == []


def test_a_clone_is_a_new_job_whose_schedule_waits(saturn: Saturn) -> None:
    """An existing name gives 409. Unknown fields are ignored only with `enforce_unknown=false`."""
    body = {"type": "job", "spec": json.loads(recipe("clone", schedule="@every 4h"))["spec"]}
    made = saturn.post("/api/recipes", body, 201)
    assert made["spec"]["schedule"] is None
    assert saturn.post("/api/recipes", body, 409)["code"] == "conflict"
    strange = {"type": "job", "spec": {**body["spec"], "name": "clone-2", "viewers": []}}
    assert "viewers" in saturn.post("/api/recipes", strange, 400)["message"]
    answer = saturn.http.post("/api/recipes", params={"enforce_unknown": "false"}, json=strange)
    assert answer.status_code == 201


@pytest.mark.parametrize("body", [[], "text", {"spec": []}, {"spec": {"name": 1}}, {"spec": {"name": "x", "owner": 1}}])
def test_malformed_recipe_is_refused(saturn: Saturn, body: object) -> None:
    """The error has a message."""
    assert saturn.post("/api/recipes", body, 400)["message"]


def test_pods_at_every_point_of_a_life(saturn: Saturn) -> None:
    """Covers the fields whose shape the client depends on: times, labels, containers, bodies."""
    id = saturn.apply("life", PATIENT)
    run = saturn.start(id)
    assert saturn.get("/api/recipes/job/life")["state"]["status"] in ("pending", "running")
    saturn.reaches(run, lambda found: found.state is State.RUNNING)
    (pod,) = saturn.pods(id)
    assert pod["status"] == "running"
    assert pod["labels"] == {"saturncloud.io/resource-id": id, "job-name": run}
    assert pod["started_at"]
    summary = saturn.get(f"/api/active/pods/{pod['name']}")
    (main,) = summary["container_summaries"]
    assert (main["name"], main["status"], main["exit_code"], main["finished_at"]) == ("main", "running", None, None)
    assert not any("logs" in each for each in summary["init_container_summaries"] + [main])
    log = f"/api/active/pods/{pod['name']}/logs"
    until(lambda: "line 1" in saturn.get(log, page_size="1000", container_name="main")["logs"], "the line is shipped")

    saturn.go.touch()
    saturn.reaches(run, lambda found: found.done_at is not None)
    assert saturn.pods(id) == []
    (past,) = saturn.history(id)
    assert past["pod_name"] == pod["name"]
    assert past["status"] == "error"
    assert past["start_time"] < past["end_time"]
    # A finished pod must stay readable: the client reads it by name and crashes on a 404.
    (main,) = saturn.get(f"/api/active/pods/{pod['name']}")["container_summaries"]
    assert (main["status"], main["exit_code"], bool(main["finished_at"])) == ("error", 3, True)
    assert saturn.get(log)["logs"] == "line 1\nline 2\n"
    assert saturn.get(log, page_size="1")["logs"] == "line 2\n"
    assert "the command exited with 3" in saturn.get(log, container_name="boot")["logs"]
    assert saturn.get(log, container_name="setup")["logs"] == ""
    assert saturn.get(log, 404, container_name="sidecar")["code"] == "not_found"
    assert saturn.get(f"/api/jobs/{id}/logs", pod_name=pod["name"])["logs"] == "line 1\nline 2\n"
    assert saturn.get("/api/recipes/job/life")["state"]["status"] == "error"


def test_two_pods_that_wait_can_be_sorted(saturn: Saturn) -> None:
    """The pod of a run without a machine has an empty start time, not null."""
    id = saturn.apply("waits", instance_type="p5.48xlarge")
    runs = [saturn.start(id), saturn.start(id)]
    until(lambda: all(saturn.run(run).waiting for run in runs), "both wait")
    found = saturn.pods(id)
    assert [pod["started_at"] for pod in found] == ["", ""]
    assert {pod["status"] for pod in found} == {"pending"}
    summary = saturn.get(f"/api/active/pods/{found[0]['name']}")
    assert [each["status"] for each in summary["container_summaries"]] == ["waiting"]
    assert saturn.get(f"/api/active/pods/{found[0]['name']}/logs")["logs"] == ""
    saturn.post(f"/api/jobs/{id}/stop")
    for run in runs:
        saturn.reaches(run, lambda found: found.done_at is not None)
    assert {past["status"] for past in saturn.history(id)} == {"stopped"}
    assert all("end_time" in past for past in saturn.history(id))


def test_pod_shows_the_failed_start_script(saturn: Saturn) -> None:
    """The main container stays `waiting`; the setup container has the log and the exit code."""
    run = saturn.start(id := saturn.apply("unset", start_script="echo no such package; exit 7"))
    saturn.reaches(run, lambda found: found.done_at is not None)
    (past,) = saturn.history(id)
    summary = saturn.get(f"/api/active/pods/{past['pod_name']}")
    setup = next(each for each in summary["init_container_summaries"] if each["name"] == "setup")
    assert (setup["status"], setup["exit_code"], bool(setup["finished_at"])) == ("error", 7, True)
    assert setup["logs"] == "no such package\n"
    assert [(each["status"], each["logs"]) for each in summary["container_summaries"]] == [("waiting", "")]


def test_a_log_that_is_no_text_is_one_json_string_all_the_same(saturn: Saturn) -> None:
    """Bytes that are not UTF-8 are replaced, and no character is cut at the end of a chunk."""
    run = saturn.start(id := saturn.apply("binary", r"""printf 'a\377b"\\\n\303\244\n'"""))
    saturn.reaches(run, lambda found: found.done_at is not None)
    (past,) = saturn.history(id)
    assert saturn.get(f"/api/jobs/{id}/logs", pod_name=past["pod_name"])["logs"] == 'a\ufffdb"\\\nä\n'


def test_a_list_of_split_has_a_pod_for_each_machine(saturn: Saturn) -> None:
    """The list is the text of a JSON array, in both directions. The first command ends after the other machine."""
    lines = ['echo first; while [ ! -e "$GO" ]; do sleep 0.05; done', "echo ä second"]
    id = saturn.apply("split", json.dumps(lines), scale=2)
    told = saturn.get("/api/recipes/job/split")["spec"]["command"]
    assert isinstance(told, str)
    assert json.loads(told) == lines
    run = saturn.start(id)
    names = [f"split-{run}-1-{rank}" for rank in (0, 1)]
    until(lambda: (names[1], "completed") in statuses(saturn, id).items(), "the other machine has ended")
    assert [pod["name"] for pod in saturn.pods(id)] == names[:1]
    saturn.go.touch()
    saturn.reaches(run, lambda found: found.done_at is not None)
    assert statuses(saturn, id) == dict.fromkeys(names, "completed")
    logs = [saturn.get(f"/api/active/pods/{name}/logs")["logs"] for name in names]
    assert logs == ["first\n", "ä second\n"]
    assert [saturn.get(f"/api/jobs/{id}/logs", pod_name=name)["logs"] for name in names] == logs


def statuses(saturn: Saturn, job: str) -> dict[str, str]:
    return {each["pod_name"]: each["status"] for each in saturn.history(job)}


def test_a_list_without_commands_is_refused(saturn: Saturn) -> None:
    """`sc split --skip-completed` makes one if nothing is left to do."""
    body = json.loads(recipe("nothing", command="[]"))
    assert (
        "spec.command: found '[]'; write at least one shell line"
        in saturn.post("/api/recipes", body, 400, "PUT")["message"]
    )


def test_restart_stops_all_and_starts_one(saturn: Saturn) -> None:
    """The answer has the job and the new run; `stop/{run}` ends only that run."""
    id = saturn.apply("again", PATIENT)
    first = saturn.start(id)
    told = saturn.post(f"/api/jobs/{id}/restart", {"debug_mode": False})
    second = told["run"]["id"]
    assert told["id"] == id
    saturn.reaches(first, lambda found: found.done_at is not None)
    assert not saturn.run(second).stop
    saturn.post(f"/api/jobs/{saturn.apply('other')}/stop/{second}", None, 404)
    assert saturn.post(f"/api/jobs/{id}/stop/{second}")["id"] == id
    saturn.reaches(second, lambda found: found.done_at is not None)
    assert saturn.get(f"/api/jobs/{id}/history")["pods"][0]["status"] == "stopped"
    message = saturn.post(f"/api/jobs/{id}/restart", {"debug_mode": True}, 400)["message"]
    assert "debug_mode" in message
    assert "provision ssh" in message


def test_schedule_is_changed_enabled_and_disabled(saturn: Saturn) -> None:
    """PATCH changes the schedule and POST enables it; without a PATCH, POST enables the last one again."""
    id = saturn.apply("nightly")
    assert "no schedule" in saturn.post(f"/api/jobs/{id}/schedule", None, 400)["message"]
    options = {"cron_schedule_options": {"schedule": "@every 4h"}}
    saturn.post(f"/api/jobs/{id}", options, method="PATCH")
    saturn.post(f"/api/jobs/{id}/schedule")
    assert saturn.get("/api/recipes/job/nightly")["spec"]["schedule"] == "@every 4h"
    saturn.post(f"/api/jobs/{id}/unschedule")
    assert saturn.get("/api/recipes/job/nightly")["spec"]["schedule"] is None
    saturn.post(f"/api/jobs/{id}/schedule")
    assert saturn.get("/api/recipes/job/nightly")["spec"]["schedule"] == "@every 4h"
    wrong = {"cron_schedule_options": {"schedule": "whenever"}}
    assert "whenever" in saturn.post(f"/api/jobs/{id}", wrong, 400, "PATCH")["message"]
    assert "image_uri" in saturn.post(f"/api/jobs/{id}", {"image_uri": "x"}, 400, "PATCH")["message"]


def test_sizes_have_what_split_needs(saturn: Saturn) -> None:
    """Sizes have name, cores and GPUs; types without a GPU are omitted."""
    sizes = saturn.get("/api/info/servers")["sizes"]
    assert sizes["g5.xlarge"] | {"name": "g5.xlarge", "cores": 4, "gpu": 1, "memory": "16Gi"} == sizes["g5.xlarge"]
    assert all(size["gpu"] for size in sizes.values())
    assert "t3.small" not in sizes


def test_exactly_one_organisation_is_primary(server: Server) -> None:
    """The primary organisation is the first owner's."""
    with server.client(server.token("lab/ann", "lab/bob", "cyd")) as http:
        assert http.get("/api/user").json()["username"] == "ann"
        orgs = http.get("/api/orgs").json()["orgs"]
    assert [(org["name"], org["is_primary"]) for org in orgs] == [("lab", True), ("cyd", False)]


def test_an_unknown_pod_is_not_found(saturn: Saturn) -> None:
    """Any unknown name gives 404, even one that resembles a pod's name."""
    for name in ("x", "a-b-c-d", f"job-{'0' * 32}-1-0", "-", "%2e%2e"):
        assert saturn.get(f"/api/active/pods/{name}", 404)["message"]
    id = saturn.apply("mine")
    run = saturn.start(id)
    saturn.reaches(run, lambda found: found.done_at is not None)
    assert saturn.get(f"/api/active/pods/other-{run}-1-0", 404)
    assert saturn.get(f"/api/active/pods/mine-{run}-2-0", 404)
    other = saturn.apply("not-mine")
    assert saturn.get(f"/api/jobs/{other}/logs", 404, pod_name=f"mine-{run}-1-0")


def test_stop_reaches_every_run_of_a_job(saturn: Saturn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop reads all pages of runs, and an unfinished run counts even if newer ones are done."""
    monkeypatch.setattr(recipes, "PAGE", 2)
    id = saturn.apply("crowd", instance_type="p5.48xlarge")
    runs = [saturn.start(id) for _ in range(5)]
    assert saturn.get("/api/recipes/job/crowd")["state"]["status"] == "pending"
    saturn.post(f"/api/jobs/{id}/stop")
    assert all(saturn.run(run).stop for run in runs)
    for run in runs:
        saturn.reaches(run, lambda found: found.done_at is not None)
    assert saturn.get("/api/recipes/job/crowd")["state"]["status"] == "stopped"


def test_recipe_that_is_not_utf8_is_refused(saturn: Saturn) -> None:
    """The text is refused, not stored with replacement characters."""
    answer = saturn.http.put("/api/recipes", content=b"type: job\nspec: {name: \xff}")
    assert (answer.status_code, answer.json()["message"]) == (400, "body: not UTF-8 text")
