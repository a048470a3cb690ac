"""Bake a machine image (AMI): launch a builder, prepare and clean it, and make an AMI of it."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.cloud import machine_images
from provisioner.core.cloud.caps.affording import Terms, affordable
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Ami, AmiState
from provisioner.core.cloud.offers import Market, Offer, alike, wants_address
from provisioner.core.cloud.tags import INSTALLATION_TAG, JOB_TAG, LAUNCH_TAG, LIFETIME_TAG
from provisioner.core.cloud.user_data import builder_data
from provisioner.core.errors import CloudError, Conflict, Failed, Invalid, Retryable
from provisioner.ports.shell import Key, Session, Shell
from provisioner.service.ami.builder import Builder, Told, looks
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.ownership import claim
from provisioner.service.installation import Installation, budget_for

#: Maximum number of seconds of a bake, including the snapshot.
LIFETIME = 2 * 3600
#: Seconds between two progress lines while the machine image is pending.
PATIENCE = 30.0
#: The folder of our files on the builder; clean.sh deletes it.
FOLDER = "/tmp/provision-bake"
#: The builder's file with the digests of the Docker images that it has pulled.
PRELOADED = "/opt/provision/preloaded"


@dataclass(frozen=True)
class BakeRequest:
    """The inputs of a bake."""

    #: The machine image to begin with; if empty, the one in the settings.
    base: str = ""
    name: str = ""
    instance_type: str = "m6i.large"
    preload: tuple[str, ...] = ()
    #: None: the disk size of the base, or the settings' `disk_gib` if there are Docker images to preload.
    disk_gib: int | None = None


class Bakery:
    """Bakes machine images."""

    def __init__(
        self,
        installation: Installation,
        sites: LaunchSites,
        shell: Shell,
        scripts: Mapping[str, bytes],
        *,
        region: str,
        kind: str,
        endpoint: str = "",
    ) -> None:
        """`scripts` are the files of the folder `images/`; `kind` is its sub-folder whose verify.sh checks the base.

        `endpoint` is the URL at which the builder reaches AWS, or "" for AWS's own endpoints.
        """
        self._installation, self._sites, self._shell = installation, sites, shell
        self._verify = f"{kind}/verify.sh"
        ours = (name for name in scripts if "/" not in name or name.startswith("tree/") or name == self._verify)
        self._scripts = {name: scripts[name] for name in ours}
        self._region, self._endpoint = region, endpoint

    def bake(self, wish: BakeRequest, told: Told) -> Ami:
        """Bake a machine image and return it when it is available.

        After an error, the builder is terminated and the machine image deleted. Raises Failed, Conflict if the name is
        taken, and Invalid.
        """
        installation = self._installation
        claim(installation)
        began = installation.clock.now()
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(began))
        name = machine_images.check_name(wish.name or f"provision-{installation.policy.installation}-{moment}")
        machine_images.check_preloaded(wish.preload)
        if taken := [ami.id for ami in installation.cloud.amis() if ami.name == name]:
            raise Conflict(f"the AMI name {name} is already used by {taken[0]}")
        key = self._shell.key()
        request = self._request(wish, key)
        hourly = self._admitted(request)
        try:
            with Builder(installation, self._shell, request, LIFETIME, told, hourly) as builder:
                session = builder.session(key)
                try:
                    work = _Work(session, self._root(), self._left(began), told)
                    agent, preloaded = self._prepare(work, wish)
                finally:
                    session.close()
                date = time.strftime("%Y-%m-%d", time.gmtime(began))
                tags = machine_images.tags(
                    installation.policy.installation, agent, request.template.image.id, preloaded, date
                )
                id = installation.cloud.create_ami(builder.id, name, {**tags, LAUNCH_TAG: request.token})
                told.step(f"AMI {id} ({name}) is being created")
                return self._available(id, self._left(began)(), told)
        except BaseException:
            self._discard(request.token, told)
            raise

    def _root(self) -> Sequence[str]:
        """Return the words to put before a command, so that it runs as root and reaches AWS."""
        sudo = [] if self._installation.policy.way_in.user == "root" else ["sudo", "-n"]
        return [*sudo, *(["env", f"AWS_ENDPOINT_URL={self._endpoint}"] if self._endpoint else [])]

    def _left(self, began: float) -> Callable[[], float]:
        return lambda: max(1.0, began + LIFETIME - self._installation.clock.now())

    def _request(self, wish: BakeRequest, key: Key) -> LaunchRequest:
        """Return the request to launch one on-demand machine in any zone. Raises Invalid and CloudError."""
        installation, policy = self._installation, self._installation.policy
        image = self._sites.image(wish.base or policy.image)
        role = self._sites.role(policy.profile)
        catalog = self._sites.catalog([wish.instance_type])
        kind = catalog.types.get(wish.instance_type)
        if kind is None:
            raise Invalid(f"the region has no instance type {wish.instance_type}")
        if kind.architecture != image.architecture:
            raise Invalid(
                f"{kind.name} has architecture {kind.architecture}, but AMI {image.id} has {image.architecture}: "
                "choose another instance type or base"
            )
        if not kind.zones:
            raise Invalid(f"{kind.name} is not offered in any zone of the settings' subnets")
        disk = wish.disk_gib or (policy.disk_gib if wish.preload else image.disk_gib or policy.disk_gib)
        token = installation.ids.new()
        offers = tuple(Offer(Market.ON_DEMAND, kind.name, zone) for zone in kind.zones)
        offers = alike(offers, catalog)
        template = Template(
            image=image,
            profile_arn=role.arn,
            security_groups=(*policy.security_groups, *policy.way_in.security_groups),
            disk_gib=max(disk, image.disk_gib),
            user_data=builder_data(key.public, LIFETIME),
            role_id=role.role_id,
            installation=policy.installation,
            public_address=wants_address(offers[0], catalog),
        )
        tags = {
            INSTALLATION_TAG: policy.installation,
            LAUNCH_TAG: token,
            LIFETIME_TAG: str(LIFETIME),
            JOB_TAG: "provision ami bake",
        }
        return LaunchRequest(token, template, Market.ON_DEMAND, offers, catalog.subnets, 1, tags)

    def _admitted(self, request: LaunchRequest) -> float | None:
        """Return the most that an hour of the builder costs. Raises Failed if the cap does not allow its launch."""
        installation, now = self._installation, self._installation.clock.now()
        caps = installation.policy.caps
        budget = budget_for(installation.store, caps, installation.store.live(), now)
        terms = Terms(request.count, LIFETIME)
        found = affordable(request.offers, self._price, terms, budget, now, unknown_prices=caps.unknown_prices)
        if not found.offers:
            raise Failed(f"no builder was launched: {'; '.join(found.skipped)}")
        return found.hourly(request.offers)

    def _price(self, offer: Offer) -> float | None:
        known = self._sites.price(offer)
        return known.dollars if known else None

    def _prepare(self, work: "_Work", wish: BakeRequest) -> tuple[str, tuple[str, ...]]:
        """Prepare and clean the builder; return its agent's sha256 and the digests of its preloaded Docker images."""
        sha256, archive = self._sites.agent()
        agent = f"agent-{sha256}.zip"
        work.send({**self._scripts, agent: archive})
        if self._verify in self._scripts:
            work.run("verify", self._verify)
        work.run("prepare", "prepare.sh", "/", f"{FOLDER}/{agent}")
        preloaded: tuple[str, ...] = ()
        if wish.preload:
            credential = self._installation.policy.terms.registry_credential
            work.run("preload", "preload.sh", "/", self._region, credential, *wish.preload)
            preloaded = work.words(PRELOADED)
        work.run("clean", "clean.sh", "/")
        return sha256, preloaded

    def _available(self, id: str, limit: float, told: Told) -> Ami:
        clock = self._installation.clock
        began = spoken = clock.now()
        for _ in looks(clock, limit):
            try:
                found = [ami for ami in self._installation.cloud.amis() if ami.id == id]
            except Retryable:
                continue
            if found and found[0].state is AmiState.AVAILABLE:
                told.step(f"{id} is available")
                return found[0]
            if found and found[0].state is AmiState.FAILED:
                raise Failed(f"AMI {id} failed: {found[0].reason or 'EC2 gives no reason'}")
            if clock.now() >= spoken + PATIENCE:
                spoken = clock.now()
                told.step(f"{id} has been pending for {spoken - began:.0f} s")
        raise Failed(f"AMI {id} is still pending after {LIFETIME / 3600:.0f} h, the limit of a bake")

    def _discard(self, launch: str, told: Told) -> None:
        """Delete the machine image that was begun from this launch's machine, if there is one."""
        try:
            for ami in self._installation.cloud.amis():
                if ami.tags.get(LAUNCH_TAG) == launch:
                    self._installation.cloud.delete_ami(ami.id)
        except CloudError as error:
            told.step(f"an unfinished AMI may be left ({error}): check with `provision ami list`")


