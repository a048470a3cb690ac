"""One pass: the epoch of its lease, its plans, its result, and methods to call a function for many items.

An error of one item never stops the other items: the pass collects all errors in its result.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from provisioner.core.cloud.machines import Machine
from provisioner.core.errors import ClockWrong, LeaseLost
from provisioner.core.run.plan import ALL_HEARD, Plan, Senses
from provisioner.core.run.records import Assignment, Launch, Live, Node, Record, Run
from provisioner.service.installation import Installation

T = TypeVar("T")
R = TypeVar("R")

#: Maximum number of items whose records are saved in one transaction. Each transaction waits for the disk once, and a
#: larger one would delay other processes that write to the store. After a crash, the next pass repeats the work that
#: was not saved.
GROUP = 100


@dataclass(frozen=True)
class PassError:
    """An error of a pass, and the ids of the run, launch and machine that it concerns; "" if it concerns none."""

    error: Exception
    run: str = ""
    launch: str = ""
    instance_id: str = ""


@dataclass
class PassResult:
    """The findings and errors of a pass."""

    #: Whether the next pass is due soon: a machine is alive, or a launch is open.
    busy: bool = False
    #: The earliest Unix time at which a waiting run is to be tried again.
    next_try_at: float | None = None
    #: The number of runs that were stored during the pass, too late for the pass to launch them.
    outrun: int = 0
    #: The store's `changes` before the pass last read the store: no pass has read later writes.
    seen: int | None = None
    #: Machines of the installation whose launch is not in this store; None if the machines could not be listed.
    foreign: tuple[Machine, ...] | None = None
    errors: list[PassError] = field(default_factory=list)


class Pass:
    """One pass under a lease. Every method raises LeaseLost and ClockWrong, which end the pass."""

    def __init__(self, installation: Installation, epoch: int) -> None:
        self._installation = installation
        self.epoch = epoch
        self.result = PassResult()
        #: Runs with a machine whose reports this pass did not read.
        self.unheard: frozenset[str] = frozenset()

    def live(self) -> Live:
        """Return all unfinished records of the store."""
        return self._installation.store.live()

    def plan(self, senses: Senses = ALL_HEARD) -> Plan:
        """Read the records, and return the plan for them."""
        live, store = self.live(), self._installation.store
        alive = {machine.id for machine in live.machines}
        missing = [node.instance_id for node in live.nodes if node.instance_id not in alive]
        ended = store.machines(missing) if missing else ()
        return Plan(live, self._installation.now(), ended, senses, self._installation.policy.max_machines)

    def report(self, errors: Iterable[tuple[object, Exception]]) -> None:
        """Add errors to the result; each is a pair of the record that it concerns and the error."""
        self.result.errors += [_error_of(error, whose) for whose, error in errors]

    def do(self, deed: Callable[[T], Sequence[Record]], items: Iterable[T]) -> None:
        """Call `deed` for each item, concurrently, and save the records that it returns, GROUP items at a time."""
        for group in _groups(items):
            self.save(self.each(deed, group))

    def save(self, news: Iterable[Sequence[Record]]) -> None:
        """Save all records of each item or none, GROUP items in one transaction.

        If the records of an item cannot be saved, its error is added to the result, and the other items are saved.
        """

        def save(records: Sequence[Record]) -> None:
            self._installation.save(records, epoch=self.epoch)

        for group in _groups(filter(None, news)):
            try:
                save(list(itertools.chain.from_iterable(group)))
            except (LeaseLost, ClockWrong):
                raise
            except Exception:  # noqa: BLE001 - saving each item alone shows which item cannot be saved
                self.each(save, group)

    def attempt(self, deed: Callable[[], T], whose: object = None) -> T | None:
        """Return the result of `deed`. After an error, report the error for the record `whose` and return None."""
        try:
            return deed()
        except (LeaseLost, ClockWrong):
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one step must not stop the steps that end machines
            self.result.errors.append(_error_of(error, whose))
            return None

    def each(self, deed: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call `deed` for each item, concurrently, and return the results of the calls that raised no error."""
        whose = list(items)
        results = self._installation.pool.map(deed, whose)
        for item, result in zip(whose, results, strict=True):
            if isinstance(result, LeaseLost | ClockWrong):
                raise result
            if isinstance(result, Exception):
                self.result.errors.append(_error_of(result, item))
        return [result for result in results if not isinstance(result, Exception)]


def _groups(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    while group := list(itertools.islice(waiting, GROUP)):
        yield group


def _error_of(error: Exception, whose: object) -> PassError:
    match whose:
        case Run():
            return PassError(error, whose.id, whose.launch)
        case Launch():
            return PassError(error, whose.runs[0] if len(whose.runs) == 1 else "", whose.id)
        case Assignment():
            return _error_of(error, whose.node)
        case [_, Assignment() | Node() as node, *_]:
            return _error_of(error, node)
        case Node():
            return PassError(error, whose.run, whose.launch, whose.instance_id)
        case [*records]:
            return _error_of(error, next((each for each in records if isinstance(each, Run | Node)), None))
        case _:
            return PassError(error)
