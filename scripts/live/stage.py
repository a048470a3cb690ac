"""What checks share: the ports, the machines that they launched, and the cap on what these may cost."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from provisioner import wiring
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.journal import Unkept
from provisioner.adapters.s3 import S3
from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Template
from provisioner.core.cloud.machines import ENDING, Machine, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import JOB_TAG, LIFETIME_TAG, OWNER_TAG
from provisioner.core.errors import CloudError
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.settings import Settings
from scripts.live.recording import Player, Recorder

T = TypeVar("T")

#: The cheapest type that the default AMI boots on; without a GPU.
SMALL = "t3.micro"
#: Seconds until a machine without work powers itself off, and seconds after its launch when the reaper may end it.
FUSE, LIFETIME = 240, 600
#: Seconds that a state of AWS is waited for.
PATIENCE = 600.0
PAUSE = 2.0

HOURS_A_MONTH = 730


class Unexpected(Exception):
    """AWS answered otherwise than the double does."""


class Skipped(Exception):
    """The check cannot be made in this account; the text says why."""


@dataclass
class Budget:
    """What all machines of this call may cost. A machine counts with the price of its whole lifetime, in dollars."""

    cap: float
    committed: float = 0.0

    def commit(self, dollars_an_hour: float | None, seconds: float, what: str) -> None:
        """Count a machine, before it is launched; raise Skipped if it does not fit."""
        if dollars_an_hour is None:
            raise Skipped(f"the price of {what} is unknown, so the cap of ${self.cap:.2f} forbids it")
        dollars = dollars_an_hour * seconds / 3600
        if self.committed + dollars > self.cap:
            raise Skipped(f"{what} may cost ${dollars:.2f}, and ${self.committed:.2f} of ${self.cap:.2f} are committed")
        self.committed += dollars


@dataclass
class Stage:
    """The account that is checked."""

    settings: Settings
    session: Recorder | Player
    #: Part of all names of this recording, so that a replay asks for the same things.
    seed: str
    budget: Budget
    say: Callable[[str], None]
    #: Waits between two looks; a replay does not wait.
    pause: Callable[[float], None] = time.sleep
    #: The machines of all launches by token; None for a launch without an answer.
    launched: dict[str, Sequence[str] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = wiring.installed(self.settings, Unkept())
        self.cloud = Ec2(self.settings.installation, self.session, self.settings.subnets)
        self.bucket = S3(self.settings.bucket, self.session)
        policy = dataclasses.replace(known.policy, boot_fuse=FUSE)
        self._installation = dataclasses.replace(known, cloud=self.cloud, bucket=self.bucket, policy=policy)
        self.sites: LaunchSites = wiring.sites(self.settings, self._installation)

    def close(self) -> None:
        self._installation.store.close()
        self.session.close()

    def request(self, name: str, market: Market, types: Sequence[str] = (SMALL,)) -> LaunchRequest:
        """Return the request for one machine with the product's own template and a short fuse."""
        site = self.sites.site(self.settings.instance_profile, types)
        catalog = site.catalog
        offers = tuple(Offer(market, name, zone) for name in types for zone in catalog.types[name].zones)
        if not offers:
            raise Unexpected(f"no zone of the subnets has {', '.join(types)}")
        tags = {LIFETIME_TAG: str(LIFETIME), JOB_TAG: "live-check", OWNER_TAG: self.settings.default_owner}
        return LaunchRequest(f"live-{self.seed}-{name}", site.template, market, offers, catalog.subnets, 1, tags)

    def launch(self, request: LaunchRequest) -> LaunchAnswer:
        """Launch a machine within the budget."""
        name = request.offers[0].instance_type
        self.budget.commit(self.hourly(name, request.market, request.template), LIFETIME + wiring.REAPER_GRACE, name)
        # Before the call, because a machine whose launch is not answered must be ended too.
        self.launched[request.token] = None
        answer = self.cloud.launch(request)
        self.launched[request.token] = [machine.instance_id for machine in answer.machines]
        return answer

    def hourly(self, name: str, market: Market, template: Template) -> float | None:
        """Return an upper bound of an hour's price in dollars, of machine and disk; None if one of them is unknown."""
        prices = self.cloud.price_list([name])
        listed, disk = prices.machines.get(name), prices.disk(template)
        # Spot is never dearer than on-demand.
        most = listed.dollars if listed else None
        if most is None and market is Market.SPOT:
            spot = self.cloud.catalog([name]).prices
            most = max((price.dollars for offer, price in spot.items() if offer.instance_type == name), default=None)
        return None if most is None or disk is None else most + disk.dollars / HOURS_A_MONTH

    def machine(self, instance_id: str) -> Machine | None:
        """Return the machine from a listing of the whole installation; None if it is not listed."""
        return next((machine for machine in self.cloud.machines().machines if machine.id == instance_id), None)

    def until(self, look: Callable[[], T | None], what: str, patience: float = PATIENCE) -> tuple[T, float]:
        """Look until there is an answer; return it and the seconds that it took. Raises Unexpected after `patience`."""
        began = time.monotonic()
        while (found := look()) is None:
            if time.monotonic() > began + patience:
                raise Unexpected(f"not within {patience:.0f} s: {what}")
            self.pause(PAUSE)
        return found, time.monotonic() - began

    def ended(self, instance_id: str) -> tuple[Machine, float]:
        """Wait until a machine is listed as terminated; return it and the seconds."""

        def look() -> Machine | None:
            machine = self.machine(instance_id)
            return machine if machine and machine.state is MachineState.TERMINATED else None

        return self.until(look, f"{instance_id} is listed as terminated")

    def end_all(self) -> list[str]:
        """End every machine that was launched; return what may be alive still."""
        # A machine of a launch without an answer may be listed a minute later (EC2 API Reference, "Eventual
        # consistency": most calls need seconds).
        looks = 30 if None in self.launched.values() else 1
        known = {each for ids in self.launched.values() for each in ids or ()}
        alive: set[str] = known
        for look in range(60):
            try:
                found = [machine for token in self.launched for machine in self.cloud.machines_of(token)]
                ending = {machine.id for machine in found if machine.state in ENDING}
                alive = (known | {machine.id for machine in found}) - ending
                if not alive and look >= looks:
                    return []
                self.cloud.terminate(alive)
            except CloudError as error:
                self.say(f"machines cannot be ended yet: {error}")
            self.pause(PAUSE)
        unanswered = [f"tag provision:launch={token}" for token, ids in self.launched.items() if ids is None]
        return [*sorted(alive), *unanswered]
