"""A fake of the cloud port for unit tests, directly on the EC2 model, without HTTP.

Plain fields make its calls fail. Its machines exist only in the model: no machine boots.
"""

import contextlib
from collections.abc import Collection, Mapping
from typing import TypeVar

from provisioner.adapters.ec2.codes import advised, decisive, ending, translate
from provisioner.core.cloud.launch_templates import LaunchTemplate
from provisioner.core.cloud.launches import LaunchAnswer, LaunchedMachine, LaunchRequest, Profile, Refusal
from provisioner.core.cloud.machine_images import Ami, AmiState, Image
from provisioner.core.cloud.machines import ENDING, Listing, Machine
from provisioner.core.cloud.offers import OPEN_MARKETS, Catalog, InstanceType, Market, Offer, Price
from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.errors import CloudError, Conflict, NoAnswer, Transient
from provisioner.ports.clock import Clock
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2 import quotas
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Captured, Content, Event, FleetRequest, Instance, Unplugged
from provisioner.rehearsal.ec2.machine_images import MachineImage
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.fakes.catalogue import TYPES, ZONES
from provisioner.rehearsal.fakes.clock import CountingIds

T = TypeVar("T")

_SPENT_TOKEN = {"IdempotentParameterMismatch", "IdempotentInstanceTerminated"}


