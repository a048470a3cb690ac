"""A recipe with every supported field, run in a container: each field has its effect.

Fields that only matter after a failure (the limits' ends, `silence`, `rerun`) are tested with those failures.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import JOB_TAG, LIFETIME_TAG, OWNER_TAG
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Catchup, Concurrency, Schedule
from provisioner.core.recipe.recipe import Recipe, parse_recipe
from provisioner.core.run.records import Run
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.machines.light import LightHost
from tests.agent.private_git import SshServer, ssh_server
from tests.e2e.package_index import PackageIndex, package_index
from tests.e2e.rig import Rig, rig
from tests.engine import LOGIN, DockerEngine, debian_tree, engine
from tests.support.repositories import ATTRIBUTES, POINTER, git, repository, submodule
from tests.support.secrets import everything, found

pytestmark = [pytest.mark.docker, pytest.mark.ssh]

WHEELS = "reader:wheel+pass/word=0"
TOKEN, DATA = "hf_0123456789abcdef", "line one\nline two, 'quoted'\n"

#: A field with only one valid value.
SINGLE = {"schema_version"}
#: Fields of runs with several machines (see tests/e2e/test_gangs.py).
OF_GANGS = {
    *("spec.scale", "spec.placement.group", "spec.limits.gather"),
    *("spec.gang.success", "spec.gang.workers", "spec.gang.survivors", "spec.gang.env"),
}
#: Fields of lists of commands (see tests/e2e/test_lists.py).
OF_LISTS = {
    "spec.nprocs",
    *(f"spec.list.{name}" for name in ("limit", "retries", "retry_on", "max_failures", "on_max", "restart_lost")),
}

#: Fields that stop or skip machines (see tests/service/test_caps.py and test_reservations.py).
OF_LAUNCHES = {"spec.limits.cost", "spec.placement.max_price", "spec.placement.reservation"}

#: The job: attempt 1 saves state and fails, attempt 2 requeues, attempt 3 prints what it finds.
LOOK = """
import hashlib, json, os, stat, subprocess, sys, time
import boto3, by_hand, by_list

bucket, _, prefix = os.environ["PROVISION_CHECKPOINT"].removeprefix("s3://").partition("/")
s3, state = boto3.client("s3"), prefix + "state"
if os.environ["PROVISION_ATTEMPT"] == "1":
    s3.put_object(Bucket=bucket, Key=state, Body=b"half done")
    sys.exit(74)
if os.environ["PROVISION_ATTEMPT"] == "2":
    sys.exit(75)

def digest(data):
    return hashlib.sha256(data).hexdigest()

def file(path):
    path = os.path.expanduser(path)
    with open(path, "rb") as opened:
        return [oct(stat.S_IMODE(os.stat(path).st_mode)), digest(opened.read())]

