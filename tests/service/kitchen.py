"""An installation that makes AMIs, with a builder that answers as the test says."""

from collections.abc import Callable
from typing import Any, cast

from provisioner.core.cloud.caps.budget import NO_CAPS, Caps
from provisioner.core.cloud.machine_images import Ami
from provisioner.core.cloud.machines import ENDING
from provisioner.core.protocol.words import Engine
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, ListJournal, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.service.ami.bake import BakeRequest, Bakery
from provisioner.service.ami.builder import Told
from provisioner.service.ami.collection import Amis
from provisioner.service.control_loop.launch_sites import Agent, LaunchSites
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.installation import Installation, Policy, WayIn
from tests.service.memory_store import MemoryStore
from tests.service.shell import CONSOLE, FakeShell
from tests.service.trouble import Spoiled
from tests.service.world import TESTER

#: A function that is called in place of each call of a port, with the name of the call and the call itself.
Deal = Callable[[str, Callable[[], Any]], Any]
SCRIPTS = {"prepare.sh": b"p", "gpu/verify.sh": b"v", "preload.sh": b"l", "clean.sh": b"c", "tree/etc/x": b"x"}
#: Files of a rehearsed guest.
OTHERS = {"rehearsal/init": b"i", "rehearsal/files/etc/x": b"x"}


class Kitchen:
    """An installation in virtual time, and a Bakery whose calls may fail."""

    #: The builders' AWS endpoint, or "" for AWS itself.
    endpoint = ""

    def __init__(self, conditions: Conditions | None = None, caps: Caps = NO_CAPS) -> None:
        self.clock = StepClock()
        self.cloud = FakeCloud(self.clock, conditions or Conditions(boot_delay=20, image_delay=90))
        self.ids = CountingIds()
        self.store = MemoryStore(self.ids)
        self.bucket = MemoryBucket(self.clock.now)
        self.shell = FakeShell()
        self.policy = Policy(
            installation="kitchen",
            image="ami-base",
            profile="machine",
            profiles={},
            security_groups=("sg-all",),
            disk_gib=100,
            max_machines=None,
            engine=Engine.CONTAINER,
            boot_fuse=1200.0,
            reaper_grace=900.0,
            terms=RecipeDefaults(registry_credential="ssm:/registry"),
            way_in=WayIn(security_groups=("sg-ssh",)),
            caps=caps,
        )
        self.told: list[str] = []
        self.heard = bytearray()

    def installation(self, deal: Deal | None = None) -> Installation:
        def port(name: str, real: object) -> Any:
            return Spoiled(real, lambda method, deed, _: deal(f"{name}.{method}", deed)) if deal else real

        store, cloud = port("store", self.store), port("cloud", _Talking(self.cloud))
        return Installation(
            store, cloud, port("bucket", self.bucket), self.clock, InlinePool(), self.ids, ListJournal(), self.policy
        )

    def sites(self, installation: Installation) -> LaunchSites:
        return LaunchSites(installation, Agent("1", lambda: b"agent"), lambda role, sha256: f"{role} {sha256}")

    def amis(self, deal: Deal | None = None) -> Amis:
        installation = self.installation(deal)
        shell = cast(
            Any, Spoiled(self.shell, lambda method, deed, _: deal(f"shell.{method}", deed)) if deal else self.shell
        )
        self.shell.session = shell
        sites = self.sites(installation)
        scripts = SCRIPTS | OTHERS
        bakery = Bakery(installation, sites, shell, scripts, region="us-east-1", kind="gpu", endpoint=self.endpoint)
        return Amis(installation, sites, bakery, TESTER)

    def bake(self, wish: BakeRequest | None = None, deal: Deal | None = None) -> Ami:
        return self.amis(deal).bake(wish or BakeRequest(), Told(self.told.append, self.heard.extend))

    def alive(self) -> list[str]:
        return [one.id for one in self.cloud.model.alive(self.clock.now()) if one.state not in ENDING]

    def pass_(self) -> None:
        """Run one pass of the reconciler."""
        installation = self.installation()
        lease = self.store.acquire("daemon", "daemon", self.clock.now(), 60.0)
        assert lease is not None
        this_pass = Reconciler(installation, self.sites(installation)).once(lease)
        assert not this_pass.errors
        self.store.release(lease)

    def settled(self) -> None:
        """Assert that after some passes no machine, unfinished AMI or open launch is left."""
        for _ in range(5):
            self.clock.step(120)
            self.pass_()
        live = self.store.live()
        assert (self.alive(), live.launches, live.machines) == ([], (), ())


class _Talking:
    """The fake cloud, with machines that print their host keys."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._cloud = cloud

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cloud, name)

    def console(self, instance_id: str) -> str:
        self._cloud.console_of.setdefault(instance_id, CONSOLE)
        return self._cloud.console(instance_id)
