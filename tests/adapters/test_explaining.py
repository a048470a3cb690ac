"""What EC2 only hints at: the reason of a denial, and the quota behind an error."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters import aws
from provisioner.adapters.ec2 import explaining
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.quotas import quota_of
from provisioner.rehearsal.double import POLICIES, Double
from provisioner.rehearsal.ec2.conditions import Conditions, Quota, Where
from provisioner.rehearsal.scenario import Scenario
from tests.support.hosts import IdleHost

ZONES = ("us-east-1a", "us-east-1b")
EXPLAINS = ("sts:DecodeAuthorizationMessage", "servicequotas:GetServiceQuota")


class Up:
    """A double, and the adapter of a control plane that lacks some rights."""

    def __init__(self, double: Double) -> None:
        self.double = double
        subnets = [subnet for subnet, zone in double.account.subnets.items() if zone in ZONES]
        self.session = aws.Session(double.region)
        self.cloud = Ec2("installation-1", self.session, subnets)

    def launch(self, market: Market, instance_type: str, token: str = "launch-1") -> LaunchAnswer:
        account = self.double.account
        image = Image(account.image_id, "/dev/xvda", "x86_64")
        offers = tuple(Offer(market, instance_type, zone) for zone in ZONES)
        subnets = {zone: subnet for subnet, zone in account.subnets.items()}
        template = Template(image, account.profile_arn, (), 80, "#!/bin/sh\n")
        return self.cloud.launch(LaunchRequest(token, template, market, offers, subnets, 1, {}))


Raise = Callable[..., Up]


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Raise]:
    """Return a function that starts a double with these quotas, without the rights in `denied`."""
    with ExitStack() as stack:

        def up(*quotas: Quota, denied: tuple[str, ...] = ()) -> Up:
            shutil.copytree(POLICIES, tmp_path, dirs_exist_ok=True)
            policy = json.loads((POLICIES / "control.json").read_text())
            look = policy["Statement"][0]
            look["Action"] = [action for action in look["Action"] if action not in denied]
            (tmp_path / "control.json").write_text(json.dumps(policy))
            scenario = Scenario(Conditions(quotas=quotas))
            double = stack.enter_context(Double(scenario, IdleHost(), installation="installation-1", policies=tmp_path))
            for name, value in double.environment().items():
                monkeypatch.setenv(name, value)
            made = Up(double)
            stack.callback(made.session.close)
            return made

        yield up


# Denials


def test_denied_call_says_who_may_not_do_what(up: Raise) -> None:
    """EC2 returns only an encoded text, which differs each time."""
    account = up(denied=("ec2:DescribeInstances",))
    told = []
    for _ in range(2):
        with pytest.raises(errors.Misconfigured) as denied:
            account.cloud.machines()
        told.append(str(denied.value))
    login = "arn:aws:sts::123456789012:assumed-role/provision-control/session"
    assert f"no policy allows {login} to do ec2:DescribeInstances on *" in told[0]
    assert "Encoded" not in told[0]
    assert told[0] == told[1]
    assert len(account.double.calls.of("sts")) == 1


def test_denial_that_may_not_be_decoded_is_shown_verbatim(up: Raise) -> None:
    """The text says how an operator with more rights finds the reason."""
    account = up(denied=("ec2:DescribeInstances", *EXPLAINS))
    with pytest.raises(errors.Misconfigured) as denied:
        account.cloud.machines()
    assert "Encoded authorization failure message: " in str(denied.value)
    assert "aws sts decode-authorization-message" in str(denied.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "no policy allows arn:u to do ec2:X on r"),
        ({"explicitDeny": True}, "a policy forbids arn:u to do ec2:X on r"),
        (
            {"explicitDeny": True, "matchedStatements": {"items": [{"statementId": "NoGpus", "effect": "DENY"}, {}]}},
            "a policy forbids arn:u to do ec2:X on r (statement NoGpus)",
        ),
    ],
)
def test_decoded_denial_is_one_sentence(up: Raise, changes: dict[str, Any], reason: str) -> None:
    """An explicit deny, for instance of the account's organization, is named: no policy of ours can help."""
    account = up()
    context = {"principal": {"arn": "arn:u"}, "action": "ec2:X", "resource": "r"}
    encoded = base64.urlsafe_b64encode(json.dumps({"explicitDeny": False, "context": context} | changes).encode())
    message = f"You are not authorized. Encoded authorization failure message: {encoded.decode()}"
    explain = explaining.Explaining(account.session, aws.Calls(lambda code, text: errors.Misconfigured(text, code)))
    assert explain.denial(message) == f"You are not authorized: {reason}"
    assert explain.denial("You are not authorized") == "You are not authorized"