class FakeCloud:
    """The cloud port on an EC2 model; tests use `model` to inspect machines and to make them fail."""

    def __init__(
        self, clock: Clock, conditions: Conditions | None = None, types: Mapping[str, InstanceType] = TYPES
    ) -> None:
        self.clock = clock
        self.types = types
        self.subnets = {zone: f"subnet-{zone}" for zone in ZONES}
        self.model = Model(
            conditions or Conditions(),
            began=clock.now(),
            types=types.get,
            subnets={subnet: zone for zone, subnet in self.subnets.items()},
            new_id=CountingIds().new,
        )
        #: Errors for the next calls of any method: each call raises the first one that is left, and does nothing else.
        self.fail_next: list[Exception] = []
        #: Names of methods whose next call does its work and then raises NoAnswer; each entry is for one call.
        self.lose_answer_of: list[str] = []
        #: Offers without capacity, regardless of the conditions.
        self.no_capacity_in: set[Offer] = set()
        #: The text that `console` returns, by instance id.
        self.console_of: dict[str, str] = {}
        #: All events of machines so far, except captures, for tests that simulate the machines.
        self.events: list[Event] = []

    def catalog(self, instance_types: Collection[str]) -> Catalog:
        now = self._enter()
        types = {name: self.types[name] for name in instance_types if name in self.types}
        offers = [
            Offer(market, name, zone) for name, kind in types.items() for zone in kind.zones for market in OPEN_MARKETS
        ]
        known = {offer: self.model.price(offer, now) for offer in offers}
        prices = {offer: Price(dollars, "fake", now) for offer, dollars in known.items() if dollars is not None}
        return self._leave("catalog", Catalog(types, dict(self.subnets), prices, now))

    def gpu_types(self) -> tuple[str, ...]:
        self._enter()
        return self._leave("gpu_types", tuple(sorted(name for name, kind in self.types.items() if kind.gpus)))

    def price_list(self, instance_types: Collection[str]) -> PriceList:
        now = self._enter()
        known = {name: self.model.price(Offer(Market.ON_DEMAND, name, ZONES[0]), now) for name in instance_types}
        prices = {name: Price(dollars, "fake", now) for name, dollars in known.items() if dollars is not None}
        disk = self.model.conditions.disk
        parts = [Price(dollars, "fake", now) if dollars else None for dollars in disk or ()]
        return self._leave("price_list", PriceList(prices, *parts))

    def quota(self, code: str) -> int:
        self._enter()
        try:
            value = quotas.value(self.model.conditions.quotas, code, self.types, ZONES)
        except Refused as refused:
            raise self._error(refused.code, refused.message) from refused
        return self._leave("quota", value)

    def image(self, reference: str) -> Image:
        self._enter()
        ami = reference if reference.startswith("ami-") else "ami-0fake0image0000"
        return self._leave("image", Image(ami, "/dev/sda1", "x86_64"))

    def profile(self, name: str) -> Profile:
        self._enter()
        return self._leave("profile", Profile(name, f"arn:aws:iam::123456789012:instance-profile/{name}", "AROAFAKE"))

    def reservations(self, reference: str) -> tuple[Reservation, ...]:
        now, known = self._enter(), self.model.reservations
        try:
            shown = known.shown([] if reference.startswith("arn:") else [reference])
        except Refused as refused:
            raise self._error(refused.code, refused.message) from refused
        alive = self.model.alive(now)
        found = tuple(
            Reservation(
                one.id,
                one.type,
                one.zone,
                known.state(one, now),
                one.machines,
                known.available(one, alive, now),
                one.block,
                self.model.began + one.at,
                None if one.ends is None else self.model.began + one.ends,
            )
            for one in shown
            if reference in (one.id, one.group)
        )
        return self._leave("reservations", found)

    def launch(self, request: LaunchRequest) -> LaunchAnswer:
        now = self._enter()
        template = request.template
        content = Content(
            template.image.id,
            template.user_data,
            template.profile_arn,
            "terminate",
            template.disk_gib,
            public=template.public_address or None,
            reservation=template.reservation,
            market="capacity-block" if template.capacity_block else "",
        )
        try:
            self.model.templates.create(template.name, content, now)
        except Refused as refused:
            if not refused.code.endswith("AlreadyExistsException"):
                raise self._error(refused.code, refused.message) from refused
        if request.placement_group:
            self._ensure_group(request.placement_group, request.tags, now)
        dry = [offer for offer in request.offers if offer in self.no_capacity_in]
        overrides = tuple((offer, request.subnets[offer.zone]) for offer in request.offers if offer not in dry)
        refusals = tuple(Refusal(self._error("InsufficientInstanceCapacity", "no room"), offer) for offer in dry)
        if dry and not overrides:
            return self._leave("launch", LaunchAnswer((), refusals))
        fleet = FleetRequest(
            request.token,
            template.name,
            overrides,
            request.count,
            dict(request.tags),
            by_price=request.market is Market.SPOT,
            together=request.together,
            group=request.placement_group,
        )
        try:
            answer = self.model.create_fleet(fleet, now)
        except Refused as refused:
            if refused.code in _SPENT_TOKEN:
                raise Conflict(f"{refused.code}: {refused.message}") from refused
            raise self._error(refused.code, refused.message) from refused
        machines = tuple(LaunchedMachine(instance_id, offer) for instance_id, offer in answer.machines)
        refusals += tuple(Refusal(self._error(one.code, one.message), one.offer) for one in answer.errors)
        return self._leave("launch", LaunchAnswer(machines, decisive(refusals), now))

    def _ensure_group(self, name: str, tags: Mapping[str, str], now: float) -> None:
        try:
            made = self.model.groups.create(name, tags, now)
        except Refused as refused:
            if refused.code != "InvalidPlacementGroup.Duplicate":
                raise self._error(refused.code, refused.message) from refused
            [made] = self.model.groups.shown([name])
        if self.model.groups.state(made, now) != "available":
            raise Transient(f"the placement group {name} is not available yet", "InvalidPlacementGroup.Unknown")

    def machines(self) -> Listing:
        now = self._enter()
        return self._leave("machines", Listing(now, tuple(map(machine, self._described(now)))))

    def machines_known(self, ids: Collection[str]) -> Listing:
        now = self._enter()
        answers: dict[str, Instance | CloudError] = {}
        for instance_id in ids:
            try:
                [answers[instance_id]] = self._described(now, [instance_id])
            except CloudError as error:
                answers[instance_id] = error
        known = tuple(machine(one) for one in answers.values() if isinstance(one, Instance))
        if not known and (unclear := [one for one in answers.values() if isinstance(one, Transient)]):
            raise unclear[0]
        return self._leave("machines_known", Listing(now, known))

    def machines_of(self, launch: str) -> tuple[Machine, ...]:
        now = self._enter()
        tagged = [one for one in self._described(now) if one.tags.get(LAUNCH_TAG) == launch]
        return self._leave("machines_of", tuple(map(machine, tagged)))

    def terminate(self, ids: Collection[str]) -> Mapping[str, CloudError]:
        now = self._enter()
        refused: dict[str, CloudError] = {}
        for instance_id in ids:
            try:
                self.model.terminate([instance_id], now)
            except Refused as error:
                refused[instance_id] = self._error(error.code, error.message)
        return self._leave("terminate", refused)

    def launch_templates(self) -> tuple[LaunchTemplate, ...]:
        now = self._enter()
        shown = self.model.visible_templates(now)
        return self._leave("launch_templates", tuple(LaunchTemplate(one.name, one.created) for one in shown))

    def delete_launch_template(self, name: str) -> None:
        self._enter()
        with contextlib.suppress(Refused):
            self.model.templates.delete(name)
        self._leave("delete_launch_template", None)

    def placement_groups(self) -> tuple[PlacementGroup, ...]:
        self._enter()
        shown = self.model.groups.shown()
        return self._leave("placement_groups", tuple(PlacementGroup(one.name, one.tags) for one in shown))

    def delete_placement_group(self, name: str) -> bool:
        now = self._enter()
        try:
            self.model.groups.delete(name, self.model.alive(now))
        except Refused as refused:
            return self._leave("delete_placement_group", refused.code == "InvalidPlacementGroup.Unknown")
        return self._leave("delete_placement_group", True)

    def impaired(self, ids: Collection[str]) -> frozenset[str]:
        now = self._enter()
        shown = {one.id for one in self._described(now)}
        return self._leave("impaired", frozenset(one for one in shown & set(ids) if self.model.impaired(one, now)))

    def console(self, instance_id: str) -> str:
        self._enter()
        return self._leave("console", self.console_of.get(instance_id, ""))

    def amis(self) -> tuple[Ami, ...]:
        now = self._enter()
        own = [one for one in self.model.images.shown() if one.owner == "self"]
        return self._leave("amis", tuple(ami(one, self.model.images.state(one, now)) for one in own))

    def create_ami(self, instance_id: str, name: str, tags: Mapping[str, str]) -> str:
        now = self._enter()
        try:
            made = self.model.create_image(instance_id, name, tags, tags, now)
        except Refused as refused:
            known = [one for one in self.model.images.shown() if one.name == name]
            if not known:
                raise self._error(refused.code, refused.message) from refused
            if known[0].tags != tags:
                raise Conflict(f"{refused.code}: {refused.message}") from refused
            made = known[0].id
        return self._leave("create_ami", made)

    def delete_ami(self, id: str) -> bool:
        self._enter()
        behind = [one.id for one in self.model.images.snapshots() if one.description.endswith(id)]
        known = self.model.images.tags_of(id) is not None
        if known:
            self.model.images.deregister(id)
        for snapshot in behind:
            self.model.images.delete_snapshot(snapshot)
        return self._leave("delete_ami", known or bool(behind))

    def _described(self, now: float, ids: Collection[str] = ()) -> list[Instance]:
        try:
            return self.model.instances(now, ids)
        except Refused as refused:
            raise self._error(refused.code, refused.message) from refused

    def _enter(self) -> float:
        if self.fail_next:
            raise self.fail_next.pop(0)
        now = self.clock.now()
        self.model.advance(now)
        self._settle(now)
        return now

    def _settle(self, now: float) -> None:
        """Complete captures and terminations at once, because the machines exist only in the model; keep the events."""
        for event in self.model.drain():
            if isinstance(event, Captured):
                self.model.images.captured(event.image)
                continue
            self.events.append(event)
            if isinstance(event, Unplugged):
                self.model.gone(event.instance.id, now)

    def _leave(self, method: str, answer: T) -> T:
        self._settle(self.clock.now())
        if method in self.lose_answer_of:
            self.lose_answer_of.remove(method)
            raise NoAnswer("the answer was lost", code="ConnectionClosedError")
        return answer

    def _error(self, code: str, message: str) -> CloudError:
        return translate(code, message)


def machine(instance: Instance) -> Machine:
    """Return the model's instance as a machine of the port."""
    change = instance.now
    return Machine(
        instance.id,
        instance.state,
        instance.offer,
        instance.launch_time,
        instance.tags,
        change.reason_code,
        "; ".join(filter(None, (advised(change.reason_code, change.reason_message), change.transition))),
        ending(change.reason_code, change.reason_message) if change.state in ENDING else None,
        instance.address,
        instance.public_address,
        instance.template.content.image,
        _dated(instance),
        instance.reservation,
    )


def ami(image: MachineImage, state: str) -> Ami:
    """Return the model's `MachineImage` as an AMI of the port."""
    return Ami(
        image.id,
        image.name,
        AmiState(state),
        image.created,
        image.architecture,
        image.size_gib,
        image.tags,
        image.failure,
    )


def _dated(instance: Instance) -> float | None:
    """Return when a user's termination began, in whole Unix seconds; None for other ends, which EC2 does not date."""
    if not instance.now.transition.startswith("User initiated"):
        return None
    return float(next(int(change.at) for change in instance.history if change.state in ENDING))
