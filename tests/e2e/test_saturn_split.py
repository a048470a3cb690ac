"""Saturn's `sc split`, `sc batch` and `sc summarize-batch`, with s3:// paths, on light machines."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from provisioner.core.views.commands import Command
from provisioner.core.views.run import Run
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.machines.light import LightHost
from tests.api.served import Server
from tests.e2e.rig import Rig, rig
from tests.e2e.saturns import SC, Client
from tests.polling import until
from tests.support import needs

pytestmark = pytest.mark.saturn

ROOT = Path(__file__).parents[2]
OUTPUT = "s3://data/results"
#: Folder of the split commands on the machines, where no other test looks.
REMOTE = "/tmp/commands"
RUNS = 6
#: A run prints its number, machine and rank on the machine, and writes a result. Run 0 waits for the end of run 3,
#: which is in another chunk, so it ends only if two machines work on the list. Run 1 fails until a file is in the code.
WORK = """
echo "run $1 of $PROVISION_RUN_ID on $PROVISION_INSTANCE_ID, rank $SATURN_RUN_LOCAL_RANK"
echo "error of $1" >&2
echo "result of $1" > "$SATURN_RUN_LOCAL_RESULTS_DIR/answer"
[ "$1" != 0 ] || timeout 100 sh -c 'until aws s3 ls s3://data/results/3/status_code > /dev/null; do :; done' || exit 7
[ "$1" != 1 ] || [ -e code/fixed ] || exit 3
"""


def own_places(folder: Path) -> list[str]:
    """Return the options that give a machine its own /tmp and /home, but this computer's Python and Saturn's client."""
    kept = [word for path in (ROOT, Path(sys.base_prefix)) for word in ("--ro-bind", str(path), str(path))]
    return ["--bind", f"{folder}/tmp", "/tmp", "--bind", f"{folder}/home", "/home", *kept]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    assert SC.exists(), "scripts/test --saturn installs it"
    folder = tmp_path_factory.mktemp("split")
    host = LightHost(folder / "machines", environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "0.2"}, binds=own_places)
    needs.bubblewrap(works=host.sandboxed, proves="a recipe of `sc split` runs unchanged")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch, host=host, buckets={"data": {}}) as whole:
        yield whole


@pytest.fixture(scope="module")
def server(whole: Rig) -> Iterator[Server]:
    with Server(whole.settings) as server:
        yield server


@pytest.fixture
def sc(whole: Rig, server: Server, tmp_path: Path) -> Client:
    """Return a client whose user may read and write the bucket, as the job may."""
    # The image of the job has Saturn's client and the AWS CLI on its PATH.
    path = {"PATH": f"{SC.parent}:/usr/local/bin:/usr/bin:/bin"}
    spec = {
        "name": "grid",
        "image": "any",
        "instance_type": "g5.12xlarge",
        "command": "true",
        "scale": 2,
        "environment_variables": path,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"type": "job", "spec": spec}))
    runs = [{"cmd": f"sh code/work.sh {index}"} for index in range(RUNS)]
    (tmp_path / "batch.json").write_text(json.dumps({"remote_output_path": OUTPUT, "runs": runs}))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "work.sh").write_text(WORK)
    return Client(whole, server, server.token("ann"), tmp_path, whole.double.machine_environment("i-user"))


def split(sc: Client, *words: str) -> str:
    """Call `sc split` for chunks of two runs, and return what it prints."""
    folders = ("--local-commands-directory", "commands", "--remote-commands-directory", REMOTE)
    syncs = ("--sync", "code", "--file-syncs-base-dir-url", "s3://data/syncs")
    return sc("split", "recipe.yaml", "batch.json", "--batch-size", "2", *folders, *syncs, *words)


def started(sc: Client) -> tuple[Run, list[Command]]:
    """Apply and start the recipe of `sc split`; return the run when it is done, and its commands."""
    assert "Started job grid" in sc("apply", "commands/recipe.yaml", "--start")
    service = sc.whole.service
    [run] = service.runs.find(RunFilter(job="ann/grid", limit=1))
    until(lambda: service.runs.record(run.id).done_at is not None, "the run is done", patience=240)
    return service.runs.get(run.id), list(service.commands.page(run.id).commands)


def summary(sc: Client) -> dict[int, str]:
    """Return what `sc summarize-batch` prints of each run: `completed 0`, `error 3`, or nothing."""
    rows = re.finditer(
        r"^(.*) s3://data/results/(\d+) +sh code/work.sh \2 *$", sc("summarize-batch", "batch.json"), re.M
    )
    return {int(row[2]): " ".join(row[1].split()) for row in rows}


def outputs(sc: Client, name: str) -> dict[int, str]:
    """Return the content of the file of this name of each run, below the output path of the batch."""
    objects = sc.whole.double.account.objects("data")
    found = {index: objects.get(f"results/{index}/{name}") for index in range(RUNS)}
    return {index: data.decode() for index, data in found.items() if data is not None}


def test_split_apply_and_summarize_twice_and_only_what_is_missing_runs_again(sc: Client) -> None:
    """The recipe of `sc split` is applied and run unchanged, though runs fail, and with chunks on two machines."""
    told = split(sc, "--max-jobs", "4")
    assert "defaulting nprocs to GPU: 4" in told
    made = yaml.safe_load((sc.folder / "commands" / "recipe.yaml").read_text())
    run, commands = started(sc)

    assert made["spec"]["command"] == [f"sc batch {REMOTE}/{chunk}.json" for chunk in (0, 1)]
    assert [each.text for each in commands] == made["spec"]["command"]
    # `sc batch` exits with 0 though run 1 has failed.
    assert (run.outcome, run.exit_code, [each.exit_code for each in commands]) == (Outcome.SUCCEEDED, 0, [0, 0])
    assert summary(sc) == {0: "completed 0", 1: "error 3", 2: "completed 0", 3: "completed 0", 4: "", 5: ""}
    assert outputs(sc, "results/answer") == {index: f"result of {index}\n" for index in range(4)}
    assert outputs(sc, "stderr") == {index: f"error of {index}\n" for index in range(4)}
    first = outputs(sc, "stdout")
    found = {index: re.fullmatch(rf"run {index} of {run.id} on (.*), rank [0-3]\n", first[index]) for index in range(4)}
    machines = {index: match and match[1] for index, match in found.items()}
    assert None not in machines.values(), first
    assert machines[0] == machines[1] != machines[2] == machines[3]

    # A pod is a machine; its log has the output of all the runs on it.
    pods = {row[0]: row[1] for row in sc.pods("grid")}
    assert pods == {f"grid-{run.id}-1-{rank}": "completed" for rank in (0, 1)}
    logs = [sc("logs", "job", "grid", pod) for pod in pods]
    assert sorted(sorted(re.findall(r"run (\d) of", log)) for log in logs) == [["0", "1"], ["2", "3"]]

    # The downloaded recipe has the list as text, and can be applied.
    got = sc("get", "job", "grid")
    assert json.loads(yaml.safe_load(got)["spec"]["command"]) == made["spec"]["command"]
    (sc.folder / "got.yaml").write_text(got)
    assert "Applied job grid" in sc("apply", "got.yaml")
    assert yaml.safe_load(sc("get", "job", "grid"))["spec"] == yaml.safe_load(got)["spec"]

    (sc.folder / "code" / "fixed").touch()
    assert "skipping 3 completed runs" in split(sc, "--skip-completed")
    again, commands = started(sc)
    assert (again.outcome, [each.exit_code for each in commands]) == (Outcome.SUCCEEDED, [0, 0])
    assert summary(sc) == dict.fromkeys(range(RUNS), "completed 0")
    by_run = {index: text.split()[3] for index, text in outputs(sc, "stdout").items()}
    assert by_run == {0: run.id, 1: again.id, 2: run.id, 3: run.id, 4: again.id, 5: again.id}

    # Nothing is left to do, so there is nothing to start.
    assert "including 0 incomplete runs" in split(sc, "--skip-completed")
    assert "write at least one shell line" in sc("apply", "commands/recipe.yaml", "--start", code=1)
