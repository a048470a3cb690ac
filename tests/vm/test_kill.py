"""A rehearsal that is killed while its virtual machine runs."""

import contextlib
import json
import signal
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest
import yaml

from provisioner.rehearsal.machines.virtual.image import Image
from tests.e2e.commands import Command
from tests.polling import until
from tests.vm.conftest import PATIENCE, SMALL

pytestmark = pytest.mark.vm


def traces(folder: Path) -> list[str]:
    """Return the files and processes of a rehearsal with this TMPDIR."""
    found = [str(path) for path in folder.rglob("*")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(folder).encode() in words:
                found.append(f"{process.name}: {words.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def consoles(environment: Mapping[str, str]) -> list[str]:
    ec2 = boto3.client(
        "ec2",
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    listed = [one for each in ec2.describe_instances()["Reservations"] for one in each["Instances"]]
    return [ec2.get_console_output(InstanceId=one["InstanceId"], Latest=True).get("Output", "") for one in listed]


@pytest.mark.vm(boots=0)
def test_a_rehearsal_that_is_killed_leaves_nothing_of_its_virtual_machine(guest_image: Image, tmp_path: Path) -> None:
    """No QEMU process, disk, socket or folder is left, even if the guest's kernel was booting."""
    recipe = tmp_path / "recipe.yaml"
    spec = {"name": "rehearsed", "image": "any", "command": "true", **SMALL}
    recipe.write_text(yaml.safe_dump({"type": "job", "spec": spec}))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    own = {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(guest_image.folder.parents[2])}
    serve = ("rehearse", "--serve", "--json", "--machine", "qemu")
    with Command(tmp_path / "rehearsal", *serve, environment=own) as cloud:
        cloud.until(lambda: "the double is up" in cloud.err)
        environment = json.loads(cloud.out)["environment"]
        start = ("apply", str(recipe), "--start")
        with Command(tmp_path / "start", *start, environment=environment):
            until(lambda: any(consoles(environment)), "a word of the guest", patience=PATIENCE)
        alive = traces(temporary)
        assert any("qemu-system" in trace for trace in alive), alive
        assert any(trace.endswith(("/monitor", "/disk")) for trace in alive), alive
        cloud.signal(signal.SIGKILL)
        cloud.ended()
    until(lambda: not traces(temporary), "the end of it all", lambda: "\n".join(traces(temporary)))
