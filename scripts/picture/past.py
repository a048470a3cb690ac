"""Make runs of past weeks out of runs that have just ended in a rehearsal."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from provisioner.core.run.records import Record, Run
from provisioner.ports.store import Store

R = TypeVar("R")
#: Every greater number is a Unix time.
OLDEST = 1e9


def earlier(store: Store, run: Run, number: int, seconds: float, stretch: float) -> Iterator[Record]:
    """Yield the records of a copy of an ended run, `seconds` earlier, which takes `stretch` times as long."""
    nodes, events = store.nodes(run.id), store.events(run.id)
    names = {id: f"{number:08x}{id[8:]}" for id in (run.id, *(event.id for event in events))}
    launches = [found for id in {node.launch for node in nodes} if (found := store.launch(id))]
    names |= {launch.id: f"{number:04d}{launch.id[4:]}" for launch in launches}
    names |= {node.instance_id: f"{node.instance_id[:-4]}{number:04x}" for node in nodes}
    # About what the longer run costs: a machine that lives less than a minute is billed for one.
    hours = ((run.ended_at or run.created_at) - run.created_at) * stretch / 3600
    if run.dollars_at_most is not None:
        run = dataclasses.replace(run, dollars_at_least=0.4 * hours, dollars_at_most=0.45 * hours * run.scale)
    whole: list[Record] = [run, *events, *launches, *nodes, *store.machines([node.instance_id for node in nodes])]
    for record in whole:
        yield dataclasses.replace(_moved(record, names, run.created_at, run.created_at - seconds, stretch), version=0)


def _moved(value: R, names: Mapping[str, str], was: float, now: float, stretch: float) -> R:
    """Return the value with other names, and with times relative to `now` instead of `was`."""

    def moved(each: Any) -> Any:
        if isinstance(each, float) and each > OLDEST:
            return now + (each - was) * stretch
        if isinstance(each, str):
            for old, new in names.items():
                each = each.replace(old, new)
            # An enum's member stays one.
            return each
        if dataclasses.is_dataclass(each) and not isinstance(each, type):
            fields = {one.name: moved(getattr(each, one.name)) for one in dataclasses.fields(each)}
            return dataclasses.replace(each, **fields)
        if isinstance(each, tuple):
            return tuple(map(moved, each))
        if isinstance(each, Mapping):
            return {key: moved(one) for key, one in each.items()}
        return each

    changed: R = moved(value)
    return changed
