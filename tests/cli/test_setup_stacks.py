"""`provision setup` when CloudFormation fails, when the stack has changed, and when two do it at once."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner import wiring
from provisioner.adapters.stack.cloudformation import Stacks
from provisioner.faces.cli import exits
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.settings import load_before_setup
from tests.cli.conftest import BUCKET, STACK, Empty, Provision


def test_failed_creation_is_undone_named_and_made_again_by_the_next_setup(empty: Empty, provision: Provision) -> None:
    message = "The maximum number of VPCs has been reached."
    empty.double.faults.add(Rule(Effect.ERROR, action="CreateVpc", code="VpcLimitExceeded", message=message, times=1))
    before = empty.path.read_text()
    done = provision("setup")
    assert done.code == exits.CLOUD
    assert f'"{message}"' in done.last_line
    assert "CloudFormation has undone all changes" in done.last_line
    assert empty.path.read_text() == before
    assert empty.status() == "ROLLBACK_COMPLETE"
    with pytest.raises(Exception, match="404"):
        empty.client("s3").head_bucket(Bucket=BUCKET)
    assert provision("setup").code == 0


def test_stack_in_state_rollback_complete_is_deleted_and_made_again(empty: Empty, provision: Provision) -> None:
    """A stack that was created in AWS's console from the printed template stays in this state when that fails."""
    text = provision("setup", "--print").out.decode()
    empty.double.faults.add(Rule(Effect.ERROR, action="CreateSubnet", code="SubnetLimitExceeded", times=1))
    cloudformation = empty.client("cloudformation")
    made = cloudformation.create_stack(StackName=STACK, TemplateBody=text, Capabilities=["CAPABILITY_NAMED_IAM"])
    waiter = cloudformation.get_waiter("stack_create_complete")
    with pytest.raises(Exception, match="ROLLBACK_COMPLETE"):
        waiter.wait(StackName=made["StackId"], WaiterConfig={"Delay": 0.1, "MaxAttempts": 200})
    done = provision("setup")
    assert done.code == 0, done.err
    assert "is in state ROLLBACK_COMPLETE: deleting it before it is made again" in done.err
    assert empty.status() == "CREATE_COMPLETE"


def test_failed_update_is_undone_and_named(empty: Empty, provision: Provision) -> None:
    provision("setup")
    empty.put("[profiles]\nresearch = 'provision-research'\n")
    empty.double.faults.add(Rule(Effect.ERROR, action="CreateRole", code="LimitExceeded", message="too many roles"))
    done = provision("setup")
    assert done.code == exits.CLOUD
    assert "UPDATE_ROLLBACK_COMPLETE" in done.last_line
    assert "too many roles" in done.last_line
    assert "profile_security_groups" not in empty.settings
    empty.double.faults.clear()
    assert provision("setup").code == 0


def test_drift_is_reported_with_what_to_do(empty: Empty, provision: Provision) -> None:
    provision("setup")
    empty.client("iam").delete_role_policy(RoleName="provision-machine", PolicyName="provision")
    [endpoint] = empty.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    empty.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    done = provision("setup")
    assert done.code == exits.CONFLICT
    assert f"AWS::EC2::VPCEndpoint {endpoint['VpcEndpointId']} was deleted outside of the stack" in done.err
    assert "AWS::IAM::Role provision-machine was changed: /Policies/0/PolicyDocument" in done.err
    assert "undo these changes" in done.last_line


def test_role_of_another_installation_is_refused(empty: Empty, provision: Provision) -> None:
    provision("setup")
    other = empty.path.with_name("other.toml")
    other.write_text(empty.path.read_text().replace('installation = "gpu-jobs"', 'installation = "other"'))
    lines = [line for line in other.read_text().splitlines() if not line.startswith(("bucket", "subnets", "security"))]
    other.write_text("\n".join(lines))
    done = provision("--settings", str(other), "setup")
    assert done.code == exits.CONFLICT
    assert "the role provision-machine belongs to the stack of the installation 'gpu-jobs'" in done.err


def test_two_setups_at_once_make_one_stack(empty: Empty, provision: Provision) -> None:
    """The second one waits for the first one's operation, and then finds nothing to do."""
    codes: list[str] = []

    def other() -> None:
        stack = wiring.setup(load_before_setup(str(empty.path)), "", None)
        for _ in stack.apply(stack.plan()):
            pass
        codes.append(empty.status())

    begun = threading.Event()
    empty.double.calls.on_call = lambda call: begun.set() if call.action == "CreateStack" else None
    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    done = provision("setup")
    thread.join()
    assert done.code == 0, done.err
    assert codes == ["CREATE_COMPLETE"]
    assert len(empty.double.calls.of(action="CreateVpc")) == 1


def test_stack_that_another_process_makes_between_look_and_call_is_waited_for(
    empty: Empty, provision: Provision
) -> None:
    """CreateStack, and later UpdateStack, is rejected although the stack looked free."""
    provision("setup")
    stack = wiring.setup(load_before_setup(str(empty.path)), "", None)
    plan = stack.plan()

    def refuse(action: str, message: str, times: int) -> None:
        code = "ValidationError"
        empty.double.faults.add(Rule(Effect.ERROR, action=action, code=code, message=message, status=400, times=times))

    refuse("DescribeStacks", "Stack with id x does not exist", 2)
    assert list(stack.apply(plan)) == []
    refuse("UpdateStack", "Stack:x is in UPDATE_IN_PROGRESS state and can not be updated.", 1)
    assert list(stack.apply(plan)) == []
    assert empty.status() == "CREATE_COMPLETE"
    assert len(empty.double.calls.of(action="CreateStack")) == 2


def test_update_that_cannot_be_undone_is_left_to_a_person(empty: Empty, provision: Provision) -> None:
    provision("setup")
    empty.put("[profiles]\nresearch = 'provision-research'\n")
    for action in ("AuthorizeSecurityGroupIngress", "DeleteSecurityGroup"):
        empty.double.faults.add(Rule(Effect.ERROR, action=action, code="Broken", message="no"))
    assert "UPDATE_ROLLBACK_FAILED" in provision("setup").last_line
    empty.double.faults.clear()
    done = provision("setup")
    assert done.code == exits.CLOUD
    assert "aws cloudformation continue-update-rollback --stack-name provision-gpu-jobs" in done.last_line


def test_setup_follows_a_stack_that_an_interrupted_setup_left_in_progress(
    empty: Empty, provision: Provision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C, CloudFormation goes on."""
    real = Stacks._follow  # noqa: SLF001 - the moment of the Ctrl-C

    def interrupted(*_: Any) -> Iterator[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stacks, "_follow", interrupted)
    done = provision("setup")
    assert (done.code, done.last_line) == (
        exits.DETACHED,
        "interrupted; AWS goes on with a stack that was begun, and the same command follows it again",
    )
    monkeypatch.setattr(Stacks, "_follow", real)
    done = provision("setup")
    assert done.code == 0, done.err
    assert empty.settings["bucket"] == BUCKET


def test_resource_that_cannot_be_deleted_is_named(empty: Empty, provision: Provision) -> None:
    """IAM does not delete a role with policies that others gave it."""
    provision("setup")
    iam = empty.client("iam")
    jobs = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [jobs]})
    iam.put_role_policy(RoleName="provision-machine", PolicyName="jobs", PolicyDocument=document)
    done = provision("setup", "--delete", "--yes")
    assert done.code == exits.CLOUD
    assert "DELETE_FAILED AWS::IAM::Role" in done.last_line
    iam.delete_role_policy(RoleName="provision-machine", PolicyName="jobs")
    assert provision("setup", "--delete", "--yes").code == 0
