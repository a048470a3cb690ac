"""Views of a run's receipt."""

from dataclasses import dataclass
from typing import Annotated

from provisioner.core.protocol.words import Outcome
from provisioner.core.views.codec import Moment


@dataclass(frozen=True)
class Price:
    """A price in US dollars: for an hour of a machine, or for a month of a disk."""

    dollars: float
    source: str
    at: Moment


@dataclass(frozen=True)
class Phase:
    """A part of a run's time. Phases that are not `beside` follow each other from the trigger until the run is done."""

    name: Annotated[
        str,
        "queued, launching, pending, boot, pull, clone, setup, barrier, command, logs, ending (after the result), kept"
        " (waiting for the run's next attempt), silent (no result after the last report), gone or closing",
    ]
    attempt: int
    rank: int
    beside: bool
    billed: bool
    began: Moment
    ended: Moment | None
    seconds: float | None
    source: str
    began_source: Annotated[str, "store, LaunchTime, listing, agent or transition reason"]
    began_error: Annotated[float, "Most seconds by which the true time may differ."]
    ended_source: str | None
    ended_error: float | None


@dataclass(frozen=True)
class Bill:
    """The cost of one machine."""

    instance_id: str
    attempt: int
    rank: int
    instance_type: str
    zone: str
    market: str
    seconds_at_least: int
    seconds_at_most: int
    price: Price | None
    dollars_at_least: float | None
    dollars_at_most: float | None
    disk_gib: int | None
    disk_gib_seconds_at_least: int | None
    disk_gib_seconds_at_most: int | None
    disk_price: Price | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None
    # Older servers do not send this field.
    reservation: Annotated[
        str | None,
        "The id of its capacity reservation, or null. The account pays for the reservation in any case: `price` and"
        " the dollars are AWS's on-demand list price, already paid. For a Capacity Block, both are null.",
    ] = None
    free: Annotated[bool, "Whether it is free because AWS interrupted it in its first hour; its disk is not."] = False


@dataclass(frozen=True)
class Receipt:
    """The time and cost of a run, by phase and by machine."""

    run: str
    job: str
    owner: str
    outcome: Outcome | None
    exit_code: int | None
    process_exit_code: int | None
    provisional: Annotated[bool, "Whether the run has not ended, or a machine of it is not terminated yet."]
    created_at: Moment
    ended_at: Moment | None
    phases: tuple[Phase, ...]
    machines: tuple[Bill, ...]
    dollars_at_least: Annotated[float | None, "Cost of the machines without their disks."]
    dollars_at_most: float | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None
    advice: str | None
    # Older servers do not send this field.
    cost_limit: Annotated[float | None, "`limits.cost` of the recipe, which limits the machines' cost."] = None
