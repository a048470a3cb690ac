"""One pass: its lease's epoch, its plans, its result, and its ways to call a function for many items.

An error of one item never stops the others: errors are gathered and reported together.
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

#: Items whose records are saved in one transaction, which waits for the disk once. A larger one would delay other
#: processes that write to the store. The next pass repeats work that a crash lost.
GROUP = 100


@dataclass(frozen=True)
class PassError:
    """An error of a pass, and the run, launch or machine that it is about, if it is about one."""

    error: Exception
    run: str = ""
    launch: str = ""
    instance_id: str = ""


@dataclass
class PassResult:
    """The findings and errors of a pass."""

    #: A machine lives or a launch is open: the next pass is soon due.
    busy: bool = False
    #: The earliest time at which a waiting run is to be looked at again.
    next_try_at: float | None = None
    #: How many runs were stored during the pass, too late to be launched by it.
    outrun: int = 0
    #: The store's `changes` before the pass read it last: no pass has seen later writes.
    seen: int | None = None
    #: Machines of the installation whose launch this store never made; None when nothing could be listed.
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
        """Read the records of everything that is unfinished."""
        return self._installation.store.live()

    def plan(self, senses: Senses = ALL_HEARD) -> Plan:
        """Read the records, and return the plan for them."""
        live, store = self.live(), self._installation.store
        alive = {machine.id for machine in live.machines}
        missing = [node.instance_id for node in live.nodes if node.instance_id not in alive]
        ended = store.machines(missing) if missing else ()
        return Plan(live, self._installation.now(), ended, senses, self._installation.policy.max_machines)

    def report(self, errors: Iterable[tuple[object, Exception]]) -> None:
        """Add errors to the result, each with the record that it is about."""
        self.result.errors += [_error_of(error, whose) for whose, error in errors]

    def do(self, deed: Callable[[T], Sequence[Record]], items: Iterable[T]) -> None:
        """Call `deed` for each item, several at once, and save the records that it returns, GROUP items at a time."""
        for group in _groups(items):
            self.save(self.each(deed, group))

    def save(self, news: Iterable[Sequence[Record]]) -> None:
        """Save the records of each item completely or not at all, GROUP items in one transaction.

        Records that cannot be saved are reported, and the others of their group are saved.
        """

        def save(records: Sequence[Record]) -> None:
            self._installation.save(records, epoch=self.epoch)

        for group in _groups(filter(None, news)):
            try:
                save(list(itertools.chain.from_iterable(group)))
            except (LeaseLost, ClockWrong):
                raise
            except Exception:  # noqa: BLE001 - saving each item alone shows which one it is
                self.each(save, group)

    def attempt(self, deed: Callable[[], T], whose: object = None) -> T | None:
        """Return what `deed` returns, or None after an error, which is reported as that of `whose`."""
        try:
            return deed()
        except (LeaseLost, ClockWrong):
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one step must not stop the steps that end machines
            self.result.errors.append(_error_of(error, whose))
            return None

    def each(self, deed: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call `deed` for each item, several at once. Return the results of the calls that raised nothing."""
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