class _Work:
    """Copies files to FOLDER on the builder, and runs them as root."""

    def __init__(self, session: Session, root: Sequence[str], left: Callable[[], float], told: Told) -> None:
        self._session, self._root, self._left, self._told = session, root, left, told

    def send(self, files: Mapping[str, bytes]) -> None:
        self._told.step("send")
        folders = sorted({f"{FOLDER}/{name}".rpartition("/")[0] for name in files})
        self._do("send", ["mkdir", "-p", *folders])
        for name, data in files.items():
            self._session.put(f"{FOLDER}/{name}", data)

    def run(self, step: str, script: str, *words: str) -> None:
        self._told.step(step)
        self._do(step, [*self._root, "sh", f"{FOLDER}/{script}", *words])

    def words(self, path: str) -> tuple[str, ...]:
        """Return the words of a file on the builder. Raises Failed if it cannot be read."""
        said = bytearray()
        if code := self._session.run(shlex.join(["cat", path]), said.extend, self._left()):
            raise Failed(f"{path} cannot be read on the builder: exit code {code}")
        return tuple(said.decode().split())

    def _do(self, step: str, words: Sequence[str]) -> None:
        if code := self._session.run(shlex.join(words), self._told.output, self._left()):
            raise Failed(f"the step {step} exited with {code}; what it printed is above")
