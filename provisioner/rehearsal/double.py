"""Run the whole EC2 double in this process: cloud, bucket, metadata service and machines."""

import dataclasses
import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from provisioner.core.cloud.policies import NAMES, PolicyValues, filled
from provisioner.ports.clock import Clock
from provisioner.rehearsal.aws import rights
from provisioner.rehearsal.aws.account import ID, IMAGE_GIB, IMAGE_NAME, PROFILE, Account
from provisioner.rehearsal.aws.calls import Calls
from provisioner.rehearsal.aws.dead_end import dead_end, hosts
from provisioner.rehearsal.aws.faults import Faults
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.aws.rights import Rights
from provisioner.rehearsal.aws.signatures import Identities
from provisioner.rehearsal.ec2 import prices
from provisioner.rehearsal.ec2.api import Ec2
from provisioner.rehearsal.ec2.instance import Booted, Captured, Change, Event, Instance, Noticed, Recommended
from provisioner.rehearsal.ec2.machine_images import MachineImage
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.machines.host import Guest, MachineHost
from provisioner.rehearsal.scenario import Scenario
from provisioner.rehearsal.server import Server

#: Folder of the IAM policies: in an installed wheel, or else in a checkout.
POLICIES = next(
    folder
    for folder in (Path(__file__).parents[1] / "iam", Path(__file__).parents[2] / "config" / "iam")
    if folder.is_dir()
)

#: Moto's account is global to the process, so only one double can run in it.
_one_a_process = threading.Lock()


