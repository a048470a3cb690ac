"""What a world knows and the control plane may not: the truth against which its rules are checked."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from provisioner.ports.store import Store
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.service.installation import Policy
from tests.service.agents import Agent, Executions
from tests.service.list_truth import ListTruth

#: Limits that keep a world short, and that define a healthy machine.
LIMITS = {"boot": "5m", "pull": "5m", "setup": "5m", "runtime": "20m", "stop_grace": "10s"}


@dataclass
class Truth:
    """The parts of a world that the rules read."""

    store: Store
    cloud: FakeCloud
    bucket: MemoryBucket
    executions: Executions
    agents: Mapping[str, Agent]
    lists: ListTruth
    now: Callable[[], float]
    began: float
    busy: float
    policy: Policy


def covered(spans: Collection[tuple[float, float]], since: float, until: float) -> float:
    """Return the seconds between `since` and `until` that the spans cover together."""
    covered, end = 0.0, since
    for begins, ends in sorted(spans):
        begins, ends = max(begins, end), min(ends, until)
        if ends > begins:
            covered, end = covered + ends - begins, ends
    return covered
