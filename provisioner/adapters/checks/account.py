"""Check an AWS account: read its facts in several threads, and yield the lines of `core.check`.

The calls only read, with two exceptions: launches are tried with DryRun, which launches nothing, and one empty object
is written to the bucket and deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from provisioner.adapters import aws
from provisioner.adapters.checks import ami, bucket, login, network, objects, quotas, roles
from provisioner.adapters.checks.looking import LOOK, Looker
from provisioner.core.check import ami as amis
from provisioner.core.check import bucket as buckets
from provisioner.core.check import login as logins
from provisioner.core.check import network as networks
from provisioner.core.check import objects as found_objects
from provisioner.core.check import quotas as limits
from provisioner.core.check import roles as rights
from provisioner.core.check.lines import Line, Unseen
from provisioner.core.check.login import Identity
from provisioner.core.check.wanted import Wanted
from provisioner.core.cloud.partitions import partition

#: An ARN of STS for a session of a role: what GetCallerIdentity returns for a role.
_SESSION = ":assumed-role/"


class Account:
    def __init__(self, session: aws.Session, wanted: Wanted, *, look: float = LOOK) -> None:
        """`look` is how many seconds one fact may take."""
        self._looker = Looker(session, look=look)
        self._wanted = wanted

    def lines(self) -> Iterator[Line]:
        """Yield the lines group by group, as soon as the facts of a group are read.

        If AWS accepts no call of this login, only that is reported.
        """
        identity = login.identity(self._looker)
        yield from logins.login(identity, self._wanted.region)
        yield from logins.clock(identity)
        if isinstance(identity, Unseen):
            return
        parts: list[Callable[[], Iterable[Line]]] = [
            self._bucket_and_roles,
            self._network,
            lambda: self._ami(identity),
            self._quotas,
            self._spot,
            self._objects,
        ]
        with ThreadPoolExecutor(len(parts), thread_name_prefix="check") as pool:
            for found in [pool.submit(lambda part: list(part()), part) for part in parts]:
                yield from found.result()

    def _bucket_and_roles(self) -> Iterator[Line]:
        looker, wanted = self._looker, self._wanted
        found = {name: roles.profile(looker, name, wanted.machine_policy) for name in wanted.roles}
        arns = {arn.rpartition("/")[2]: arn for _, arn in found.values() if arn}
        yield from buckets.bucket(bucket.bucket(looker, wanted.bucket, arns), wanted.bucket, wanted.region)
        for name, (profile, _) in found.items():
            yield from rights.profile(name, profile, wanted.roles[name], wanted.service)
        # A launch with something that does not exist fails for another reason than rights.
        if any(arn for _, arn in found.values()):
            yield from self._launching(next(name for name, (_, arn) in found.items() if arn))

    def _launching(self, profile: str) -> Iterator[Line]:
        looker, wanted = self._looker, self._wanted
        image, subnets = ami.ami(looker, wanted.image), network.subnets(looker, wanted.subnets)
        if isinstance(image, Unseen) or image is None or isinstance(subnets, Unseen) or not subnets:
            return
        kind = next((need.types[0] for need in wanted.needs), "g4dn.xlarge")
        groups = wanted.groups.get(profile, ())
        yield from rights.launching(
            roles.launches(looker, wanted.installation, image.id, subnets[0].id, groups, profile, kind)
        )

    def _network(self) -> Iterator[Line]:
        looker, wanted = self._looker, self._wanted
        subnets = network.subnets(looker, wanted.subnets)
        known = () if isinstance(subnets, Unseen) else subnets
        routes = network.routes(looker, known)
        yield from networks.subnets(subnets, routes, wanted.subnets, wanted.region)
        vpcs = {subnet.vpc for subnet in known}
        for ids in dict.fromkeys(tuple(sorted(ids)) for ids in wanted.groups.values()):
            yield from networks.groups(network.groups(looker, ids, vpcs), ids, vpcs, wanted.gangs)

    def _ami(self, identity: Identity) -> Iterator[Line]:
        looker, wanted = self._looker, self._wanted
        yield from amis.ami(ami.ami(looker, wanted.image), wanted.image, wanted.disk_gib, time.time())
        yield from amis.disks(ami.disks(looker, dict([_principal(identity, wanted.region)])))

    def _quotas(self) -> Iterator[Line]:
        looker, needs = self._looker, self._wanted.needs
        values = quotas.values(looker, limits.concerned(needs))
        vcpus = quotas.vcpus(looker, {name for need in needs for name in need.types})
        yield from limits.quotas(needs, values, vcpus)

    def _spot(self) -> Iterator[Line]:
        yield from limits.spot(roles.spot_role(self._looker), self._wanted.needs)

    def _objects(self) -> Iterator[Line]:
        yield from found_objects.objects(objects.objects(self._looker), self._wanted.installation)


def _principal(identity: Identity, region: str) -> tuple[str, str]:
    """Return the name and ARN of the user or role of the login.

    The ARN of a role's session lacks the role's path, so IAM finds only roles without one (IAM User Guide, "IAM
    identifiers").
    """
    if _SESSION not in identity.arn:
        return identity.arn.rpartition("/")[2], identity.arn
    name = identity.arn.partition(_SESSION)[2].partition("/")[0]
    return name, f"arn:{partition(region).name}:iam::{identity.account}:role/{name}"
