"""A control plane in virtual time: the real services and store on the EC2 model, without network calls."""

from collections.abc import Collection, Iterator
from pathlib import Path

from provisioner.adapters.journal import Unkept
from provisioner.adapters.sql.store import SqlStore
from provisioner.adapters.ssh.asyncssh import AsyncSsh
from provisioner.core.access.callers import Caller
from provisioner.core.protocol.words import Engine
from provisioner.ports.bucket import Entry
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.service.control import Parts, Service
from provisioner.service.control_loop.launch_sites import Agent, LaunchSites
from provisioner.service.control_loop.loop import Intervals, Loop
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.installation import Installation, Policy
from provisioner.service.ssh_entry.entrance import Entrance

POLICY = Policy(
    installation="bench",
    image="ami-1",
    profile="machine",
    profiles={},
    security_groups=(),
    disk_gib=100,
    max_machines=None,
    engine=Engine.CONTAINER,
    boot_fuse=1200.0,
    reaper_grace=900.0,
)


class CountedBucket(MemoryBucket):
    """Counts requests as S3 bills them: PUT, COPY and LIST cost the same, GET less, DELETE nothing."""

    puts = gets = deletes = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self.puts += 1
        return super().put(key, data, if_absent=if_absent)

    def copy(self, source: str, target: str) -> None:
        self.puts += 1
        super().copy(source, target)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        self.puts += 1
        return super().list(prefix, after=after)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        self.gets += 1
        return super().get(key, start=start, length=length)

    def delete(self, keys: Collection[str]) -> None:
        self.deletes += bool(keys)
        super().delete(keys)


class CountedCloud(FakeCloud):
    """Counts calls of the cloud port. The further pages and the retries of a call are not counted."""

    calls = 0

    def _enter(self) -> float:
        self.calls += 1
        return super()._enter()


class World:
    """A control plane and its cloud in one thread; the clock advances when the control plane waits."""

    def __init__(self, folder: Path, clock: StepClock | None = None, bucket: MemoryBucket | None = None) -> None:
        """`bucket` replaces the counting bucket `self.bucket`."""
        self.clock = clock or StepClock()
        self.cloud, self.bucket, ids = CountedCloud(self.clock), CountedBucket(self.clock.now), CountingIds()
        self.store = SqlStore(folder / "store.db", ids)
        self.installation = Installation(
            self.store, self.cloud, bucket or self.bucket, self.clock, InlinePool(), ids, Unkept(), POLICY
        )
        sites = LaunchSites(self.installation, Agent("none", lambda: b""), lambda role, sha256: f"{role} {sha256}")
        self.reconciler = Reconciler(self.installation, sites)
        # No other process writes to this store, so the loop need not read its changes more often than once a minute.
        loop = Loop(self.installation, self.reconciler, "bench", "daemon", Intervals(glance=60.0))
        parts = Parts(
            self.installation, lambda: sites, lambda _: loop, lambda: Entrance(self.installation, AsyncSsh(), "")
        )
        self.service = Service(parts, Caller("bench", ("bench",), admin=True, source="local"))
