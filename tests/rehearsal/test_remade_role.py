"""A role that was deleted and made anew, under its old name."""

from tests.rehearsal.conftest import Raise
from tests.rehearsal.rights import status
from tests.support.fleets import launch


def test_machines_of_a_role_made_anew_have_another_identity(up: Raise) -> None:
    """IAM shows the role's new unique id. A mailbox that is named after the old id is denied to them."""
    rig = up()
    [(name, old)] = rig.double.account.role_ids.items()
    new = rig.double.account.remake_role(name)
    assert old != new == rig.double.account.role_id
    shown = rig.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    assert [role["RoleId"] for role in shown["Roles"]] == [new]
    [machine] = launch(rig)
    s3, bucket = rig.client("s3", machine), rig.double.bucket

    def put(role: str) -> int:
        return status(lambda: s3.put_object(Bucket=bucket, Key=f"inbox/{role}:{machine}/1", Body=b""))

    assert (put(old), put(new)) == (403, 200)
