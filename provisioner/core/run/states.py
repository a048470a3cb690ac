"""The states of a run, the table of its transitions, and the causes of waiting.

Only a run has states; attempts, nodes and launches have times and outcomes.
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


#: All transitions, with their reasons. A run reaches `done` only from `stopping`.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.QUEUED, State.LAUNCHING): "a launch is stored",
    (State.LAUNCHING, State.BOOTING): "a machine is bound",
    (State.LAUNCHING, State.QUEUED): "the launch gave no machine",
    (State.BOOTING, State.PREPARING): "the agent reports",
    (State.BOOTING, State.RUNNING): "the command executes",
    (State.PREPARING, State.RUNNING): "the command executes",
    (State.QUEUED, State.STOPPING): "stopped, refused or timed out before it got a machine",
    (State.LAUNCHING, State.STOPPING): "stopped while launching",
    (State.BOOTING, State.STOPPING): "the attempt has an outcome",
    (State.PREPARING, State.STOPPING): "the attempt has an outcome",
    (State.RUNNING, State.STOPPING): "the attempt has an outcome",
    (State.STOPPING, State.QUEUED): "next attempt",
    (State.STOPPING, State.DONE): "all of its machines are terminated",
}

#: The states in which a run may have a machine that is alive.
WITH_MACHINE = frozenset({State.BOOTING, State.PREPARING, State.RUNNING, State.STOPPING})


class WrongTransition(ProvisionError):
    """A bug: a transition was requested that the table does not have."""


def transition(old: State, new: State) -> State:
    """Return `new`; raises WrongTransition if it differs from `old` and the table has no such transition."""
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
    #: A fault of the control host or of the AWS account, such as expired credentials, which only a person can end.
    OPERATOR = "operator"
