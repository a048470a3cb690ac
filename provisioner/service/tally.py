"""What there is, counted: the figures that outlive a process, since the store has them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.messages import Outcome
from provisioner.core.run.states import State
from provisioner.service.installation import Installation


@dataclass(frozen=True)
class Tally:
    #: Runs that are not done, by their state and, where they wait, for what.
    runs: Mapping[tuple[State, str], int]
    #: All runs that have ended.
    outcomes: Mapping[Outcome, int]
    #: Machines that are not listed as terminated.
    machines: Mapping[tuple[Market, MachineState], int]
    #: Seconds since the end of a machine was wanted that has not come about yet; 0 where there is none.
    oldest_obligation: float


def tally(installation: Installation) -> Tally:
    """Cheap at 10,000 runs: what is live is in memory, and what has ended is counted in an index."""
    live, now = installation.store.live(), installation.clock.now()
    wanted = [machine.end_wanted_at for machine in live.machines if machine.end_wanted_at is not None]
    return Tally(
        runs=Counter((run.state, str(run.waiting or "")) for run in live.runs),
        outcomes=installation.store.outcomes(),
        machines=Counter((machine.offer.market, machine.state) for machine in live.machines),
        oldest_obligation=max(0.0, now - min(wanted, default=now)),
    )
