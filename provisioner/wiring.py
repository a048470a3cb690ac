"""Build the services from the settings. Only this module chooses the adapters of the ports."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from provisioner.adapters import aws
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.journal import StreamJournal, Unkept
from provisioner.adapters.s3 import S3
from provisioner.adapters.sql.store import SqlStore
from provisioner.adapters.system import RandomIds, SystemClock, ThreadPool, this_user
from provisioner.core.access.callers import Caller
from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Engine
from provisioner.ports.journal import Journal
from provisioner.ports.meter import Meter, Unmetered
from provisioner.service.control import Parts, Service
from provisioner.service.installation import Installation, Policy, WayIn
from provisioner.settings import BeforeSetup, Settings

# Each function imports what it alone needs: most commands need little, and importing everything takes longer than their
# work.
if TYPE_CHECKING:
    from provisioner.adapters.backup import About
    from provisioner.adapters.iam import Difference
    from provisioner.adapters.stack.setup import Setup
    from provisioner.core.check.lines import Line
    from provisioner.core.check.quotas import Need
    from provisioner.service.ami.collection import Amis
    from provisioner.service.collectors.reaper import Reaped
    from provisioner.service.control_loop.launch_sites import LaunchSites
    from provisioner.service.control_loop.loop import Loop
    from provisioner.service.ssh_entry.entrance import Entrance

#: Seconds after which a machine without a work order powers off: twice what the slowest GPU type needs to boot.
BOOT_FUSE = 1200.0
REAPER_GRACE = 900.0
#: Seconds between two looks at a stack of CloudFormation, most of whose resources take longer.
SETUP_INTERVAL = 2.0


def service(
    settings: Settings, kind: str = "command", journal: Journal | None = None, meter: Meter | None = None
) -> Service:
    """Return the services of this installation. `kind`, `command` or `daemon`, is the kind of lease to acquire."""
    installation = installed(settings, journal or Unkept(), meter)

    def loop(sites: LaunchSites) -> Loop:
        from provisioner.service.control_loop.loop import Intervals, Loop
        from provisioner.service.control_loop.reconciler import Reconciler

        rehearsal, intervals = settings.rehearsal, Intervals()
        if rehearsal:
            intervals = Intervals(busy=rehearsal.busy_interval, idle=rehearsal.idle_interval)
        holder = f"{socket.gethostname()} {os.getpid()} {installation.ids.new()[:8]}"
        return Loop(installation, Reconciler(installation, sites), holder, kind, intervals)

    def entrance() -> Entrance:
        from provisioner.adapters.agent_package import tail_source
        from provisioner.adapters.ssh.asyncssh import AsyncSsh
        from provisioner.service.ssh_entry.entrance import Entrance

        return Entrance(installation, AsyncSsh(), tail_source())

    return Service(Parts(installation, lambda: sites(settings, installation), loop, entrance), local(settings))


def local(settings: Settings) -> Caller:
    """Return the caller on the control host: an admin, because a user who can open the store can change all of it."""
    return Caller(f"local:{this_user()}", (settings.default_owner,), admin=True, source="local")


def amis(settings: Settings) -> Amis:
    """Return the service for the installation's own AMIs."""
    from provisioner.adapters import image_scripts
    from provisioner.adapters.ssh.paramiko import Ssh
    from provisioner.service.ami.bake import Bakery
    from provisioner.service.ami.collection import Amis

    installation = installed(settings, Unkept())
    places = sites(settings, installation)
    # A rehearsed machine has no NVIDIA GPU.
    kind = "rehearsal" if settings.rehearsal else "gpu"
    bakery = Bakery(
        installation,
        places,
        Ssh(),
        image_scripts.files(),
        region=settings.region,
        kind=kind,
        endpoint=_machine_endpoint(settings),
    )
    return Amis(installation, places, bakery, local(settings))


def _machine_endpoint(settings: Settings) -> str:
    """Return the AWS endpoint that machines use, or "" for AWS's own."""
    rehearsal = settings.rehearsal
    return (rehearsal.machine_endpoint or rehearsal.endpoint) if rehearsal else ""


def sites(settings: Settings, installation: Installation) -> LaunchSites:
    """Return the facts that launches need, with the user-data of these settings."""
    from provisioner.adapters import agent_package
    from provisioner.core.cloud.user_data import user_data
    from provisioner.service.control_loop.launch_sites import Agent, LaunchSites

    name, _, prefix = settings.bucket.strip("/").partition("/")
    fetch = agent_package.fetch_source()

    def text(role_id: str, sha256: str) -> str:
        return user_data(
            name,
            prefix,
            settings.region,
            role_id,
            sha256,
            fetch,
            boot_fuse=int(installation.policy.boot_fuse),
            endpoint=_machine_endpoint(settings),
        )

    return LaunchSites(installation, Agent(agent_package.fingerprint(), agent_package.build), text)


