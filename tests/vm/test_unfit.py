"""Machines that cannot work, as virtual machines, with the real time limits."""

import pytest

from provisioner.core.cloud import user_data
from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.vm.conftest import SMALL, Boot

pytestmark = pytest.mark.vm

#: Breaks Docker before the agent starts, as an AMI whose Docker does not start.
BREAK = 'umask 022\nsystemctl stop docker.socket docker.service\nmount --bind /bin/false "$(command -v dockerd)"'


def test_dead_docker_ends_the_machine_within_ten_minutes(
    boot: Boot, host: QemuHost, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd cannot start it. Reason, log and console say so."""
    assert user_data.SCRIPT.count("umask 022") == 1
    monkeypatch.setattr(user_data, "SCRIPT", user_data.SCRIPT.replace("umask 022", BREAK))
    with boot() as whole:
        store = whole.service.installation.store
        run = whole.start("echo never", image=image, **SMALL)
        whole.until(lambda: any(node.verdict for node in store.nodes(run.id)))
        whole.service.runs.stop(run.id)
        whole.done(run)
        [node, *_] = store.nodes(run.id)
        assert node.verdict is not None
        assert node.verdict.outcome is Outcome.LOST, node.verdict
        assert node.verdict.reason.startswith("Docker did not answer within 120 s: "), node.verdict
        assert "ActiveState=failed" in node.verdict.reason
        assert b"docker's journal: " in whole.log(run, "system", attempt=1)
        assert "provision: lost at boot: Docker did not answer" in host.console(node.instance_id)
        bill = next(each for each in whole.service.runs.receipt(run.id).machines if each.attempt == 1)
        assert node.result is not None
        span = node.result.spans["boot"]
        assert span.ended is not None
        # An emulated machine takes minutes to boot.
        assert bill.seconds_at_most - (span.ended - span.began) <= 600
        assert whole.double.alive() == []
