"""The checks: what AWS answers, compared with what the double answers.

A check raises Unexpected if AWS answers otherwise. It returns what it saw in one line.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import botocore.exceptions

from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.cloud.quotas import quota_of
from provisioner.core.cloud.tags import INSTALLATION_TAG
from scripts.live.stage import SMALL, Skipped, Stage, Unexpected

#: A type whose processors cannot run an x86_64 image.
OTHER_ARCHITECTURE = "t4g.micro"
GPU = "g4dn.xlarge"
DENIED = "UnauthorizedOperation"


@dataclass(frozen=True)
class Check:
    name: str
    #: What the check proves.
    what: str
    #: How many machines it launches.
    machines: int
    make: Callable[[Stage], str]


CHECKS: list[Check] = []


def check(name: str, what: str, machines: int = 0) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
    """Add the function to the checks."""

    def add(make: Callable[[Stage], str]) -> Callable[[Stage], str]:
        CHECKS.append(Check(name, what, machines, make))
        return make

    return add


@check("login", "the credentials are found, and name an account")
def _(stage: Stage) -> str:
    answer = stage.session.client("sts").get_caller_identity()
    return f"{answer['Arn']} of account {answer['Account']}"


@check("facts", "types, zones, prices, the default AMI and the instance profile are read as the double answers them")
def _(stage: Stage) -> str:
    catalog = stage.cloud.catalog([SMALL, GPU])
    for name in (SMALL, GPU):
        _expect(name in catalog.types, f"the region has no {name}")
    gpu = catalog.types[GPU]
    _expect((gpu.gpus, gpu.vcpus, gpu.architecture) == (1, 4, "x86_64"), f"{GPU} is {gpu}")
    prices = stage.cloud.price_list([SMALL, GPU])
    for name in (SMALL, GPU):
        _expect(name in prices.machines, f"the price list has no {name}")
    _expect(prices.gib is not None, "the price list has no disk")
    image = stage.cloud.image(stage.settings.image)
    _expect(image.root_device.startswith("/dev/"), f"the root device of {image.id} is {image.root_device!r}")
    profile = stage.cloud.profile(stage.settings.instance_profile)
    _expect(profile.role_id.startswith("AROA"), f"the id of the role of {profile.name} is {profile.role_id!r}")
    return f"{GPU} ${prices.machines[GPU].dollars} an hour; {len(catalog.prices)} spot prices; {image.id}"


@check("bucket", "S3 keeps the first of two conditional writes, and answers a missing key and a range as the double")
def _(stage: Stage) -> str:
    bucket, key = stage.bucket, f"live-check/{stage.seed}"
    try:
        _expect(bucket.get(key) is None, f"{key} exists")
        _expect(bucket.put(key, b"first", if_absent=True), "the first conditional write failed")
        _expect(not bucket.put(key, b"second", if_absent=True), "the second conditional write replaced the first")
        _expect(bucket.get(key, start=1, length=3) == b"irs", "a range has other bytes")
        _expect(bucket.get(key, start=5) == b"", "a range at the object's end is not empty")
        bucket.copy(key, f"{key}-copy")
        found = [entry.key for entry in bucket.list("live-check/")]
        _expect({key, f"{key}-copy"} <= set(found), f"the listing has {found}")
    finally:
        bucket.delete([key, f"{key}-copy"])
    _expect(bucket.get(key) is None, "a deleted object is still there")
    return "If-None-Match, ranges, copies and listings are as expected"


@check("rights", "IAM refuses a tag on another's resource, and a template without the installation's tag")
def _(stage: Stage) -> str:
    ec2 = stage.session.client("ec2")
    tags = [{"Key": INSTALLATION_TAG, "Value": stage.settings.installation}]
    template = {
        "LaunchTemplateName": f"live-{stage.seed}",
        "LaunchTemplateData": {"InstanceType": SMALL},
        "DryRun": True,
    }
    marked = [{"ResourceType": "launch-template", "Tags": tags}]
    tagging = _code(lambda: ec2.create_tags(DryRun=True, Resources=[stage.settings.subnets[0]], Tags=tags))
    untagged = _code(lambda: ec2.create_launch_template(**template))
    tagged = _code(lambda: ec2.create_launch_template(**template, TagSpecifications=marked))
    if tagging == "DryRunOperation":
        raise Skipped("this login may tag everything: run the check with the control plane's role")
    seen = f"CreateTags on a subnet: {tagging}; a template without a tag: {untagged}, with it: {tagged}"
    _expect((tagging, untagged, tagged) == (DENIED, DENIED, "DryRunOperation"), seen)
    return seen


@check("quotas", "Service Quotas has the codes by which waiting runs are explained")
def _(stage: Stage) -> str:
    catalog = stage.cloud.catalog([GPU])
    seen = []
    for market in (Market.ON_DEMAND, Market.SPOT):
        offer = dataclasses.replace(next(iter(catalog.prices)), market=market)
        quota = quota_of(offer)
        assert quota is not None
        answer = stage.session.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
        name = answer["Quota"]["QuotaName"]
        _expect(name == quota.name, f"{quota.code} is {name!r}, not {quota.name!r}")
        seen.append(f"{name}: {answer['Quota']['Value']:.0f}")
    return "; ".join(seen)


@check("impossible", "a launch that EC2 can never make is refused with its cause, and not as missing capacity")
def _(stage: Stage) -> str:
    request = stage.request("impossible", Market.SPOT, (OTHER_ARCHITECTURE,))
    answer = stage.launch(request)
    _expect(not answer.machines, f"EC2 launched an x86_64 image on {OTHER_ARCHITECTURE}")
    codes = {refusal.error.code for refusal in answer.refusals}
    bad = [refusal.error for refusal in answer.refusals if not isinstance(refusal.error, errors.Misconfigured)]
    _expect(not bad, f"not every error is read as a mistake in the request: {[(e.code, str(e)) for e in bad]}")
    return f"codes: {', '.join(sorted(codes))}"


@check("launch", "CreateFleet answers with a spot machine, which the listing shows with its tags", 1)
def _(stage: Stage) -> str:
    request = stage.request("machine", Market.SPOT)
    machine = _one(stage, request)
    found, seconds = stage.until(lambda: stage.machine(machine), f"{machine} is listed")
    missing = request.tags.items() - found.tags.items()
    _expect(not missing, f"{machine} lacks the tags {dict(missing)}")
    _expect(found.offer in request.offers, f"{machine} is listed as {found.offer}")
    return f"{machine} was listed after {seconds:.0f} s, as {found.offer}"


@check("replay", "the same request returns the same machine, and the same token with another request is a conflict", 1)
def _(stage: Stage) -> str:
    request = stage.request("replay", Market.SPOT)
    machine = _one(stage, request)
    again = [each.instance_id for each in stage.cloud.launch(request).machines]
    _expect(again == [machine], f"the replay returned {again}, not {machine}")
    _expect_conflict(stage, dataclasses.replace(request, count=2), "another request with the same token")
    stage.cloud.terminate([machine])
    stage.ended(machine)
    _expect_conflict(stage, request, "the replay after the machine's end")
    return f"{machine} was returned twice; both other calls were conflicts"


@check("fuse", "a machine without work fetches the agent, shows it on the console, and ends itself by its timer", 1)
def _(stage: Stage) -> str:
    machine = _one(stage, stage.request("fuse", Market.ON_DEMAND))
    _, told = stage.until(lambda: "provision" in stage.cloud.console(machine) or None, "the console shows the agent")
    ended, seconds = stage.ended(machine)
    _expect(ended.ending is Ending.ASKED, f"its end has the reason {ended.reason_code!r}: {ended.reason}")
    return f"console after {told:.0f} s; ended itself {told + seconds:.0f} s after the launch ({ended.reason_code})"


@check("terminate", "TerminateInstances ends a machine, and the listing shows it", 1)
def _(stage: Stage) -> str:
    machine = _one(stage, stage.request("terminate", Market.ON_DEMAND))
    refused = stage.cloud.terminate([machine])
    _expect(not refused, f"not accepted: {refused}")
    ended, seconds = stage.ended(machine)
    return f"listed as terminated after {seconds:.0f} s ({ended.reason_code})"


@check("group", "a placement group is made with its tags, refuses a type that it cannot have, and is deleted")
def _(stage: Stage) -> str:
    name = f"provision-live-{stage.seed}"
    request = dataclasses.replace(stage.request("group", Market.ON_DEMAND), placement_group=name)
    try:
        answer = stage.launch(request)
        seen = ", ".join(sorted({refusal.error.code for refusal in answer.refusals})) or "a machine"
        _expect(name in [group.name for group in stage.cloud.placement_groups()], "the group is not listed")
    finally:
        machines = stage.launched.get(request.token) or ()
        stage.cloud.terminate(machines)
        for machine in machines:
            stage.ended(machine)
        _, seconds = stage.until(lambda: stage.cloud.delete_placement_group(name) or None, f"{name} is deleted")
    return f"{SMALL} in a cluster group: {seen}; deleted after {seconds:.0f} s"


@check("left", "nothing of these checks is alive")
def _(stage: Stage) -> str:
    left = [each.id for token in stage.launched for each in stage.cloud.machines_of(token) if _lives(each.state)]
    stage.cloud.terminate(left)
    for machine in left:
        stage.ended(machine)
    return f"{sum(len(ids or ()) for ids in stage.launched.values())} machines have ended"


def _lives(state: MachineState) -> bool:
    return state is not MachineState.TERMINATED


def _one(stage: Stage, request: LaunchRequest) -> str:
    answer = stage.launch(request)
    if not answer.machines:
        told = "; ".join(f"{each.error.code}: {each.error}" for each in answer.refusals)
        raise Skipped(f"no machine: {told}")
    return answer.machines[0].instance_id


def _expect_conflict(stage: Stage, request: LaunchRequest, what: str) -> None:
    try:
        answer = stage.cloud.launch(request)
    except errors.Conflict:
        return
    raise Unexpected(f"{what} answered {answer}, and is no conflict")


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Unexpected(otherwise)


def _code(call: Callable[[], object]) -> str:
    """Return the error code of a call with DryRun, which never succeeds."""
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
