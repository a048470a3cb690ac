"""The EC2 model: states of machines, launch templates, fleets, client tokens, and delays of listings.

The model is pure: `now` is an argument, `new_id` supplies the ids, and there is no I/O. The caller gets the events of
machines from `drain`, and boots or ends the machines. Two threads must not use the model at the same time. Error codes
and reasons are EC2's own (EC2 API Reference, "Error codes" and "StateReason"). The texts of messages are assumed where
no line names a source: the program shows them, but does not read them.
"""

import dataclasses
import functools
import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.offers import InstanceType, Market, Offer
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2 import listing, quotas
from provisioner.rehearsal.ec2.conditions import Breakdown, Conditions, GpuFault, Interruption, Rebalance, Unheeded
from provisioner.rehearsal.ec2.instance import (
    Booted,
    Captured,
    Change,
    Content,
    Event,
    FleetAnswer,
    FleetRequest,
    Instance,
    LaunchTemplate,
    Noticed,
    OfferError,
    Recommended,
    Unplugged,
)
from provisioner.rehearsal.ec2.machine_images import Images
from provisioner.rehearsal.ec2.placement_groups import PlacementGroups
from provisioner.rehearsal.ec2.reserved.capacity import BLOCK_ENDED, Reservations
from provisioner.rehearsal.ec2.templates import Templates
from provisioner.rehearsal.machines.host import place

#: A rule that affects at most `times` machines.
_Mishap = TypeVar("_Mishap", Breakdown, GpuFault, Interruption, Rebalance)