shm = os.statvfs("/dev/shm")
print(json.dumps({
    "checkpoint": s3.get_object(Bucket=bucket, Key=state)["Body"].read().decode(),
    "working_directory": os.getcwd(),
    "variables": {name: os.environ.get(name) for name in ("GREETING", "JOB_NAME", "PROVISION_OWNER")},
    "zone": time.strftime("%Z"),
    "shm_size": shm.f_blocks * shm.f_frsize,
    "files": {path: file(path) for path in ("~/.config/tool/settings", "~/bin/tool", "~/.data/key")},
    "token": digest(os.environ["TOKEN"].encode()),
    "wheels": [by_hand.version, by_list.version],
    "program": subprocess.run(["by-apt"], capture_output=True, text=True).stdout.strip(),
    "start_script": open("prepared").read().strip(),
    "repositories": [open(path).read() for path in ("file", "inner/file", "lib/other/file")],
    "whole_history": os.path.exists("lib/other/.git/refs/remotes/origin/main"),
    "lfs_pointer": open("lib/other/w.bin").read(8),
}))
"""


def recipe(image: str, ssh: SshServer, subnets: Mapping[str, str], repos: Path) -> dict[str, Any]:
    """Return a recipe with all fields; `subnets` is keyed by zone."""
    return {
        "schema_version": "2025.10.01",
        "type": "job",
        "spec": {
            "name": "every-field",
            "owner": "research/vision",
            "description": "Everything at once.",
            "tags": {"project": "vision"},
            "image": {"uri": image, "enforce_trusted": True},
            "instance_type": "g5.xlarge",
            "command": "python look.py",
            "working_directory": "/home/jovyan/all of it",
            "environment_variables": {"GREETING": 'it\'s "me"; $HOME\n'},
            "start_script": "#!/bin/sh -e\npython -c 'import by_hand'\nby-apt >prepared\necho prepared in $PWD\n",
            "git_repositories": [
                {"url": ssh.url(repos / "outer"), "path": ".", "reference": "v1", "reference_type": "tag"},
                {
                    "url": f"file://{repos}/other",
                    "path": "lib/other",
                    "reference": git(repos / "other", "rev-parse", "v1"),
                    "reference_type": "commit",
                    "depth": "full",
                    "lfs": False,
                    "on_restart": "preserve changes",
                    "public": True,
                },
            ],
            "scale": 1,
            "use_spot_instance": True,
            "retries": 2,
            "extra_packages": {
                "pip": {"install": "by_hand==1.0", "requirements_txt": "# pinned\nby_list<2\n"},
                "apt": {"install": ["by-apt=1.0"]},
            },
            "config_files": {
                ".config/tool/settings": {"content": "it's 'quoted'\n"},
                "bin/tool": {"content": "#!/bin/sh\n", "mode": "0750"},
            },
            "secrets": [
                {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/team/token"},
                {
                    "attachment_type": "file",
                    "location": ".data/key",
                    "name": "secretsmanager:data#inner",
                    "owner": "research/vision",
                    "description": "Opens the data.",
                },
                {
                    "attachment_type": "environment_variable",
                    "location": "PIP_INDEX" + "_URL",
                    "name": "secretsmanager:wheels",
                },
            ],
            "git": {"credential": "secretsmanager:deploy#key"},
            "registry": {"credential": "ssm:/team/registry"},
            "placement": {
                "instance_types": ["g6.xlarge"],
                "zones": ["us-east-1b", "us-east-1c"],
                "subnets": [subnets["us-east-1a"], subnets["us-east-1b"]],
                "spot_fallback": True,
                "disk_size": "300Gi",
                "disk_throughput": 400,
                "gpu": "none",
            },
            # No two limits are equal, so the machine's lifetime shows which limits it includes.
            "limits": {
                "runtime": "3601s",
                "queue_time": "2h",
                "boot": "602s",
                "pull": "1204s",
                "setup": "908s",
                "stop_grace": "16s",
                "silence": "10m",
            },
            "retry": {"on": [74], "requeue_on": [75], "backoff": "3s", "rerun": "before_start"},
            "shm_size": "96Mi",
            "timezone": "Asia/Tokyo",
            "schedule": "@yearly",
            "concurrency_policy": "Forbid",
            "schedule_catchup": "none",
            "checkpoint": True,
        },
    }


def left_out(models: Sequence[BaseModel], at: str = "") -> Iterator[str]:
    """Yield the supported fields that have only default values in these models."""
    for name, info in type(models[0]).model_fields.items():
        if info.annotation is NoneType:
            continue  # The field is refused or ignored.
        where, values = f"{at}{name}", [getattr(model, name) for model in models]
        inner = [each for value in values for each in _models(value)]
        if inner:
            yield from left_out(inner, f"{where}.")
        elif not info.is_required() and all(value == info.get_default(call_default_factory=True) for value in values):
            yield where


def _models(value: object) -> list[BaseModel]:
    several = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
    return [each for each in several if isinstance(each, BaseModel)]


@dataclass(frozen=True)
class Seen:
    whole: Rig
    recipe: Recipe
    run: Run
    #: The machine of each attempt, as the double describes it.
    machines: Sequence[Instance]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SshServer]]:
    """Make three repositories, two with commits after v1; `outer` has `inner` as submodule."""
    folder = tmp_path_factory.mktemp("repositories")
    with ssh_server(folder / "sshd") as ssh:
        repository(folder / "inner")
        repository(folder / "other", **{".gitattributes": ATTRIBUTES, "w.bin": POINTER})
        submodule(repository(folder / "outer", **{"look.py": LOOK}), ssh.url(folder / "inner"), folder / "inner")
        for name in ("outer", "other"):
            git(folder / name, "tag", "v1")
            (folder / name / "file").write_text("later")
            git(folder / name, "commit", "--quiet", "--all", "-m", "later")
        yield folder, ssh


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    with package_index(tmp_path_factory.mktemp("index") / "files", WHEELS) as made:
        for version in ("1.0", "2.0"):
            made.add_deb("by-apt", version)
            for name in ("by_hand", "by_list"):
                made.add_wheel(name, version)
        yield made


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, index: PackageIndex) -> Iterator[tuple[DockerEngine, str]]:
    """Yield an engine, and the name of an image in its private registry."""
    with engine() as made:
        tree = debian_tree(tmp_path_factory.mktemp("image") / "tree", index.debs)
        zone = Path("usr/share/zoneinfo/Asia/Tokyo")
        (tree / zone).parent.mkdir(parents=True)
        shutil.copy("/" / zone, tree / zone)
        image = made.publish("debian", tree, "ENV PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/home/jovyan")
        yield made, image.replace(made.registry, made.private_registry)


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory,
    docker: tuple[DockerEngine, str],
    index: PackageIndex,
    repositories: tuple[Path, SshServer],
) -> Iterator[Seen]:
    """Yield the run when it is done."""
    folder, (made, image), (repos, ssh) = tmp_path_factory.mktemp("every"), docker, repositories
    scenario: dict[str, Any] = {
        "buckets": {"states": {}},
        "parameters": {"/team/token": TOKEN, "/team/registry": LOGIN},
        "secrets": {
            "data": json.dumps({"inner": DATA}),
            "wheels": index.wheels,
            "deploy": json.dumps({"key": ssh.key}),
        },
        # Spot and the first type have no capacity.
        "capacity": [{"market": "spot", "machines": 0}, {"type": "g5.xlarge", "machines": 0}],
    }
    settings = {"checkpoint_url": "s3://states/runs", "git": {"known_hosts": [ssh.known().strip()]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", made.host)
        host = LightHost(folder / "machines", docker=True)
        with rig(folder, patch, host=host, rehearsal={"engine": "container"}, settings=settings, **scenario) as whole:
            subnets = {zone: subnet for subnet, zone in whole.double.account.subnets.items()}
            text = yaml.safe_dump(recipe(image, ssh, subnets, repos))
            job = whole.service.jobs.apply(text, "every-field.yaml")
            run = whole.service.runs.start(f"{job.owner}/{job.name}", {})
            machines: dict[str, Instance] = {}

            def done() -> bool:
                machines.update((one.id, one) for one in whole.double.alive())
                return whole.service.runs.record(run.id).done_at is not None

            whole.until(done)
            yield Seen(whole, parse_recipe(text, "f"), whole.service.runs.record(run.id), list(machines.values()))


def test_no_field_is_left_out(seen: Seen) -> None:
    """Fails for a new recipe field until this recipe has it."""
    assert set(left_out([seen.recipe])) == SINGLE | OF_GANGS | OF_LISTS | OF_LAUNCHES


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_job_finds_what_its_recipe_says(seen: Seen) -> None:
    """Checks image, repositories, packages, files, secrets, variables, memory, time and state in one output."""
    whole, run = seen.whole, seen.run
    assert run.verdict is not None
    system = whole.log(run, "system").decode()
    assert run.verdict.outcome is Outcome.SUCCEEDED, f"{run.verdict} {system}"
    assert json.loads(whole.log(run, attempt=3)) == {
        "checkpoint": "half done",
        "working_directory": "/home/jovyan/all of it",
        "variables": {
            "GREETING": 'it\'s "me"; $HOME\n',
            "JOB_NAME": "every-field",
            "PROVISION_OWNER": "research/vision",
        },
        "zone": "JST",
        "shm_size": 96 << 20,
        "files": {
            "~/.config/tool/settings": ["0o644", digest("it's 'quoted'\n")],
            "~/bin/tool": ["0o750", digest("#!/bin/sh\n")],
            "~/.data/key": ["0o600", digest(DATA)],
        },
        "token": digest(TOKEN),
        "wheels": ["1.0", "1.0"],
        "program": "1.0",
        "start_script": "1.0",
        "repositories": ["outer", "inner", "other"],
        "whole_history": True,
        "lfs_pointer": "version ",
    }
    assert whole.log(run, "setup", attempt=3).endswith(b"prepared in /home/jovyan/all of it\n")


def test_the_launch_is_what_the_recipe_asks_for(seen: Seen) -> None:
    """Checks market, type, zone, subnet, disk, owner and lifetime in the double's records."""
    double = seen.whole.double
    asked = []
    for call in double.calls.of("ec2", "CreateFleet"):
        [config] = call.parameters["LaunchTemplateConfigs"]
        market = call.parameters["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        asked.append((market, [one["InstanceType"] for one in config["Overrides"]]))
        # Two zones and two subnets have one zone in common.
        assert {double.account.subnets[one["SubnetId"]] for one in config["Overrides"]} == {"us-east-1b"}
    both = ["g5.xlarge", "g6.xlarge"]
    # Dry offers are not tried again.
    assert asked == [("spot", both), ("on-demand", both), *[("on-demand", ["g6.xlarge"])] * 2]
    for call in double.calls.of("ec2", "CreateLaunchTemplate"):
        [disk] = call.parameters["LaunchTemplateData"]["BlockDeviceMappings"]
        assert (disk["Ebs"]["VolumeSize"], disk["Ebs"]["Throughput"]) == (300, 400)
    assert len(seen.machines) == 3
    for machine in seen.machines:
        assert machine.offer == Offer(Market.ON_DEMAND, "g6.xlarge", "us-east-1b")
        assert machine.tags[OWNER_TAG] == "research/vision"
        assert machine.tags[JOB_TAG] == "every-field"
        # The limits and ten minutes for the last logs.
        assert machine.tags[LIFETIME_TAG] == str(602 + 1204 + 908 + 3601 + 16 + 600)


def test_the_job_is_kept_with_what_is_for_readers(seen: Seen) -> None:
    """The stored recipe has tags and description, and the job has the schedule."""
    job = seen.whole.service.jobs.record("research/vision/every-field")
    spec = json.loads(job.recipe)["spec"]
    assert (spec["tags"], spec["description"]) == ({"project": "vision"}, "Everything at once.")
    assert job.schedule == Schedule("@yearly", "Asia/Tokyo", Concurrency.FORBID, Catchup.NONE)


def test_the_failed_attempt_was_tried_again_after_its_pause(seen: Seen) -> None:
    """The first attempt's exit code uses a retry, and the next machine is launched after the backoff."""
    assert (seen.run.attempt, seen.run.retries_used) == (3, 1)
    verdicts = [node.verdict for node in seen.whole.service.installation.store.nodes(seen.run.id) if node.verdict]
    # The second attempt requeues without using a retry.
    assert [verdict.exit_code for verdict in verdicts] == [74, 75, 0]
    first = verdicts[0]
    assert max(machine.launch_time for machine in seen.machines) >= first.at + 3


def test_credentials_and_secrets_are_found_nowhere_else(seen: Seen, repositories: tuple[Path, SshServer]) -> None:
    """Neither the index's password, which pip prints, nor the repository's key is found anywhere."""
    places = everything(seen.whole, seen.run)
    for value in (TOKEN, DATA, WHEELS.partition(":")[2], LOGIN, repositories[1].key):
        assert found(places, value) == []


def test_the_registry_asks_for_a_password(docker: tuple[DockerEngine, str]) -> None:
    """Without the password the image cannot be pulled, so the run did use the credential."""
    made, image = docker
    with pytest.raises(RuntimeError, match="no basic auth credentials"):
        made.docker("pull", image)
