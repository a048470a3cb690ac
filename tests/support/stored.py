"""Records of a store with plausible values."""

from provisioner.core.access.callers import Audit, Token
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import (
    Launch,
    Node,
    Run,
)

OFFER = Offer(Market.SPOT, "g5.xlarge", "us-east-1a")


def job(id: str = "j1", name: str = "train", owner: str = "ann") -> Job:
    return Job(id, owner, name, "{}", 1, 1.0, 1.0)


def run(id: str = "r1", *, at: float = 1.0, name: str = "train", owner: str = "ann", key: str = "") -> Run:
    return Run(id, "j1", name, 1, owner, "{}", at, idempotency_key=key)


def node(run: str = "r1", attempt: int = 1, rank: int = 0) -> Node:
    return Node(f"{run}.{attempt}.{rank}", run, attempt, rank, "l1", "t", f"i-{run}", f"A:i-{run}", 1.0, 1)


def launch(id: str = "l1") -> Launch:
    template = Template(Image("ami-1", "/dev/sda1", "x86_64"), "arn", ("sg-1",), 100, "#!/bin/sh\n")
    request = LaunchRequest(id, template, OFFER.market, (OFFER,), {OFFER.zone: "subnet-1"}, 1, {"tag": "é\n"})
    return Launch(request, ("r1",), 1.0)


def token(id: str = "t1", at: float = 1.0) -> Token:
    return Token(id, "5e", ("ann", "org/cat"), True, "é", at, "local:root", expires_at=9.0)


def audit(id: str = "a1", at: float = 1.0) -> Audit:
    return Audit(id, at, "local:root", "local", "start", "ann", "r1")
