"""Outcomes, steps, streams and other words that messages, records and users share; standard library only.

This module is separate from `messages`, because defining those classes takes longer than printing a command's help.
"""

from __future__ import annotations

from enum import Enum

STREAMS = ("system", "setup", "output")
#: The stream with one line for each ended command of a list. It is no part of the log.
RECORDS = "records"


class Outcome(str, Enum):
    """Why a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    REFUSED = "refused"

    __str__ = str.__str__


#: Outcomes of a rank that the loss of another machine may have caused: its command failed, or it was told to stop.
ENDED_BY_OTHERS = frozenset({Outcome.FAILED, Outcome.CANCELLED, Outcome.INTERRUPTED})


class SignalCause(str, Enum):
    """Why the agent first sent SIGTERM to a job."""

    NOTICE = "notice"
    STOP = "stop"
    LIMIT = "limit"
    NONE = "none"

    __str__ = str.__str__


class Step(str, Enum):
    """A step of a node's work; the members are in chronological order."""

    BOOT = "boot"
    PULL = "pull"
    CLONE = "clone"
    SETUP = "setup"
    #: Several machines of a run wait for each other, so that the command starts on all of them at the same time.
    BARRIER = "barrier"
    COMMAND = "command"
    LOGS = "logs"

    __str__ = str.__str__


class Engine(str, Enum):
    """How a job runs; `process` (without a container) is only for rehearsals."""

    CONTAINER = "container"
    PROCESS = "process"

    __str__ = str.__str__


class Attachment(str, Enum):
    """The form in which a job gets a secret."""

    VARIABLE = "environment_variable"
    FILE = "file"

    __str__ = str.__str__
