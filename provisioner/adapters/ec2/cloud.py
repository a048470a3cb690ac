"""Implement the `Cloud` port on Amazon EC2. Thread-safe; the first call makes the clients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from provisioner.adapters import aws
from provisioner.adapters.ec2 import catalog, imaging, launching, listing, networks, placement_groups, pricelist
from provisioner.adapters.ec2.batches import each
from provisioner.adapters.ec2.codes import translate
from provisioner.adapters.ec2.explaining import Explaining
from provisioner.adapters.ec2.imaging import OwnAmis
from provisioner.adapters.ec2.pages import PAGE, answers, ours, pages
from provisioner.adapters.ec2.reservations import reservations_of
from provisioner.core import errors
from provisioner.core.cloud.launch_templates import LaunchTemplate
from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Profile, Template
from provisioner.core.cloud.machine_images import Ami, Image
from provisioner.core.cloud.machines import Listing, Machine
from provisioner.core.cloud.offers import Catalog
from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.cloud.tags import INSTALLATION_TAG, LAUNCH_TAG
from provisioner.core.errors import CloudError, Misconfigured

#: Seconds to wait for CreateFleet's answer. EC2 takes seconds, because it answers only when the machines exist. After a
#: timeout the same request is replayed, so a short wait does no harm.
LAUNCH_TIMEOUT = 60.0

#: Codes for a client token whose request cannot be repeated: only a listing shows which machines it launched.
UNREPEATABLE = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})

TEMPLATE_EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"
TEMPLATE_MISSING = frozenset({"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"})


class Ec2:
    def __init__(
        self,
        installation: str,
        session: aws.Session,
        subnets: Sequence[str],
        *,
        calls: aws.Calls | None = None,
    ) -> None:
        """`subnets` are the ids of subnets, at most one per zone."""
        self._installation = installation
        self._subnets = tuple(subnets)
        self._calls = calls or aws.Calls(translate, session=session)
        self._session = session
        self._own_amis = OwnAmis(installation, session, self._calls)
        self._explaining = Explaining(session, aws.Calls(translate))
        self._calls.explain = self._explaining.denial
        #: Names of the launch templates that this process has made or found.
        self.known_templates: set[str] = set()
        #: Zones by machine id, from the last listing: calls are split by zone when one zone is broken.
        self._zones: Mapping[str, str] = {}

    def close(self) -> None:
        self._session.close()

    @property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    # What can be launched

    @aws.reading("DescribeInstanceTypes")
    def catalog(self, instance_types: Collection[str]) -> Catalog:
        ec2 = self._ec2
        answer = self._calls.repeat(ec2.describe_subnets, SubnetIds=list(self._subnets))
        at = listing.date(answer)
        subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in answer["Subnets"]}
        if len(subnets) < len(self._subnets):
            raise Misconfigured(
                f"`subnets` may have only one subnet per zone, but some of {', '.join(self._subnets)} share a zone"
            )
        wanting = self._address_wanted(answer["Subnets"])
        # A filter, because the InstanceTypes parameter fails for all types if one is unknown.
        wanted = [{"Name": "instance-type", "Values": sorted(set(instance_types))}]
        infos = (
            list(self._pages(ec2.describe_instance_types, "InstanceTypes", Filters=wanted)) if instance_types else []
        )
        if not infos:
            return Catalog({}, subnets, {}, at, wanting)
        offerings = list(
            self._pages(
                ec2.describe_instance_type_offerings,
                "InstanceTypeOfferings",
                LocationType="availability-zone",
                Filters=wanted,
            )
        )
        types = {}
        for info in infos:
            name = info["InstanceType"]
            zones = {entry["Location"] for entry in offerings if entry["InstanceType"] == name}
            types[name] = catalog.instance_type(info, zones & subnets.keys())
        history = self._pages(
            ec2.describe_spot_price_history,
            "SpotPriceHistory",
            InstanceTypes=sorted(types),
            ProductDescriptions=["Linux/UNIX"],
            # The history from now on includes the prices in force now.
            StartTime=datetime.fromtimestamp(at, UTC),
        )
        return Catalog(types, subnets, catalog.spot_prices(history, subnets, at), at, wanting)

    def _address_wanted(self, subnets: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        """Return the ids of subnets in which a launch must request a public address.

        Without the right to look, subnets decide themselves, as they did for policies of earlier versions.
        """
        unaddressed = networks.without_address(subnets)
        if not unaddressed:
            return ()
        vpcs = [{"Name": "vpc-id", "Values": sorted({each["VpcId"] for each in unaddressed})}]
        with contextlib.suppress(Misconfigured):
            return networks.public(
                unaddressed, self._pages(self._ec2.describe_route_tables, "RouteTables", Filters=vpcs)
            )
        return ()

    @aws.reading("DescribeInstanceTypes")
    def gpu_types(self) -> tuple[str, ...]:
        # The names of types with GPUs begin with g or p (EC2 User Guide, "Instance type naming conventions"). A few of
        # the GPUs are not NVIDIA's.
        wanted = [{"Name": "instance-type", "Values": ["g*", "p*"]}]
        infos = self._pages(self._ec2.describe_instance_types, "InstanceTypes", Filters=wanted)
        return tuple(sorted(info["InstanceType"] for info in infos if catalog.instance_type(info, ()).gpus))

    @aws.reading("GetProducts")
    def price_list(self, instance_types: Collection[str]) -> PriceList:
        ask, region = self._session.client("pricing", region=pricelist.REGION).get_products, self._session.region
        machines = list(answers(self._calls, ask, **pricelist.machines(region, instance_types)))
        disks = answers(self._calls, ask, **pricelist.disks(region))
        return pricelist.price_list(_products(machines), _products(disks), listing.date(machines[-1]))

    @aws.reading("GetServiceQuota")
    def quota(self, code: str) -> int:
        return self._explaining.value(code)

    @aws.reading("DescribeImages")
    def image(self, reference: str) -> Image:
        image_id = reference
        if reference.startswith("ssm:"):
            parameter = self._calls.repeat(
                self._session.client("ssm").get_parameter, Name=reference.removeprefix("ssm:")
            )
            image_id = parameter["Parameter"]["Value"]
        images = self._calls.repeat(self._ec2.describe_images, ImageIds=[image_id])["Images"]
        if not images:
            raise translate("InvalidAMIID.NotFound", f"the AMI {image_id} does not exist")
        return Image(image_id, images[0]["RootDeviceName"], images[0]["Architecture"], imaging.disk_gib(images[0]))

    @aws.reading("GetInstanceProfile")
    def profile(self, name: str) -> Profile:
        answer = self._calls.repeat(self._session.client("iam").get_instance_profile, InstanceProfileName=name)
        profile = answer["InstanceProfile"]
        if not profile["Roles"]:
            raise Misconfigured(
                f"the instance profile {name} has no role: add a role that has the rights of `provision iam machine`"
            )
        return Profile(name, profile["Arn"], profile["Roles"][0]["RoleId"])

    @aws.reading("DescribeCapacityReservations")
    def reservations(self, reference: str) -> tuple[Reservation, ...]:
        return reservations_of(reference, self._ec2, self._calls)

    # Launching

    def launch(self, request: LaunchRequest) -> LaunchAnswer:
        without = {offer.zone for offer in request.offers} - request.subnets.keys()
        if not request.offers or without:
            raise Misconfigured(
                f"no subnet in {', '.join(sorted(without))}" if without else "the launch request has no offers"
            )
        self._ensure(request.template)
        # Every machine gets these tags, even if the request lacks them: without them no listing and no reaper finds it.
        tags = {**request.tags, INSTALLATION_TAG: self._installation, LAUNCH_TAG: request.token}
        if request.placement_group:
            self._ensure_group(request.placement_group, tags)
        try:
            response = self._calls.once(
                self._session.client("ec2", LAUNCH_TIMEOUT).create_fleet, **launching.fleet(request, tags)
            )
        except CloudError as error:
            self._learn(request, error)
            raise
        # If the answer cannot be read, the fleet may exist: repeat the same request, as after a lost answer.
        with aws.reading("CreateFleet", errors.NoAnswer):
            answer = launching.answer(request, response, self._calls.translate)
        answer = replace(answer, refusals=tuple(map(self._explaining.quota, answer.refusals)))
        if not answer.machines:
            for refusal in answer.refusals:
                self._learn(request, refusal.error)
        return answer

    def _ensure(self, template: Template) -> None:
        if template.name in self.known_templates:
            return
        parameters = launching.creation(template, {INSTALLATION_TAG: self._installation})
        try:
            self._calls.repeat(self._ec2.create_launch_template, **parameters)
        except CloudError as error:
            if error.code != TEMPLATE_EXISTS:
                raise
        self.known_templates.add(template.name)

    @aws.reading("CreatePlacementGroup")
    def _ensure_group(self, name: str, tags: Mapping[str, str]) -> None:
        """Create the group if it is missing; raise Transient if it is not available after a few seconds."""
        try:
            parameters = placement_groups.creation(name, tags)
            made = self._calls.repeat(self._ec2.create_placement_group, **parameters)["PlacementGroup"]
        except CloudError as error:
            if error.code != placement_groups.EXISTS:
                raise
        else:
            if made["State"] == "available":
                return
        self._calls.repeat(self._wait_for_group, name)

    def _wait_for_group(self, name: str) -> None:
        answer = self._ec2.describe_placement_groups(GroupNames=[name])
        placement_groups.wait(name, answer["PlacementGroups"])

    def _learn(self, request: LaunchRequest, error: CloudError) -> None:
        """Forget a template that EC2 does not find; raise Conflict for a token that cannot be replayed."""
        if error.code in TEMPLATE_MISSING:
            # The template is too new to be found, or was deleted: the next launch makes it if it is missing.
            self.known_templates.discard(request.template.name)
        if error.code in UNREPEATABLE:
            raise errors.Conflict(f"launch {request.token} cannot be replayed: {error}") from error

    # Listing

    def machines(self) -> Listing:
        found = self._describe({f"tag:{INSTALLATION_TAG}": self._installation})
        self._zones = {machine.id: machine.offer.zone for machine in found.machines}
        return found

    def machines_of(self, launch: str) -> tuple[Machine, ...]:
        return self._describe({f"tag:{INSTALLATION_TAG}": self._installation, f"tag:{LAUNCH_TAG}": launch}).machines

    @aws.reading("DescribeInstances")
    def machines_known(self, ids: Collection[str]) -> Listing:
        """List these machines by the InstanceIds parameter.

        While a zone is broken, EC2 fails every call without ids, even with filters, and answers a call that names only
        machines of healthy zones (API Reference, "DescribeInstances").
        """
        ec2 = self._ec2
        answers, refused = each(
            lambda batch: self._calls.repeat(ec2.describe_instances, InstanceIds=batch), ids, self._zone
        )
        unclear = [error for error in refused.values() if not error.code.startswith("InvalidInstanceID")]
        if not answers and unclear:
            raise unclear[0]
        if not answers:
            # No ids were given, or EC2 knows none of them: this call is made only for EC2's time.
            return self._describe({"instance-id": min(refused, default="i-none")})
        found = tuple(machine for answer in answers for machine in listing.machines(answer))
        return Listing(max(map(listing.date, answers)), found)

    @aws.reading("DescribeInstances")
    def _describe(self, wanted: Mapping[str, str]) -> Listing:
        """Return the machines of all pages, or raise: machines that are not listed would wrongly seem to have ended."""
        found: list[Machine] = []
        at = 0.0
        parameters: dict[str, Any] = {
            "Filters": [{"Name": name, "Values": [value]} for name, value in wanted.items()],
            "MaxResults": PAGE,
        }
        for answer in answers(self._calls, self._ec2.describe_instances, **parameters):
            at = listing.date(answer)
            found += listing.machines(answer)
        return Listing(at, tuple(found))

    def _zone(self, instance_id: str) -> str:
        return self._zones.get(instance_id, "")

    def _pages(self, operation: Callable[..., Any], key: str, **parameters: Any) -> Iterator[Any]:
        return pages(self._calls, operation, key, **parameters)

    @aws.reading("DescribeInstanceStatus")
    def impaired(self, ids: Collection[str]) -> frozenset[str]:
        ec2 = self._ec2
        answers, _ = each(
            lambda batch: self._calls.repeat(ec2.describe_instance_status, InstanceIds=batch), ids, self._zone
        )
        return frozenset(
            status["InstanceId"]
            for answer in answers
            for status in answer["InstanceStatuses"]
            # `initializing` and `insufficient-data` do not prove a fault.
            if "impaired" in (status["InstanceStatus"]["Status"], status["SystemStatus"]["Status"])
        )

    # Launch templates, placement groups, terminating, and console output

    @aws.reading("DescribeLaunchTemplates")
    def launch_templates(self) -> tuple[LaunchTemplate, ...]:
        # The API accepts at most 200 results in one answer.
        found = self._pages(
            self._ec2.describe_launch_templates, "LaunchTemplates", Filters=[self._ours()], MaxResults=200
        )
        return tuple(LaunchTemplate(each["LaunchTemplateName"], each["CreateTime"].timestamp()) for each in found)

    def delete_launch_template(self, name: str) -> None:
        self.known_templates.discard(name)
        try:
            self._calls.repeat(self._ec2.delete_launch_template, LaunchTemplateName=name)
        except CloudError as error:
            if error.code not in TEMPLATE_MISSING:
                raise

    @aws.reading("DescribePlacementGroups")
    def placement_groups(self) -> tuple[PlacementGroup, ...]:
        answer = self._calls.repeat(self._ec2.describe_placement_groups, Filters=[self._ours()])
        return tuple(placement_groups.listed(answer))

    def delete_placement_group(self, name: str) -> bool:
        try:
            # Not repeated at once: EC2 answers "in use" until the machines have ended, which takes minutes.
            self._calls.once(self._ec2.delete_placement_group, GroupName=name)
        except CloudError as error:
            if error.code not in (placement_groups.IN_USE, placement_groups.UNKNOWN):
                raise
            return error.code == placement_groups.UNKNOWN
        return True

    def terminate(self, ids: Collection[str]) -> Mapping[str, CloudError]:
        ec2 = self._ec2
        _, refused = each(lambda batch: self._calls.repeat(ec2.terminate_instances, InstanceIds=batch), ids, self._zone)
        return refused

    def console(self, instance_id: str) -> str:
        ec2 = self._ec2
        try:
            answer = self._calls.repeat(ec2.get_console_output, InstanceId=instance_id, Latest=True)
        except CloudError as error:
            if error.code not in ("UnsupportedOperation", "InvalidParameterCombination", "InvalidParameterValue"):
                raise
            # Only Nitro machines have a latest output; other machines have the output from soon after the boot.
            answer = self._calls.repeat(ec2.get_console_output, InstanceId=instance_id)
        return str(answer.get("Output", ""))

    # AMIs of our own

    def amis(self) -> tuple[Ami, ...]:
        return self._own_amis.listed()

    def create_ami(self, instance_id: str, name: str, tags: Mapping[str, str]) -> str:
        return self._own_amis.create(instance_id, name, tags)

    def delete_ami(self, id: str) -> bool:
        return self._own_amis.delete(id)

    def _ours(self) -> Mapping[str, Any]:
        return ours(self._installation)


def _products(answers: Iterable[Any]) -> Iterator[str]:
    return (text for answer in answers for text in answer["PriceList"])
