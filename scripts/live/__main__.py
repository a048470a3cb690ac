"""Make the checks one after the other; see scripts/live-check."""

import argparse
import contextlib
import functools
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.exceptions

from provisioner.core.errors import Invalid, ProvisionError
from provisioner.settings import Settings, load
from scripts.live import runs
from scripts.live.checks import CHECKS, GPU
from scripts.live.recording import Player, Recorder
from scripts.live.stage import SMALL, Budget, Skipped, Stage, Unexpected

#: The file in a folder of answers that says what was recorded.
ABOUT = "about.json"

#: The results of a check.
EXPECTED, UNEXPECTED, SKIPPED = "as expected", "unexpected", "skipped"

#: The checks that launch a run with the installation's own store: they cannot be replayed.
RUNS = {
    "run": f"a whole run on {SMALL}: boot, agent, pull from a registry, command, log, receipt, end",
    "gpu": "a whole run with a GPU: driver, container toolkit, the agent's GPU check, nvidia-smi in the container",
}


def main() -> int:
    told = _arguments()
    if told.list:
        rows = [*((each.name, each.machines, each.what) for each in CHECKS), *((name, 1, RUNS[name]) for name in RUNS)]
        for name, machines, what in rows:
            print(f"{name:<11} {machines or '-'}  {what}")
        return 0
    try:
        return _replayed(told) if told.replay else _live(told)
    except ProvisionError as error:
        print(f"live-check: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/live-check", description="Check what only a real account can tell.")
    parser.add_argument("--settings", metavar="FILE", help="as for `provision`")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="a new folder for AWS's answers")
    parser.add_argument("--only", default="", metavar="CHECKS", help="names of checks, with commas")
    parser.add_argument("--gpu-type", default=GPU, metavar="TYPE", help=f"of the check `gpu` [default: {GPU}]")
    parser.add_argument("--cap", type=float, default=1.0, metavar="DOLLARS", help="the most it may cost [default: 1]")
    parser.add_argument("--yes", action="store_true", help="do not ask before machines are launched")
    parser.add_argument("--list", action="store_true", help="print the checks, and exit")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="take the answers from this folder, not from AWS")
    told = parser.parse_args()
    names = [*(each.name for each in CHECKS), *RUNS]
    told.chosen = [name for name in told.only.split(",") if name] or names
    if unknown := [name for name in told.chosen if name not in names]:
        parser.error(f"unknown check: {', '.join(unknown)}; expected some of: {', '.join(names)}")
    return told


def _live(told: argparse.Namespace) -> int:
    settings = load(told.settings)
    folder: Path = told.into or Path(f"live-check-{time.strftime('%Y%m%d-%H%M%S')}")
    print(
        f"account of {settings.region}, installation {settings.installation}; at most ${told.cap:.2f}; into {folder}/"
    )
    if not told.yes:
        print("Launch machines? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() != "y":
            raise Invalid("nothing was launched: answer y, or use --yes")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise Invalid(f"{folder}: {error.strerror}: name a new folder with --into") from error
    session = Recorder(folder, settings.region, settings.rehearsal.endpoint if settings.rehearsal else None)
    with _stage(settings, session, secrets.token_hex(4), told.cap) as stage:
        makers = _makers(stage)
        makers["run"] = functools.partial(runs.small, stage, settings, folder)
        makers["gpu"] = functools.partial(runs.gpu, stage, settings, folder, told.gpu_type)
        results: dict[str, str] = {}
        try:
            for name in makers:
                if name in told.chosen:
                    session.check = name
                    results[name] = _made(name, makers[name])
        finally:
            known = settings.model_dump(mode="json", exclude_unset=True, exclude={"store"})
            about = {"seed": stage.seed, "settings": known, "results": results}
            (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
            print("ending the machines that are left; do not interrupt this", flush=True)
            session.check = "end"
            left = stage.end_all()
            for each in left:
                print(f"MAY BE ALIVE: {each}: end it with `aws ec2 terminate-instances`", file=sys.stderr)
    failed = [name for name, result in results.items() if result == UNEXPECTED]
    print(f"{len(results)} checks, {len(failed)} with a surprise; AWS's answers are in {folder}/")
    return 1 if failed or left else 0


def _replayed(told: argparse.Namespace) -> int:
    try:
        about = json.loads((told.replay / ABOUT).read_text())
    except OSError as error:
        raise Invalid(f"{told.replay}: {error.strerror}: name a folder that this script made") from error
    settings = Settings.model_validate(about["settings"])
    session = Player(told.replay, settings.region)
    failed = False
    with _stage(settings, session, about["seed"], told.cap) as stage:
        stage.pause = lambda _: None
        for name, make in _makers(stage).items():
            if name in told.chosen and about["results"].get(name) in (EXPECTED, UNEXPECTED):
                session.check = name
                failed |= _made(name, make) != EXPECTED
    return int(failed)


@contextlib.contextmanager
def _stage(settings: Settings, session: Recorder | Player, seed: str, cap: float) -> Iterator[Stage]:
    """Yield a stage with a store of its own: with the installation's store, known facts would not be asked for."""
    with tempfile.TemporaryDirectory(prefix="provision-live.") as home:
        own = settings.model_copy(update={"store": Path(home, "store.db")})
        with contextlib.closing(Stage(own, session, seed, Budget(cap), _say)) as stage:
            yield stage


def _makers(stage: Stage) -> dict[str, Callable[[], str]]:
    return {each.name: functools.partial(each.make, stage) for each in CHECKS}


def _made(name: str, make: Callable[[], str]) -> str:
    """Make one check, print what it saw, and return its result."""
    try:
        seen, result = make(), EXPECTED
    except Skipped as error:
        seen, result = str(error), SKIPPED
    except Unexpected as error:
        seen, result = str(error), UNEXPECTED
    except (ProvisionError, botocore.exceptions.ClientError, LookupError, ValueError) as error:
        # An answer in another form than the double's is what these checks look for.
        seen, result = f"{type(error).__name__}: {error}", UNEXPECTED
    _say(f"{name:<11} {result:<12} {seen}")
    return result


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
