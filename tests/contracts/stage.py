"""A cloud, real or fake, with controls for the test."""

from collections.abc import Callable
from dataclasses import dataclass

from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Template
from provisioner.core.cloud.machines import Machine, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import INSTALLATION_TAG, JOB_TAG, LAUNCH_TAG, LIFETIME_TAG
from provisioner.ports.cloud import Cloud
from provisioner.rehearsal.aws.account import PROFILE
from provisioner.rehearsal.fakes.clock import StepClock
from tests.polling import until

TYPE = "g5.xlarge"
INSTALLATION = "installation-1"
UNKNOWN = "i-0123456789abcdef0"


@dataclass
class Stage:
    """A cloud, with controls for the test."""

    cloud: Cloud
    clock: StepClock
    interrupt: Callable[[str], None]
    consoles: dict[str, str]
    image: str

    def request(self, token: str = "launch-1", *, market: Market = Market.SPOT, count: int = 1) -> LaunchRequest:
        """Return a launch request that may use every zone with the type."""
        catalog = self.cloud.catalog([TYPE])
        template = Template(
            image=self.cloud.image(self.image),
            profile_arn=self.cloud.profile(PROFILE).arn,
            security_groups=(),
            disk_gib=100,
            user_data="#!/bin/sh\ntrue\n",
        )
        tags = {INSTALLATION_TAG: INSTALLATION, LAUNCH_TAG: token, LIFETIME_TAG: "600", JOB_TAG: "a job: ü"}
        offers = tuple(Offer(market, TYPE, zone) for zone in catalog.types[TYPE].zones)
        return LaunchRequest(token, template, market, offers, catalog.subnets, count, tags)

    def launch(self, token: str = "launch-1", count: int = 1) -> list[str]:
        return ids(self.cloud.launch(self.request(token, count=count)))

    def find(self, instance_id: str) -> Machine:
        return next(machine for machine in self.cloud.machines().machines if machine.id == instance_id)

    def ended(self, instance_id: str) -> Machine:
        """Wait until the machine is listed as terminated; return it."""
        until(lambda: self.find(instance_id).state is MachineState.TERMINATED, f"the end of {instance_id}")
        return self.find(instance_id)


def ids(answer: LaunchAnswer) -> list[str]:
    return [machine.instance_id for machine in answer.machines]


Raise = Callable[..., Stage]
