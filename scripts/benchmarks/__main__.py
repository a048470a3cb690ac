"""Run the measures one after the other; see scripts/bench."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.benchmarks import (
    attacks,
    commands,
    gangs,
    hour,
    lists,
    log_lines,
    logs,
    machines,
    page,
    scale,
    serving,
    slots,
    triggers,
    usage,
)
from scripts.benchmarks.figures import Figure, line, moved, read

Measure = Callable[[Path, bool], Iterator[Figure]]

MEASURES: tuple[Measure, ...] = (
    commands.help,
    commands.cold,
    triggers.warm,
    triggers.many,
    machines.machine,
    machines.follow,
    gangs.gang,
    logs.throughput,
    logs.slowdown,
    log_lines.log_lines,
    scale.idle,
    scale.busy,
    hour.hour,
    lists.lists,
    slots.slots,
    slots.outputs,
    serving.starts,
    serving.followers,
    serving.pages,
    page.page,
    page.page_lists,
    usage.usage,
    attacks.clock,
    attacks.others,
    attacks.owner,
    attacks.files,
    attacks.moved,
)


def main() -> None:
    measures = {measure.__name__: measure for measure in MEASURES}
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"measures to run, of {', '.join(measures)}; default: all")
    parser.add_argument("--quick", action="store_true", help="take only a few samples, to check that the measures work")
    parser.add_argument("--list", action="store_true", help="list the measures with their descriptions, and exit")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="also print figures that differ from those of an earlier run"
    )
    told = parser.parse_args()
    if unknown := [name for name in told.name if name not in measures]:
        parser.error(f"unknown measure: {', '.join(unknown)}; expected one of: {', '.join(measures)}")
    chosen = [measures[name] for name in told.name or measures]
    if told.list:
        for measure in chosen:
            print(f"{measure.__name__:<10} {(measure.__doc__ or '').splitlines()[0]}")
        return
    old = read(told.compare) if told.compare else []
    new: list[Figure] = []
    for measure in chosen:
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="provision-bench."))
        try:
            for found in measure(folder, told.quick):
                new.append(found)
                print(line(found), flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"== {measure.__name__}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if told.compare:
        print("\n".join(moved(old, new)) or "no figure differs by more than the noise", file=sys.stderr)


if __name__ == "__main__":
    main()
