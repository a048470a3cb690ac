"""What the double has for machines that cannot work: addresses that never answer, and a role made anew."""

import socket

import pytest

from provisioner.rehearsal.aws import dead_end
from tests.rehearsal.conftest import Raise
from tests.rehearsal.rights import ME


def test_dead_end_answers_at_no_address() -> None:
    """Connections are not refused: as behind a subnet without a way out, they wait."""
    end = dead_end.dead_end()
    text = end.user_data("http://127.0.0.1:4711/x http://10.0.2.2:4711 http://127.0.0.1:47110", "http://127.0.0.1:4711")
    named, virtual, other = text.split()
    port = int(virtual.rpartition(":")[2])
    assert (named, virtual) == (f"http://{dead_end.NAME}:{port}/x", f"http://10.0.2.2:{port}")
    assert other == "http://127.0.0.1:47110"
    for address in (*dead_end.ADDRESSES, dead_end.LOOPBACK):
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), 0.05)
    end.close()


def test_machine_learns_its_user_id(up: Raise) -> None:
    """As on AWS it has the role's unique id, which changes if the role is made anew; no right is needed."""
    rig = up({})
    told = rig.client("sts", ME).get_caller_identity()
    assert told["UserId"] == f"{rig.double.account.role_id}:{ME}"
    assert told["Arn"].endswith(f"/{ME}")
    [profile] = rig.double.profiles

    def role_id() -> str:
        """Return the id that the control plane learns."""
        shown = rig.client("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
        return str(shown["Roles"][0]["RoleId"])

    before = role_id()
    after = rig.double.account.remake_role(profile)
    assert before != after == role_id()
    assert rig.client("sts", ME).get_caller_identity()["UserId"] == f"{after}:{ME}"
