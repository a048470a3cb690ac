"""The states of a run, the one table of its transitions, and the words for why it waits.

Attempts, nodes and launches carry times and outcomes; only a run has states.
"""

from enum import StrEnum

from provisioner.core.errors import ProvisionError


class State(StrEnum):
    QUEUED = "queued"
    LAUNCHING = "launching"
    BOOTING = "booting"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"


#: Every edge there is, with its reason. `stopping` is the only way to `done`.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.QUEUED, State.LAUNCHING): "a launch is stored",
    (State.LAUNCHING, State.BOOTING): "a machine is bound",
    (State.LAUNCHING, State.QUEUED): "the launch gave no machine",
    (State.BOOTING, State.PREPARING): "the agent reports",
    (State.BOOTING, State.RUNNING): "the command executes",
    (State.PREPARING, State.RUNNING): "the command executes",
    (State.QUEUED, State.STOPPING): "stopped, refused or timed out before a machine",
    (State.LAUNCHING, State.STOPPING): "stopped while launching",
    (State.BOOTING, State.STOPPING): "the attempt has an outcome",
    (State.PREPARING, State.STOPPING): "the attempt has an outcome",
    (State.RUNNING, State.STOPPING): "the attempt has an outcome",
    (State.STOPPING, State.QUEUED): "next attempt",
    (State.STOPPING, State.DONE): "no machine of it lives",
}

#: A machine may be alive for a run in these.
WITH_MACHINE = frozenset({State.BOOTING, State.PREPARING, State.RUNNING, State.STOPPING})


class WrongTransition(ProvisionError):
    """A bug of ours: a run was asked to go where no edge leads."""


def transition(old: State, new: State) -> State:
    """`new`, if an edge leads there (or nothing changes); raises WrongTransition otherwise."""
    if old != new and (old, new) not in TRANSITIONS:
        raise WrongTransition(f"a run cannot go from {old} to {new}")
    return new


class Waiting(StrEnum):
    """Why a queued run waits."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    LIMIT = "limit"
    THROTTLE = "throttle"
    CONFIGURATION = "configuration"
    PREVIOUS_MACHINE = "previous machine"
    #: A fault of the control host, which its operator must repair.
    OPERATOR = "operator"
