"""Run seeded worlds in several processes; see scripts/worlds."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.service import chances, plans
from tests.service.violation import Violation

#: Seeds in one block, which one process runs before it returns its results.
EACH = 20


@dataclass(frozen=True)
class Broken:
    """One seed whose world broke a rule."""

    seed: int
    rule: str
    told: str
    #: The shrunk plan as Python code; empty with --no-shrink, or if a replay of the plan breaks no rule.
    plan: str = ""


def play(first: int, shrink: bool) -> list[Broken]:
    """Run the worlds of EACH seeds from `first` on; return those that broke a rule."""
    return [broken for seed in range(first, first + EACH) if (broken := _play(seed, shrink))]


def _play(seed: int, shrink: bool) -> Broken | None:
    world = chances.world(seed)
    try:
        plans.live(chances.lot(seed).plan, world)
    except Violation as error:
        plan = chances.recorded(seed, world)
        replays = shrink and plans.violation(plan) == error.rule
        return Broken(seed, error.rule, str(error), plans.told(plans.shrunk(plan, error.rule)) if replays else "")
    except Exception as error:  # noqa: BLE001 - an error in a world is reported like a broken rule
        return Broken(seed, type(error).__name__, str(error))
    return None


def _left(first: int, seeds: int, kept: set[int]) -> Iterator[int]:
    return (begin for begin in range(first, first + seeds, EACH) if begin not in kept)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/worlds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help=f"number of seeds, in blocks of {EACH}")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--kept", type=Path, help="file of the blocks that broke no rule; later runs skip them")
    parser.add_argument("--no-shrink", action="store_true", help="print no shortest plan for a broken rule")
    wish = parser.parse_args()
    kept = set(map(int, wish.kept.read_text().split())) if wish.kept and wish.kept.exists() else set()
    blocks = list(_left(wish.first, wish.seeds, kept))
    began, broken = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(wish.jobs, maxtasksperchild=20) as pool:
        results = [(first, pool.apply_async(play, (first, not wish.no_shrink))) for first in blocks]
        for number, (first, result) in enumerate(results, 1):
            found = result.get()
            for each in found:
                print(f"seed {each.seed}: {each.told[:600]}\n{each.plan}", flush=True)
            if not found and wish.kept:
                with wish.kept.open("a") as file:
                    file.write(f"{first}\n")
            broken += len(found)
            if number % 25 == 0:
                print(f"{number * EACH} seeds, {broken} violations, {time.monotonic() - began:.0f} s", flush=True)
    held = len(blocks) * EACH - broken
    print(f"{held} worlds broke no rule, {broken} broke a rule, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
