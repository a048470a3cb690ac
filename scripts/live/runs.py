"""Whole runs: a job, from `start` to its receipt, with the installation's own store."""

import json
from pathlib import Path
from typing import Any

import provisioner
from provisioner.core.cloud.offers import Market
from provisioner.core.errors import ProvisionError
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.codec import to_json
from provisioner.faces.python import Run
from provisioner.settings import Settings
from provisioner.wiring import REAPER_GRACE
from scripts.live.stage import SMALL, Skipped, Stage, Unexpected

#: Public images, from a registry that a subnet with a way out reaches.
BUSYBOX = "public.ecr.aws/docker/library/busybox:stable"
CUDA = "nvidia/cuda:12.8.1-base-ubuntu24.04"
LIMITS = {"boot": "15m", "pull": "15m", "setup": "1m", "runtime": "5m", "stop_grace": "10s"}
#: Seconds that a machine with these limits may exist, with the control plane's own margins; the reaper's come on top.
LIFETIME = 45 * 60
#: Seconds that a run may take, the wait for a machine included.
PATIENCE = 30 * 60
NAME = "live-check"
WORD = "live-check: the command ran"


def small(stage: Stage, settings: Settings, folder: Path) -> str:
    """Run a command on a small machine without a GPU."""
    return _run(stage, settings, folder, SMALL, BUSYBOX, f"echo {WORD}")


def gpu(stage: Stage, settings: Settings, folder: Path, instance_type: str) -> str:
    """Run nvidia-smi in a container on a machine with a GPU."""
    return _run(stage, settings, folder, instance_type, CUDA, f"nvidia-smi && nvidia-smi -q && echo {WORD}")


def _run(stage: Stage, settings: Settings, folder: Path, instance_type: str, image: str, command: str) -> str:
    template = stage.sites.site(settings.instance_profile, [instance_type]).template
    hourly = stage.hourly(instance_type, Market.ON_DEMAND, template)
    stage.budget.commit(hourly, LIFETIME + REAPER_GRACE, instance_type)
    recipe: dict[str, Any] = {
        "type": "job",
        "spec": {"name": NAME, "image": image, "instance_type": instance_type, "command": command, "limits": LIMITS},
    }
    if instance_type == SMALL:
        recipe["spec"]["placement"] = {"gpu": "none"}
    with provisioner.connect(settings) as client:
        client.apply(recipe)
        run = client.start(NAME)
        stage.say(f"run {run.id[:12]} on {instance_type}")
        try:
            return _judged(run, folder / f"run-{instance_type}.json")
        finally:
            # Also if this process is interrupted: without the request, a daemon would let the run go on.
            run.stop()
            run.wait(PATIENCE)
            try:
                client.delete(NAME)
            except ProvisionError as error:
                stage.say(f"the job stays: {error}")


def _judged(run: Run, file: Path) -> str:
    try:
        outcome = run.wait(PATIENCE)
    except TimeoutError:
        raise Skipped(f"{run.state} after {PATIENCE // 60} minutes: {run.reason}") from None
    log = b"".join(run.logs()).decode(errors="replace")
    receipt = run.receipt
    file.write_text(json.dumps({"receipt": to_json(receipt), "log": log, "reason": run.reason}, indent=1) + "\n")
    if outcome is not Outcome.SUCCEEDED or WORD not in log.splitlines():
        raise Unexpected(f"the run is {outcome}: {run.reason or 'its log lacks the last line'}")
    phases = ", ".join(f"{each.name} {each.seconds:.0f} s" for each in receipt.phases if each.seconds)
    return f"succeeded; {phases}; see {file.name}"