# Quotas


def refusals(answer: LaunchAnswer) -> list[errors.QuotaExceeded]:
    """Return the errors of a launch that a quota refused; EC2 also said UnfulfillableCapacity."""
    assert answer.machines == ()
    found = [refusal.error for refusal in answer.refusals]
    assert all(isinstance(error, errors.QuotaExceeded) for error in found)
    return [error for error in found if isinstance(error, errors.QuotaExceeded)]


def test_spot_quota_of_a_new_account_is_named_with_its_code_and_page(up: Raise) -> None:
    """EC2 only says "Max spot instance count exceeded", so Service Quotas is asked, once for all launches."""
    account = up(Quota(0, Where(market="spot", type="g*")))
    for token in ("launch-1", "launch-2"):
        for error in refusals(account.launch(Market.SPOT, "g5.xlarge", token)):
            assert error.vcpus == 0
            assert str(error) == (
                "MaxSpotInstanceCountExceeded: Max spot instance count exceeded; the quota L-3819A6DF (All G and VT "
                "Spot Instance Requests) is 0 vCPUs, as in a new account: ask for more at "
                "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-3819A6DF"
            )
    assert len(account.double.calls.of("servicequotas")) == 1


def test_spot_quota_that_may_not_be_read_is_named_without_its_value(up: Raise) -> None:
    account = up(Quota(0, Where(market="spot", type="g*")), denied=EXPLAINS)
    for error in refusals(account.launch(Market.SPOT, "g5.xlarge")):
        assert error.vcpus is None
        assert "the quota L-3819A6DF (All G and VT Spot Instance Requests) is used up, or is 0" in str(error)


def test_on_demand_quota_is_in_ec2s_message(up: Raise) -> None:
    account = up(Quota(8, Where(market="on-demand", type="p*")))
    for error in refusals(account.launch(Market.ON_DEMAND, "p4d.24xlarge")):
        assert error.vcpus == 8
        assert "the quota L-417A185B (Running On-Demand P instances) is 8 vCPUs: ask for more at https" in str(error)
    assert account.double.calls.of("servicequotas") == []


@pytest.mark.parametrize(
    ("instance_type", "on_demand", "spot"),
    [
        ("g5.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("g4dn.metal", "L-DB2E81BA", "L-3819A6DF"),
        ("gr6.4xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("vt1.3xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p4d.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5en.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("p6-b200.48xlarge", "L-417A185B", None),
        ("m6i.large", "L-1216C47A", "L-34B43A08"),
        ("t3.micro", "L-1216C47A", "L-34B43A08"),
        ("im4gn.large", "L-1216C47A", "L-34B43A08"),
        ("inf2.xlarge", "L-1945791B", "L-B5D1601B"),
        ("trn1.2xlarge", "L-2C3B7624", "L-6B0D517C"),
        ("dl1.24xlarge", "L-6E869C2A", "L-85EED4F7"),
        ("x2idn.16xlarge", "L-7295265B", "L-E3A00192"),
        ("f1.2xlarge", "L-74FC7D96", "L-88CF9481"),
        ("hpc7a.12xlarge", None, None),
        ("mac1.metal", None, None),
        ("u-6tb1.metal", None, None),
    ],
)
def test_quota_of_a_type_by_market(instance_type: str, on_demand: str | None, spot: str | None) -> None:
    found = [quota_of(Offer(market, instance_type, "a")) for market in (Market.ON_DEMAND, Market.SPOT)]
    assert [quota and quota.code for quota in found] == [on_demand, spot]
