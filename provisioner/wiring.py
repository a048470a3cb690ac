"""The only module that picks adapters."""

import os
import socket
from collections.abc import Sequence

from provisioner.adapters import archive
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.s3 import S3
from provisioner.adapters.sql.store import SqlStore
from provisioner.adapters.system import RandomIds, SystemClock, ThreadPool
from provisioner.core.userdata import user_data
from provisioner.core.work import Engine
from provisioner.service import reaper
from provisioner.service.control import Service
from provisioner.service.installation import Installation, Policy
from provisioner.service.loop import Intervals, Loop
from provisioner.service.reaper import Reaped
from provisioner.service.reconciler import Reconciler
from provisioner.service.site import Agent, Sites
from provisioner.settings import Settings

#: A machine without a work order is gone after 20 minutes: twice what the slowest GPU type needs to boot.
BOOT_FUSE = 1200.0
REAPER_GRACE = 900.0


def service(settings: Settings, kind: str = "command") -> Service:
    """The use cases on the installation of these settings; `kind` says what holds the lease: command or daemon."""
    installation = installed(settings)
    name, _, prefix = settings.bucket.strip("/").partition("/")
    rehearsal = settings.rehearsal
    fetch = archive.fetch_source()

    def text(role_id: str, sha256: str) -> str:
        return user_data(
            name,
            prefix,
            settings.region,
            role_id,
            sha256,
            fetch,
            boot_fuse=int(installation.policy.boot_fuse),
            endpoint=(rehearsal.machine_endpoint or rehearsal.endpoint) if rehearsal else "",
        )

    sites = Sites(installation, Agent(archive.fingerprint(), archive.build), text)
    intervals = Intervals()
    if rehearsal:
        intervals = Intervals(busy=rehearsal.busy_interval, idle=rehearsal.idle_interval)
    holder = f"{socket.gethostname()} {os.getpid()} {installation.ids.new()[:8]}"
    loop = Loop(installation, Reconciler(installation, sites), holder, kind, intervals)
    return Service(installation, loop, settings.default_owner)


def installed(settings: Settings) -> Installation:
    """The adapters of an installation."""
    rehearsal, ids = settings.rehearsal, RandomIds()
    policy = Policy(
        installation=settings.installation,
        image=settings.image,
        profile=settings.instance_profile,
        profiles=settings.profiles,
        security_groups=settings.security_groups,
        disk_gib=settings.disk_gib,
        max_machines=settings.max_machines,
        engine=Engine(rehearsal.engine) if rehearsal else Engine.CONTAINER,
        boot_fuse=rehearsal.boot_fuse if rehearsal else BOOT_FUSE,
        reaper_grace=rehearsal.reaper_grace if rehearsal else REAPER_GRACE,
        terms=settings.terms,
    )
    endpoint = rehearsal.endpoint if rehearsal else None
    return Installation(
        store=SqlStore(settings.store_path, ids),
        cloud=Ec2(settings.installation, settings.region, settings.subnets, endpoint=endpoint),
        bucket=S3(settings.bucket, settings.region, endpoint=endpoint),
        clock=SystemClock(),
        pool=ThreadPool(),
        ids=ids,
        policy=policy,
    )


def reap(settings: Settings) -> Sequence[Reaped]:
    """The reaper alone: the cloud and the installation's id are all it needs."""
    rehearsal = settings.rehearsal
    endpoint = rehearsal.endpoint if rehearsal else None
    cloud = Ec2(settings.installation, settings.region, settings.subnets, endpoint=endpoint)
    return reaper.reap(cloud, rehearsal.reaper_grace if rehearsal else REAPER_GRACE)