def journal(stream: TextIO, *, as_json: bool, colour: bool) -> Journal:
    """Return a journal that writes to the stream. A service that gets it closes it; otherwise the caller must."""
    return StreamJournal(stream, as_json=as_json, colour=colour)


def installed(settings: Settings, journal: Journal, meter: Meter | None = None) -> Installation:
    """Return the installation of these settings, with its adapters."""
    rehearsal, ids = settings.rehearsal, RandomIds()
    policy = Policy(
        installation=settings.installation,
        image=settings.image,
        profile=settings.instance_profile,
        profiles=settings.profiles,
        security_groups=settings.security_groups,
        profile_groups=settings.profile_security_groups,
        disk_gib=settings.disk_gib,
        max_machines=settings.max_machines,
        engine=Engine(rehearsal.engine) if rehearsal else Engine.CONTAINER,
        boot_fuse=rehearsal.boot_fuse if rehearsal else BOOT_FUSE,
        reaper_grace=rehearsal.reaper_grace if rehearsal else REAPER_GRACE,
        terms=settings.terms,
        caps=settings.caps,
        limits=settings.owner_limits,
        way_in=WayIn(
            settings.ssh.port, settings.ssh.user, settings.ssh.security_groups, settings.ssh.address == "public"
        ),
    )
    keys = None
    if settings.ssh.open:
        from provisioner.adapters.keys import DerivedKeys

        # Beside the store, so that an operator who moves the store moves the key too.
        keys = DerivedKeys(settings.store_path.with_suffix(".key"))
    session = _session(settings)
    return Installation(
        store=SqlStore(settings.store_path, ids),
        cloud=Ec2(settings.installation, session, settings.subnets),
        bucket=S3(settings.bucket, session),
        clock=SystemClock(),
        pool=ThreadPool(),
        ids=ids,
        journal=journal,
        policy=policy,
        keys=keys,
        meter=meter or Unmetered(),
    )


def backup(settings: Settings, target: str) -> int:
    """Write a backup of the store to a file or to `s3://BUCKET/KEY`; return its size in bytes.

    Other processes may use the store at the same time. Raises Invalid, Transient and CloudError.
    """
    from provisioner.adapters import backup as backups

    about = backups.About(settings.installation, settings.bucket, SystemClock().now())
    key = settings.store_path.with_suffix(".key")
    if not settings.store_path.exists():
        raise Invalid(f"no store at {settings.store_path}: check `store` in the settings")
    store = SqlStore(settings.store_path, RandomIds())
    with contextlib.closing(store):
        place = _s3(settings, target)
        if place is None:
            return backups.make(Path(target), about, store.backup, key)
        bucket, name = place
        with tempfile.TemporaryDirectory(prefix="provision-backup.", dir=settings.store_path.parent) as folder:
            path = Path(folder, "backup")
            size = backups.make(path, about, store.backup, key)
            bucket.put(name, path.read_bytes())
            return size


def restore(settings: Settings, source: str) -> About:
    """Restore the store from a backup in a file or at `s3://BUCKET/KEY`; return the backup's description.

    The settings name the store's path. Raises Conflict if the path is in use, Invalid, Transient and CloudError.
    """
    from provisioner.adapters import backup as backups

    place, key = _s3(settings, source), settings.store_path.with_suffix(".key")
    if place is None:
        return backups.restore(Path(source), settings.store_path, key, settings.installation, settings.bucket)
    bucket, name = place
    data = bucket.get(name)
    if data is None:
        raise Invalid(f"no backup at {source}")
    with tempfile.TemporaryDirectory(prefix="provision-restore.") as folder:
        path = Path(folder, "backup")
        path.write_bytes(data)
        return backups.restore(path, settings.store_path, key, settings.installation, settings.bucket)


def _s3(settings: Settings, name: str) -> tuple[S3, str] | None:
    """Return the bucket and the key of `s3://BUCKET/KEY`, or None for a path. Raises Invalid."""
    if not name.startswith("s3://"):
        return None
    bucket, _, key = name.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise Invalid(f"{name}: write s3://BUCKET/KEY")
    return S3(bucket, _session(settings)), key