class Model:
    """EC2 in one region, from the Unix time `began` on; the times in the conditions count from `began`."""

    def __init__(
        self,
        conditions: Conditions,
        *,
        began: float,
        types: Callable[[str], InstanceType | None],
        subnets: Mapping[str, str],
        new_id: Callable[[], str],
        address: Callable[[int, bool], str] = lambda number, _: f"10.{place(number)}",
        assigns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`subnets` has zones by id, `new_id` repeats no last 17 characters, and `address` is MachineHost's.

        `assigns` returns whether a subnet gives its machines public addresses, unless a launch decides otherwise.
        """
        self.conditions = conditions
        self.began, self.subnets = began, subnets
        self.images = Images(conditions.image_delay, new_id)
        self.templates = Templates(new_id)
        self.groups = PlacementGroups(conditions.placement_groups, conditions.group_lag, new_id)
        self.reservations = Reservations(conditions.reservations, began)
        self._types, self._new_id = types, new_id
        self._address, self._assigns = address, assigns
        self._fleets: dict[str, tuple[FleetRequest, FleetAnswer]] = {}
        self._instances: dict[str, Instance] = {}
        self._forgotten: dict[str, Instance] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._befallen: Counter[object] = Counter()
        #: Number of termination requests by machine; number of calls that described machines.
        self._asked: Counter[str] = Counter()
        self._looks = 0
        self._events: list[Event] = []

    # Time

    def advance(self, now: float) -> None:
        """Make all planned changes that are due by `now`; each change is dated with its planned time, not `now`."""
        while self._agenda and self._agenda[0][0] <= now:
            _, _, happens = heapq.heappop(self._agenda)
            happens()

    def next_due(self) -> float | None:
        """Return when the next planned change is due, or None."""
        return self._agenda[0][0] if self._agenda else None

    def drain(self) -> list[Event]:
        """Return the events of machines since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def _plan(self, at: float, happens: Callable[..., None], *args: object) -> None:
        self._planned += 1
        step: Callable[[], None] = functools.partial(happens, at, *args)
        heapq.heappush(self._agenda, (at, self._planned, step))

    # Launch templates and fleets

    def visible_templates(self, now: float) -> list[LaunchTemplate]:
        return [item for item in self.templates.shown() if now >= item.created + self.conditions.template_lag]

    def create_fleet(self, request: FleetRequest, now: float) -> FleetAnswer:
        """Launch machines in the offers that have capacity; the answer may have no machines. Raises Refused."""
        self.advance(now)
        if request.token in self._fleets:
            return self._replay(request)
        if any(self.began + one.at <= now < self.began + one.ends for one in self.conditions.fleet_limits):
            raise Refused("MaxFleetCountExceeded", "You've reached the limit on the number of EC2 Fleets")
        template = next((item for item in self.visible_templates(now) if item.name == request.template), None)
        if template is None:
            # That the whole call fails, as in Karpenter's code, and not each offer, is assumed.
            message = f"The specified launch template, with template name {request.template}, does not exist."
            raise Refused("InvalidLaunchTemplateName.NotFoundException", message)
        if not request.overrides:
            # Assumed. EC2 would launch in the default VPC, which no caller intends.
            raise Refused("MissingParameter", "The request must contain the parameter Overrides")
        if request.count < 1:
            raise Refused("InvalidParameterValue", "TotalTargetCapacity must be at least 1")
        zones = {subnet: self.subnets.get(subnet) for _, subnet in request.overrides}
        known = [zone for zone in zones.values() if zone is not None]
        if len(known) != len(set(known)):
            # Two subnets of one zone (EC2 User Guide, "EC2 Fleet considerations"). The code is assumed.
            raise Refused("InvalidFleetConfiguration", "Overrides name two subnets of one Availability Zone")
        answer = self._fill(request, template, now)
        self._fleets[request.token] = (request, answer)
        return answer

    def _replay(self, request: FleetRequest) -> FleetAnswer:
        first, answer = self._fleets[request.token]
        if first != request:
            raise Refused(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        # Assumed: EC2 documents both codes for RunInstances, and says nothing of replayed fleets.
        lives = [self._instances.get(instance_id) for instance_id, _ in answer.machines]
        if lives and all(life is None or life.state == MachineState.TERMINATED for life in lives):
            raise Refused("IdempotentInstanceTerminated", "The instances launched by this token have been terminated.")
        if self.conditions.replay_errors:
            others = [OfferError(offer, *quotas.UNFULFILLABLE) for offer, _ in request.overrides]
            return dataclasses.replace(answer, errors=tuple(others))
        return answer

    def _fill(self, request: FleetRequest, template: LaunchTemplate, now: float) -> FleetAnswer:
        fleet = f"fleet-{self._new_id()[-17:]}"
        machines: list[tuple[str, Offer]] = []
        errors: list[OfferError] = []
        order = list(request.overrides)
        if request.by_price:
            # Assumed, in place of EC2's unknown capacities: the cheapest pool is the best. Offers without a price come
            # last; offers of equal price keep the caller's order.
            order.sort(key=lambda item: self.price(item[0], now) or float("inf"))
        for offer, subnet in order:
            while len(machines) < request.count:
                # The first offer with room for all machines of `together` has room for each of them.
                others = request.count - 1 - len(machines) if request.together else 0
                if why := self._why_not(offer, subnet, template.content, request.group, now, others):
                    # Assumed: each offer that was tried and gave no machine has an error of its own.
                    errors.append(OfferError(offer, *why))
                    if offer.market is Market.SPOT and not why[0].startswith("Insufficient"):
                        errors.append(OfferError(offer, *quotas.UNFULFILLABLE))
                    break
                token = f"{fleet}-{len(machines)}"
                machines.append((self._launch(offer, subnet, template, request, token, now), offer))
        return FleetAnswer(fleet, tuple(machines), tuple(errors))

    def _why_not(
        self, offer: Offer, subnet: str, content: Content, group: str, now: float, others: int
    ) -> tuple[str, str] | None:
        """Return why there can be no more machine beside `others` that are not launched yet: code and message."""
        kind = self._types(offer.instance_type)
        if kind is None:
            return "InvalidParameterValue", f"Invalid value '{offer.instance_type}' for InstanceType"
        if unusable := self.images.why_no_machine(content, kind, now):
            return unusable
        if self.subnets.get(subnet) != offer.zone:
            return "InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist"
        if offer.zone not in kind.zones or (offer.market is Market.SPOT and not kind.spot):
            return "Unsupported", f"The requested configuration is currently not supported: {offer}"
        live = self.alive(now)
        if group and (misplaced := self.groups.why_no_machine(group, offer, kind, live, now)):
            return misplaced
        if self.conditions.unverified(self.began, now):
            return quotas.UNVERIFIED
        if offer.market is Market.RESERVED:
            return self.reservations.why_no_machine(content, offer, live, now, others)
        offers = [one.offer for one in live]
        exceeded = quotas.why_no_machine(self.conditions.quotas, offer, offers, self._types, others)
        return exceeded or self.conditions.why_full(offer, offers.count(offer) + others, self.began, now)

    def price(self, offer: Offer, now: float) -> float | None:
        """Return the offer's price at `now` in dollars an hour; None if no price rule fits."""
        return known[-1][1] if (known := self.prices(offer, now)) else None

    def prices(self, offer: Offer, now: float) -> list[tuple[float, float]]:
        """Return the offer's prices until `now`, oldest first: start (Unix seconds) and dollars an hour."""
        rules = (rule for rule in self.conditions.prices if rule.where.fits(offer) and self.began + rule.at <= now)
        return [(self.began + rule.at, rule.dollars) for rule in sorted(rules, key=lambda rule: rule.at)]

    def _launch(
        self, offer: Offer, subnet: str, template: LaunchTemplate, request: FleetRequest, token: str, now: float
    ) -> str:
        instance_id = f"i-{self._new_id()[-17:]}"
        # All of 127/8 is this computer's loopback. The first address is 127.0.1.0: 127.0.0.1 must stay free.
        number = 256 + len(self._instances) + len(self._forgotten)
        asked = template.content.public
        public = f"127.{place(number)}" if (self._assigns(subnet) if asked is None else asked) else ""
        private = self._address(number, request.together)
        born, tags = (Change(MachineState.PENDING, now),), dict(request.tags)
        ill = self._befalls(self.conditions.gpu_faults, offer)
        fault, group = ill.fault if ill else "", request.group
        self._instances[instance_id] = Instance(
            instance_id, offer, subnet, private, public, template, token, tags, born, group=group, gpu_fault=fault
        )
        self._plan(now + self.conditions.boot_delay, self._run, instance_id)
        if (taken_at := self.reservations.taken_at(template.content)) is not None:
            self._plan(taken_at, self._end, instance_id, *BLOCK_ENDED)
        if breakdown := self._befalls(self.conditions.breakdowns, offer):
            self._plan(now + breakdown.at, self._end, instance_id, breakdown.code, breakdown.message)
        return instance_id

    def _befalls(self, rules: tuple[_Mishap, ...], offer: Offer) -> _Mishap | None:
        """Return the first rule that fits and is not used up, and count its use; None if there is none."""
        for rule in rules:
            if rule.where.fits(offer) and (rule.times is None or self._befallen[rule] < rule.times):
                self._befallen[rule] += 1
                return rule
        return None

    # Machines' lives

    def _change(self, instance_id: str, change: Change, **fields: object) -> Instance:
        old = self._instances[instance_id]
        new = dataclasses.replace(old, history=(*old.history, change), **fields)  # type: ignore[arg-type]
        self._instances[instance_id] = new
        return new

    def _run(self, at: float, instance_id: str) -> None:
        old = self._instances.get(instance_id)
        if old is None or old.state != MachineState.PENDING:
            return
        self._events.append(Booted(self._change(instance_id, Change(MachineState.RUNNING, at), powered=True)))
        if old.offer.market is not Market.SPOT:
            return
        if interruption := self._befalls(self.conditions.interruptions, old.offer):
            self._plan(at + interruption.at, self._warn, instance_id, interruption.notice)
        if rebalance := self._befalls(self.conditions.rebalances, old.offer):
            self._plan(at + rebalance.at, self._recommend, instance_id)

    def _recommend(self, _at: float, instance_id: str) -> None:
        one = self._instances.get(instance_id)
        if one is not None and one.state == MachineState.RUNNING:
            self._events.append(Recommended(one))

    def _warn(self, at: float, instance_id: str, notice: float) -> None:
        old = self._instances.get(instance_id)
        if old is None or old.state != MachineState.RUNNING or old.taken_at is not None:
            return
        self._instances[instance_id] = dataclasses.replace(old, taken_at=at + notice)
        if notice:
            self._events.append(Noticed(self._instances[instance_id]))
        self._plan(at + notice, self._take, instance_id)

    def _take(self, at: float, instance_id: str) -> None:
        self._end(at, instance_id, "Server.SpotInstanceTermination", "Spot instance termination")

    def _end(self, at: float, instance_id: str, code: str, message: str) -> None:
        old = self._instances.get(instance_id)
        if old is None or old.state in ENDING:
            return
        user = code.startswith("Client.UserInitiated")
        transition = f"User initiated ({time.strftime('%Y-%m-%d %H:%M:%S GMT', time.gmtime(at))})" if user else code
        reason = code, f"{code}: {message}", transition
        ending = self._change(instance_id, Change(MachineState.SHUTTING_DOWN, at, *reason))
        if ending.powered:
            self._events.append(Unplugged(ending))
        self._plan(at + self.conditions.end_delay, self._finish, instance_id)

    def _finish(self, at: float, instance_id: str) -> None:
        """Terminate the machine, unless its power is still on: then `gone` terminates it."""
        old = self._instances[instance_id]
        if old.state == MachineState.SHUTTING_DOWN and not old.powered:
            self._change(instance_id, dataclasses.replace(old.now, state=MachineState.TERMINATED, at=at))
            self._plan(at + self.conditions.forget_after, self._forget, instance_id)

    def _forget(self, _at: float, instance_id: str) -> None:
        self._forgotten[instance_id] = self._instances.pop(instance_id)

    def gone(self, instance_id: str, now: float) -> None:
        """Record that the machine host has removed a machine after its `Unplugged` event."""
        self.advance(now)
        old = self._instances.get(instance_id)
        if old is None or not old.powered or old.state == MachineState.RUNNING:
            return
        self._instances[instance_id] = dataclasses.replace(old, powered=False)
        if now >= old.now.at + self.conditions.end_delay:
            self._finish(now, instance_id)

    def powered_off(self, instance_id: str, now: float) -> None:
        """Record that the machine powered itself off, and stop or terminate it (InstanceInitiatedShutdownBehavior)."""
        self.advance(now)
        old = self._instances.get(instance_id)
        if old is None or old.state != MachineState.RUNNING:
            return
        code, message = "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
        if old.template.content.on_power_off == "terminate":
            self._end(now, instance_id, code, message)
        else:
            stopped = Change(MachineState.STOPPED, now, code, f"{code}: {message}", code)
            self._change(instance_id, dataclasses.replace(stopped, state=MachineState.STOPPING))
            self._events.append(Unplugged(self._change(instance_id, stopped)))

    def interrupt(self, instance_id: str, now: float, *, notice: float = 120.0) -> None:
        """Send a spot machine its interruption notice now; EC2 reclaims the machine `notice` seconds later."""
        self.advance(now)
        self._warn(now, instance_id, notice)
        self.advance(now)

    def terminate(self, ids: Collection[str], now: float) -> dict[str, tuple[MachineState, MachineState]]:
        """Terminate machines; return their old and new states by id. For an unknown id, raise Refused and end none."""
        self.advance(now)
        before = self._listed(now, ids)
        for one in before:
            self._asked[one.id] += 1
            if not any(self._asked[one.id] <= rule.times for rule in self._unheeded(one)):
                self._end(now, one.id, "Client.UserInitiatedShutdown", "User initiated shutdown")
        after = {one.id: self._instances[one.id].state for one in before}
        self.advance(now)
        return {one.id: (one.state, after[one.id]) for one in before}

    def _unheeded(self, instance: Instance) -> Iterator[Unheeded]:
        return (rule for rule in self.conditions.unheeded if rule.where.fits(instance.offer))

    def create_image(
        self, instance_id: str, name: str, tags: Mapping[str, str], snapshot_tags: Mapping[str, str], now: float
    ) -> str:
        """Create a pending AMI of a running machine, with a `Captured` event; return the AMI's id. Raises Refused."""
        [one] = self.instances(now, [instance_id])
        if one.state is not MachineState.RUNNING:
            raise Refused("IncorrectInstanceState", f"The instance '{instance_id}' is not in state 'running'")
        content = one.template.content
        made = self.images.create(instance_id, content.image, name, tags, snapshot_tags, content.disk_gib, now)
        self._events.append(Captured(one, made.id))
        return made.id

    # Listings

    def instances(self, now: float, ids: Collection[str] = ()) -> list[Instance]:
        """Return all listed machines, or those with `ids`; raises Refused for an unlisted id or a disrupted zone."""
        self.advance(now)
        for rule in self.conditions.zone_troubles:
            named = [one.offer.zone for one in self._instances.values() if not ids or one.id in ids]
            affected = not ids or any(fnmatchcase(zone, rule.zone) for zone in named)
            if affected and self.began + rule.at <= now < self.began + rule.ends:
                # Assumed: the code.
                raise Refused("InternalError", "An internal error has occurred", 500)
        return self._listed(now, ids)

    def _listed(self, now: float, ids: Collection[str]) -> list[Instance]:
        self._looks += 1
        return listing.listed(self._instances.values(), ids, self.conditions, self.began, now, self._looks)

    def alive(self, now: float) -> list[Instance]:
        """Return every machine that is not terminated, whether listed or not."""
        self.advance(now)
        return [one for one in self._instances.values() if one.state != MachineState.TERMINATED]

    def history(self, instance_id: str) -> tuple[Change, ...]:
        """Return all states of the machine, forgotten or not, oldest first; raises KeyError for an unknown id."""
        return (self._instances.get(instance_id) or self._forgotten[instance_id]).history

    def impaired(self, instance_id: str, now: float) -> bool:
        """Return whether the machine's status checks fail."""
        one = self._instances[instance_id]
        return one.state == MachineState.RUNNING and any(
            rule.where.fits(one.offer) and now >= one.launch_time + rule.at for rule in self.conditions.impairments
        )

    def every(self) -> list[Instance]:
        """Return every machine that ever existed: first the forgotten ones, then the others in order of launch."""
        return [*self._forgotten.values(), *self._instances.values()]
