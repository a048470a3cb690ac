"""A work order that is already in a mailbox, because the process that put it was killed before it could save that."""

import json
from typing import Any

import pytest

from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import work_key
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Assignment, Node
from provisioner.service.control_loop.mailboxes import Mailboxes
from tests.service.alone import Alone
from tests.support import samples

NODE = samples.node(work_put_at=None)
HELD = Assignment(NODE, samples.machine())
KEY = work_key(NODE.box)


@pytest.fixture
def alone() -> Alone:
    return Alone()


def put(alone: Alone) -> Node:
    """Put the work order of NODE; return the node as it is then stored."""
    [node] = Mailboxes(alone.installation).put_work(samples.run(), samples.recipe(), HELD, 1)
    assert isinstance(node, Node)
    return node


def first_put(alone: Alone) -> dict[str, Any]:
    """Put the work order, and return the message."""
    put(alone)
    message: dict[str, Any] = json.loads(alone.bucket.objects[KEY][0])
    return message


def hold(alone: Alone, message: object) -> None:
    alone.bucket.put(KEY, json.dumps(message).encode())


def test_the_same_work_order_is_put_once(alone: Alone) -> None:
    before = first_put(alone)
    assert put(alone).work_put_at == alone.clock.now()
    assert decode(WorkOrder, alone.bucket.objects[KEY][0]) == decode(WorkOrder, json.dumps(before).encode())


@pytest.mark.parametrize("difference", [{"gather_limit": None}, {"later": "x" * 10_000}, {"known_hosts": "host key"}])
def test_work_order_of_another_version_or_with_other_settings_counts_as_put(
    alone: Alone, difference: dict[str, Any]
) -> None:
    """The machine executes it, and must not be ended because the control plane was upgraded."""
    message = {name: value for name, value in (first_put(alone) | difference).items() if value is not None}
    hold(alone, message)
    node = put(alone)
    assert (node.work_put_at, node.verdict) == (alone.clock.now(), None)
    assert json.loads(alone.bucket.objects[KEY][0]) == message


@pytest.mark.parametrize(
    "difference", [{"run": "other"}, {"attempt": 2}, {"rank": 1}, {"job": 7}, {"job": "x" * 100_000}]
)
def test_attempt_is_lost_if_another_work_order_is_in_the_mailbox(alone: Alone, difference: dict[str, Any]) -> None:
    """The machine may execute that other work. Unreadable or far too long objects count as another work order."""
    hold(alone, first_put(alone) | difference)
    node = put(alone)
    assert node.verdict is not None
    assert (node.work_put_at, node.verdict.outcome) == (None, Outcome.LOST)