def policies(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the IAM policies for these settings, by name: control, machine and trust."""
    from provisioner.adapters import policy_templates
    from provisioner.core.cloud.policies import filled

    return filled(policy_templates.templates(), settings.policy_values)


def policy_differences(settings: Settings, names: Collection[str], control: str) -> Iterator[Difference]:
    """Compare the policies with these names with those of the roles in the account. Raises CloudError.

    `control` is the control plane's role. If it is empty, the role of this process's own login is used.
    """
    from provisioner.adapters.iam import Iam

    with contextlib.closing(_session(settings)) as session:
        wanted = {name: document for name, document in policies(settings).items() if name in names}
        yield from Iam(session).differences(wanted, settings.policy_values.roles, control)


def resources_of_others(settings: Settings) -> Mapping[str, Mapping[str, int]]:
    """Return the number of EC2 resources with another installation's tag, by its name and their type."""
    from provisioner.adapters.iam import Iam

    with contextlib.closing(_session(settings)) as session:
        return Iam(session).of_others(settings.installation)


def setup(settings: BeforeSetup, vpc: str, sso_profile: str | None) -> Setup:
    """Return what sets up the account for these settings, with this process's own login.

    `vpc` is the id of an existing VPC, `default` or "". `sso_profile` is the one that the control plane uses: "" for
    a role of its own, and None for that of the existing stack.
    """
    from dataclasses import replace

    from provisioner.adapters import policy_templates
    from provisioner.adapters.stack.calls import SetupCalls
    from provisioner.adapters.stack.cloudformation import Stacks
    from provisioner.adapters.stack.setup import Setup
    from provisioner.core.cloud.policies import filled
    from provisioner.core.cloud.setup.stack import stack_name

    calls = SetupCalls(_session(settings))
    interval = settings.rehearsal.busy_interval if settings.rehearsal else SETUP_INTERVAL
    return Setup(
        calls,
        Stacks(calls, stack_name(settings.installation), interval=interval),
        settings.setup_wishes(vpc, sso_profile),
        lambda bucket: filled(policy_templates.templates(), replace(settings.policy_values, bucket=bucket)),
    )


def sso_role(profile: str) -> str:
    """Return the permission set of an SSO profile of this computer's AWS configuration; raises Invalid."""
    from provisioner.adapters.stack.setup import sso_role

    return sso_role(profile)


def alive(settings: BeforeSetup) -> list[str]:
    """Return what of the installation is not over: its machines, and the unfinished runs of the store, if there is one.

    A machine that is shutting down still uses its network.
    """
    session = _session(settings)
    with contextlib.closing(session):
        listed = Ec2(settings.installation, session, settings.subnets).machines().machines
    found = [f"machine {one.id} ({one.state})" for one in listed if one.state is not MachineState.TERMINATED]
    if settings.bucket and settings.store_path.exists():
        opened = service(settings)
        with contextlib.closing(opened):
            found += ["runs that are not done (`provision runs`)"] if opened.operator.unfinished() else []
    return found


def check(settings: Settings) -> Iterator[Line]:
    """Yield the lines of `provision check`, each as soon as it is known."""
    from provisioner.adapters.checks.account import Account
    from provisioner.core.check.caps import caps
    from provisioner.core.check.wanted import Wanted
    from provisioner.core.cloud.caps.budget import Budget
    from provisioner.service.control_loop.launch_sites import AMI
    from provisioner.service.installation import budget_for

    values, store = settings.policy_values, settings.store_path
    needs: Sequence[Need] = ()
    image, now = settings.image, SystemClock().now()
    limit = settings.caps.dollars_a_day
    budget = None if limit is None else Budget(limit, now)
    if store.exists():
        with contextlib.closing(SqlStore(store, RandomIds())) as opened:
            needs, image = _needs(opened), opened.chosen(AMI) or image
            budget = budget_for(opened, settings.caps, opened.live(), now)
    wanted = Wanted(
        installation=settings.installation,
        region=settings.region,
        bucket=settings.bucket,
        subnets=settings.subnets,
        groups={name: settings.profile_security_groups.get(name, settings.security_groups) for name in values.roles},
        roles=values.roles,
        image=image,
        disk_gib=settings.disk_gib,
        machine_policy=policies(settings)["machine"],
        needs=needs,
    )
    with contextlib.closing(_session(settings)) as session:
        yield from Account(session, wanted).lines()
    # The double's machines cost nothing.
    if budget or not settings.rehearsal:
        yield from caps(budget)


def _needs(store: SqlStore) -> Sequence[Need]:
    """Return what the stored jobs launch; a job that this version cannot run is left out."""
    from provisioner.core.check.quotas import need
    from provisioner.core.recipe.recipe import Recipe

    found = []
    for job in store.jobs(None):
        with contextlib.suppress(Invalid):
            found.append(need(f"{job.owner}/{job.name}", Recipe.load(job.recipe).spec))
    return found


def reap(settings: Settings, journal: Journal | None) -> Sequence[Reaped]:
    """Terminate the machines that are past their lifetime, and return them. Uses the cloud, but not the store."""
    from provisioner.service.collectors import reaper

    rehearsal = settings.rehearsal
    cloud = Ec2(settings.installation, _session(settings), settings.subnets)
    reaped = reaper.reap(cloud, rehearsal.reaper_grace if rehearsal else REAPER_GRACE)
    if journal:
        now = SystemClock().now()
        reaper.tell(reaped, journal, now)
        if not reaped:
            journal.tell("no machine has exceeded its lifetime", now)
    return reaped


def _session(settings: Settings) -> aws.Session:
    return aws.Session(settings.region, settings.rehearsal.endpoint if settings.rehearsal else None)