class Double:
    """A context manager that runs the double; on exit, all machines end and all resources are deleted.

    `calls` logs every request. Rules can be added to `faults` while the double runs. `bucket` is the installation's
    bucket, empty at first; the scenario's buckets exist in addition.
    """

    def __init__(
        self,
        scenario: Scenario,
        host: MachineHost,
        *,
        clock: Clock | None = None,
        port: int = 0,
        region: str = "us-east-1",
        bucket: str = "provision-rehearsal",
        prefix: str = "",
        installation: str = "rehearsal",
        profiles: Sequence[str] = (PROFILE,),
        policies: Path = POLICIES,
    ) -> None:
        """`policies` is the folder of the templates of IAM policies; `prefix` ends in `/` or is empty.

        The policies are filled in for `installation` and its instance profiles, whose roles have the same names.
        """
        self._host = host
        self._now = clock.now if clock else time.time
        self._scenario = scenario
        self.region, self.bucket, self.prefix = region, bucket, prefix
        self.installation, self.profiles = installation, tuple(profiles)
        self._port, self._policies = port, policies
        self.calls, self.faults = Calls(), Faults()
        for rule in scenario.faults:
            self.faults.add(rule)
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._closing = False
        #: Errors of the double itself; raised on exit.
        self._failures: list[Exception] = []
        #: AMI captures in progress, by instance id.
        self._captures: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if not _one_a_process.acquire(blocking=False):
                raise RuntimeError("this process already runs an EC2 double: start this one in a separate process")
            stack.callback(_one_a_process.release)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        """Start the parts in order; the stack closes the started ones in reverse order, also after an error."""
        scenario = self._scenario
        #: The IAM policies of this installation, by name.
        self.policies = filled(
            {name: json.loads((self._policies / f"{name}.json").read_text()) for name in NAMES},
            PolicyValues(
                installation=self.installation,
                region=self.region,
                bucket=f"{self.bucket}/{self.prefix}",
                roles={profile: profile for profile in self.profiles},
            ),
        )
        self.account = Account(
            self.region,
            {**({} if scenario.empty else {self.bucket: {}}), **scenario.buckets},
            scenario.parameters,
            scenario.secrets,
            self.policies,
            self.profiles,
            empty=scenario.empty,
        )
        stack.callback(self.account.close)
        self._model = Model(
            scenario.conditions,
            began=self._now(),
            types=self.account.instance_type,
            subnets=self.account.subnets,
            new_id=lambda: uuid.uuid4().hex,
            address=self._host.address,
            assigns=self.account.assigns_addresses,
        )
        self._model.images.publish(
            MachineImage(self.account.image_id, IMAGE_NAME, "amazon", "/dev/sda1", "x86_64", self._now(), IMAGE_GIB)
        )
        self._identities = Identities(self._role_id)
        self._metadata = Metadata(self._identities.machine, PROFILE)
        stack.callback(self._metadata.close)
        own = scenario.job_policy or rights.owners_own(
            self.region, scenario.buckets, scenario.parameters, scenario.secrets
        )
        if scenario.empty:
            # The machines' roles are those that the account gets later.
            self.rights = Rights(self.policies["control"], [own], self.account.rights_of)
        else:
            self.rights = Rights(self.policies["control"], [self.policies["machine"], own])
        ec2 = Ec2(
            self._model,
            self._lock,
            now=self._now,
            console=self._host.console,
            changed=self._changed.set,
            forget=self._host.forget,
            account=ID,
        )
        self._server = Server(
            self.account,
            ec2,
            lambda said: prices.products(self._model, self.region, said, self._now()),
            self._identities,
            self.rights,
            calls=self.calls,
            faults=self.faults,
            now=self._now,
            port=self._port,
        )
        self._dead_end = dead_end()
        stack.callback(self._dead_end.close)
        self._metadata.start()
        self._server.start()
        stack.callback(self._server.close)
        stack.callback(self._host.close)
        self._ends = stack.enter_context(ThreadPoolExecutor(8, thread_name_prefix="double-end"))
        ticker = threading.Thread(target=self._tick, name="double-time", daemon=True)
        ticker.start()
        stack.callback(ticker.join)
        stack.callback(self._stop)

    def _stop(self) -> None:
        self._closing = True
        self._changed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.check()

    # Interface for tests and commands

    def check(self) -> None:
        """Raise ExceptionGroup with the errors of the double itself, such as a machine that could not be booted."""
        if failures := [*self._failures, *self._server.failures]:
            raise ExceptionGroup("errors in the EC2 double", failures)

    @property
    def url(self) -> str:
        """The endpoint of every service."""
        return self._server.url

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which the control plane's process uses the double as AWS.

        In an empty account they are those of the administrator, who sets it up.
        """
        return self._environment(self._identities.administrator if self._scenario.empty else self._identities.control)

    def administrator_environment(self) -> dict[str, str]:
        """Return the variables of `environment` with credentials that have all rights, as a person who sets up AWS."""
        return self._environment(self._identities.administrator)

    def person_environment(self, policy: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of `environment` with credentials of a new person, who has the rights of the policy."""
        principal = f"person-{uuid.uuid4().hex}"
        self.rights.grant(principal, policy)
        return self._environment(self._identities.login(principal))

    def _environment(self, keys: Credentials) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def machine_environment(self, instance_id: str) -> dict[str, str]:
        """Return the variables of `environment` with this machine's credentials, for tests of its rights."""
        keys = self._identities.machine(instance_id)
        given = {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_SESSION_TOKEN": keys.token,
        }
        return self.environment() | given

    def alive(self) -> list[Instance]:
        """Return every machine that is not terminated, whether listed or not."""
        with self._lock:
            return self._model.alive(self._now())

    def history(self) -> Mapping[str, tuple[Change, ...]]:
        """Return all states of every machine that ever existed, oldest first, by instance id."""
        with self._lock:
            return {one.id: one.history for one in self._model.every()}

    def machines(self) -> list[Instance]:
        """Return every machine that ever existed."""
        with self._lock:
            return self._model.every()

    def images(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the ids of the account's own machine images, and the ids of its snapshots."""
        with self._lock:
            images = self._model.images
            own = tuple(one.id for one in images.shown() if one.owner == "self")
            return own, tuple(one.id for one in images.snapshots())

    def placement_groups(self) -> tuple[str, ...]:
        """Return the names of all placement groups."""
        with self._lock:
            return tuple(one.name for one in self._model.groups.shown())

    def written(self) -> dict[str, bytes]:
        """Return the objects in the scenario's buckets that are new or changed, by s3:// URL."""
        return {
            f"s3://{bucket}/{key}": data
            for bucket, before in self._scenario.buckets.items()
            for key, data in self.account.objects(bucket).items()
            if before.get(key) != data
        }

    def gpus(self, instance_type: str) -> int:
        """Return how many GPUs an instance type has, for the machine host; 0 for an unknown type."""
        known = self.account.instance_type(instance_type)
        return known.gpus if known else 0

    def interrupt(self, instance_id: str, *, notice: float = 120.0) -> None:
        """Send a spot machine its interruption notice now; EC2 reclaims the machine `notice` seconds later."""
        with self._lock:
            self._model.interrupt(instance_id, self._now(), notice=notice)
        self._changed.set()

    def change(self, **conditions: Any) -> None:
        """Replace fields of the conditions from now on, for instance when the control plane's login expires."""
        with self._lock:
            self._model.conditions = dataclasses.replace(self._model.conditions, **conditions)

    def power_off(self, instance_id: str) -> None:
        """Let EC2 show that the machine has powered itself off, as after a fault of its kernel."""
        self._powered_off(instance_id)

    def _role_id(self, instance_id: str) -> str:
        """Return the unique id of the machine's role; of the first profile's role for an unknown machine."""
        with self._lock:
            profiles = [one.template.content.profile for one in self._model.every() if one.id == instance_id]
        name = profiles[0].rpartition("/")[2] if profiles else ""
        return self.account.role_ids.get(name) or self.account.role_id_of(name) or self.account.role_id

    # Time

    def _tick(self) -> None:
        while True:
            self._changed.clear()
            # Read `_closing` after the event is cleared, so that a call of `_stop` in between is not missed.
            if self._closing:
                return
            with self._lock:
                self._model.advance(self._now())
                events, due = self._model.drain(), self._model.next_due()
            for event in events:
                self._attempt(self._follow, event)
            if not events:
                self._changed.wait(None if due is None else max(0.0, due - self._now()))

    def _follow(self, event: Event) -> None:
        one = event.instance
        if isinstance(event, Booted):
            guest = self._guest(one)
            self._metadata.add(guest)
            self._host.boot(guest, self._powered_off)
        elif isinstance(event, Noticed):
            self._metadata.announce(one.id, one.taken_at or 0.0)
        elif isinstance(event, Recommended):
            self._metadata.recommend(one.id)
        elif isinstance(event, Captured):
            self._captures[one.id] = self._ends.submit(self._capture, one.id, event.image)
        else:
            # Ending a machine may take long, so another thread does it. The host's `boot` has already returned, so the
            # host gets its calls in the right order.
            self._ends.submit(self._attempt, self._end, one)

    def _capture(self, instance_id: str, image_id: str) -> None:
        failure = ""
        try:
            self._host.capture(instance_id, image_id)
        except Exception as error:  # noqa: BLE001 - as in EC2, an error makes the AMI fail
            failure = f"Client.InternalError: {error}"
        with self._lock:
            self._model.images.captured(image_id, failure)

    def _end(self, one: Instance) -> None:
        if capture := self._captures.pop(one.id, None):
            capture.result()
        self._host.end(one.id)
        self._metadata.remove(one.id)
        with self._lock:
            self._model.gone(one.id, self._now())
        self._changed.set()

    def _powered_off(self, instance_id: str) -> None:
        with self._lock:
            self._model.powered_off(instance_id, self._now())
        self._changed.set()

    def _attempt(self, function: Any, argument: Any) -> None:
        try:
            function(argument)
        except Exception as error:  # noqa: BLE001 - one machine's error must not stop the others; raised on exit
            self._failures.append(error)

    def _guest(self, one: Instance) -> Guest:
        user_data, cut_off = one.template.content.user_data, False
        with self._lock:
            cut_off = any(fnmatchcase(one.offer.zone, zone) for zone in self._model.conditions.no_way_out)
        if cut_off:
            user_data = self._dead_end.user_data(user_data, self.url)
        return Guest(
            instance_id=one.id,
            instance_type=one.offer.instance_type,
            image_id=one.template.content.image,
            region=self.region,
            zone=one.offer.zone,
            market=one.offer.market.value,
            launch_time=one.launch_time,
            address=one.address,
            user_data=user_data,
            metadata_url=self._metadata.url(one.id),
            aws_url=self.url,
            public_address=one.public_address,
            gpu_fault=one.gpu_fault,
            hosts=hosts() if cut_off else "",
            open_metadata=lambda: self._metadata.listen(one.id),
        )
