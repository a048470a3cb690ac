"""The demo's job on a virtual machine: the whole chain as a real cloud runs it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.vm.conftest import Boot

pytestmark = pytest.mark.vm

JOBS = Path(__file__).parents[2] / "config/jobs"


def test_the_demos_job_runs_on_a_real_kernel(
    boot: Boot, host: QemuHost, tmp_path: Path, python_image: str, git_server: Callable[[Path], str]
) -> None:
    """The image comes from a registry, code over the network, data from and to S3.

    Log and exit code are kept, and machine and QEMU are gone.
    """
    repository = tmp_path / "run_inference"
    shutil.copytree(JOBS / "run_inference", repository)
    for words in (["init", "--initial-branch=main"], ["add", "--all"], ["commit", "--message", "first"]):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(repository), *identity, *words], check=True, capture_output=True)
    recipe = yaml.safe_load((JOBS / "demo.yaml").read_text())
    recipe["spec"]["image"] = python_image
    recipe["spec"]["git_repositories"][0]["url"] = git_server(repository)
    buckets = {"my-bucket": {"in/demo.json": '{"numbers": [3, 1, 4, 1, 5, 9]}'}}

    with boot(buckets=buckets) as whole:
        job = whole.service.jobs.apply(yaml.safe_dump(recipe), "the test's recipe")
        [run] = whole.done(whole.service.runs.start(job.name, {"RUN_ID": "demo"}))
        assert run.verdict is not None
        assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.SUCCEEDED, 0), run.verdict
        assert json.loads(whole.double.written()["s3://my-bucket/out/demo.json"]) == {"sum": 23, "largest": 9}
        assert whole.log(run, "setup") == b"preparing in /home/jovyan/workspace\n"
        assert b"wrote s3://my-bucket/out/demo.json" in whole.log(run)
        assert f"pulling {python_image}\n".encode() in whole.log(run, "system")
        assert whole.double.alive() == []
        assert not any(host.folder(name).exists() for name in host.consoles())
