"""Work through lists of commands while the control plane, agents and machines are killed, and check every command.

The control plane is `provision daemon`, the agents and commands are real processes, and only EC2 is the double.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner import wiring
from provisioner.core.cloud.machines import MachineState
from provisioner.core.recipe.lists import MOST_COMMANDS
from provisioner.rehearsal import scenario
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines import light
from provisioner.rehearsal.machines.life import PYTHON
from provisioner.service.control import Service
from provisioner.settings import load
from scripts.benchmarks import executions, kill_rules
from scripts.benchmarks.cloud import PROVISION, recipe
from scripts.benchmarks.executions import Journal
from tests.e2e.processes import agents

#: Kinds of kills: kill -9 of the control plane, of an agent (the second one of a machine ends the machine), and of a
#: machine's first process; a power cut that EC2 shows at once; and an interruption by EC2.
KINDS = ("daemon", "agent", "machine", "power", "notice")
#: Kills happen between these shares of all commands.
FIRST, LAST = 0.02, 0.9
#: Maximum seconds until a killed control plane is started again.
AWAY = 3.0
#: Seconds from a spot notice to the end of the machine.
NOTICE = 10.0
#: Seconds between two looks at the journal, at the runs, and between two prints of the progress.
LOOK, RUNS, SHOWN = 0.02, 0.5, 10.0
#: Seconds without any progress after which this script gives up; and seconds from the last run's end until machines and
#: mailboxes must be gone.
STUCK, LEAVING = 600.0, 120.0
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLOUD = {"boot_delay": "0s", "end_delay": "0s", "prices": [{"type": "*", "dollars": 1.0}]}
SETTINGS = """installation = "kills"
region = "{region}"
bucket = "{bucket}"
subnets = {subnets}
store = "{store}"
owner = "kills"

[rehearsal]
endpoint = "{url}"
busy_interval = 0.5
"""


@dataclass(frozen=True)
class Aim:
    """A kill that is due when this share of the commands has ended."""

    share: float
    kind: str


def plan(seed: int, count: int) -> list[Aim]:
    """Return the kills in their order: as many of each kind, at random shares of the commands."""
    dice = random.Random(seed)
    kinds = list(itertools.islice(itertools.cycle(KINDS), count))
    dice.shuffle(kinds)
    shares = sorted(dice.uniform(FIRST, LAST) for _ in kinds)
    return [Aim(share, kind) for share, kind in zip(shares, kinds, strict=True)]


class Daemon:
    """The control plane as a process that is killed and started again."""

    def __init__(self, settings: Path, log: Path) -> None:
        self._words, self._log = [*PROVISION, "--settings", str(settings), "daemon"], log
        self._process: subprocess.Popen[bytes] | None = None
        #: Size of the log when the process was started, and when the next one is due.
        self._before, self._due = 0, 0.0

    def look(self) -> None:
        """Start the process if it is due. Exits if it has ended by itself."""
        if self._process is not None:
            if self._process.poll() is not None:
                last = "\n".join(self._log.read_text().splitlines()[-10:])
                sys.exit(f"no verdict: the daemon exited with {self._process.returncode}; the end of its log:\n{last}")
        elif time.monotonic() >= self._due:
            with self._log.open("ab") as log:
                self._before = log.tell()
                self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def acts(self) -> bool:
        """Whether the process has logged that it acts."""
        return self._process is not None and b"acting; " in self._log.read_bytes()[self._before :]

    def kill(self, away: float) -> None:
        """Kill the process; `look` starts another one after `away` seconds."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process, self._due = None, time.monotonic() + away

    def stop(self) -> int | None:
        """End the process with SIGTERM; return its exit code, or None if it does not run."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Killing:
    """Works through the lists, and kills on the way."""

    def __init__(
        self, options: argparse.Namespace, machines: Path, double: Double, service: Service, daemon: Daemon, path: Path
    ) -> None:
        self._options, self._machines, self._path = options, machines.resolve(), path
        self._double, self._service, self._daemon = double, service, daemon
        self.journal = Journal(path)
        self._dice = random.Random(options.seed)
        self._aims = plan(options.seed, options.kills)
        self.kills: Counter[str] = Counter()
        #: The machines that were ended by a kill, and those whose agent was killed once.
        self.ended: set[str] = set()
        self._wounded: set[str] = set()
        #: The durable records that these machines had in their inboxes before a kill, as index and generation.
        self.kept: dict[str, set[tuple[int, int]]] = {}
        #: Whether the machine that was ended last had not begun a command.
        self._early = False
        base, more = divmod(options.commands, options.runs)
        self._waiting = [(f"kills-{number}", base + (number < more)) for number in range(options.runs)]
        #: Number of commands of each started run, by id; and the runs that are not done.
        self.runs: dict[str, int] = {}
        self._open: set[str] = set()
        self._began = time.monotonic()

    def run(self) -> None:
        """Run all lists until they are done."""
        moved, ended, shown, looked = self._began, 0, self._began, self._began - RUNS
        while self._open or self._waiting:
            self._double.check()
            self._daemon.look()
            self.journal.read()
            now = time.monotonic()
            if self.journal.ended > ended:
                moved, ended = now, self.journal.ended
            elif now >= moved + STUCK:
                sys.exit(f"no verdict: no command has ended for {STUCK:.0f} s, and {len(self._open)} runs are not done")
            if now >= looked + RUNS:
                looked = now
                self._start()
            if self._aims and ended >= self._aims[0].share * self._options.commands and self._kill(self._aims[0].kind):
                del self._aims[0]
            if now >= shown + SHOWN:
                shown = now
                self._say(commands=ended, kills=self.kills.total(), alive=len(self._double.alive()))
            time.sleep(LOOK)

    def _start(self) -> None:
        """Note which runs are done, and start the next ones; every second list is uploaded."""
        self._open = {run for run in self._open if self._service.runs.record(run).done_at is None}
        while self._waiting and len(self._open) < self._options.at_once:
            name, count = self._waiting.pop(0)
            uploaded = count > MOST_COMMANDS or len(self.runs) % 2 == 1
            job = recipe(
                name,
                [executions.COMMAND] * (1 if uploaded else count),
                use_spot_instance=True,
                scale=self._options.machines,
                nprocs=self._options.slots,
                list={"retries": executions.RETRIES},
                environment_variables={executions.STEP: executions.TEXT, executions.JOURNAL: str(self._path)},
            )
            self._service.jobs.apply(job, "the recipe of scripts/kills")
            lines = itertools.repeat(f"{executions.COMMAND}\n".encode(), count)
            upload = self._service.uploads.add(lines).id if uploaded else ""
            run = self._service.runs.start(name, {}, upload=upload).id
            self.runs[run] = count
            self._open.add(run)

    def _kill(self, wanted: str) -> bool:
        """Kill, in this way if it is possible now, or else in another way; return False if nothing can be killed."""
        for kind in (wanted, *KINDS):
            if kind == "daemon":
                if self._daemon.acts:
                    self._daemon.kill(self._dice.uniform(0.0, AWAY))
                    self._killed(kind, "")
                    return True
            elif machine := self._victim(kind):
                self._end(kind, machine)
                self._killed(kind, machine)
                return True
        return False

    def _victim(self, kind: str) -> str:
        """Return a machine; empty if there is none.

        An agent is killed after a command has begun, if possible. Of two machines that are ended, at least one has
        begun a command: when three in a row have not, the control plane launches no machine for ten minutes.
        """
        running = (each.id for each in self._double.alive() if each.state is MachineState.RUNNING)
        able = sorted(each for each in running if each not in self.ended)
        if kind == "agent":
            able = [each for each in able if agents(self._machines / each)]
            able = [each for each in able if each in self.journal.machines] or able
        if self._early:
            able = [each for each in able if each in self.journal.machines or self._spares(kind, each)]
        return self._dice.choice(able) if able else ""

    def _spares(self, kind: str, machine: str) -> bool:
        """Return whether the machine goes on after the kill."""
        return kind == "agent" and machine not in self._wounded

    def _end(self, kind: str, machine: str) -> None:
        if machine in self.journal.machines:
            self.kept.setdefault(machine, set()).update(kill_rules.durable(self._service, machine))
        if not self._spares(kind, machine):
            self.ended.add(machine)
            self._early = machine not in self.journal.machines
        if kind == "power":
            self._double.power_off(machine)
        elif kind == "notice":
            self._double.interrupt(machine, notice=NOTICE)
        else:
            folder = self._machines / machine
            self._wounded |= {machine} if kind == "agent" else set()
            for pid in agents(folder) if kind == "agent" else _first(folder):
                os.kill(pid, signal.SIGKILL)

    def _killed(self, kind: str, machine: str) -> None:
        self.kills[kind] += 1
        self._say(kill=kind, machine=machine, commands=self.journal.ended)

    def _say(self, **what: Any) -> None:
        print(json.dumps({"at": round(time.monotonic() - self._began, 1), **what}), flush=True)


def _first(machine: Path) -> list[int]:
    """Return the first process of the machine in this folder, if it runs."""
    words = "\0".join((*PYTHON, str(light.HERE / "init.py"), str(machine), "")).encode()
    return [pid for pid in kill_rules.processes() if kill_rules.of(pid, "cmdline") == words]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1000, help="number of commands of all runs")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=2, help="the commands are divided among them")
    parser.add_argument("--at-once", type=int, default=2, help="maximum number of unfinished runs")
    parser.add_argument("--machines", type=int, default=3, help="maximum number of machines of each run")
    parser.add_argument("--slots", type=int, default=4, help="commands that each machine runs at once")
    options = parser.parse_args()
    for number in STOPS:
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory(prefix="provision-kills.") as name:
        folder = Path(name).resolve()
        written = folder / "written"
        written.mkdir()
        host = light.LightHost(
            folder / "machines",
            environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "1"},
            binds=lambda _: ("--bind", str(written), str(written)),
        )
        with Double(scenario.parse(CLOUD), host, installation="kills") as double:
            os.environ |= double.environment()
            settings = folder / "settings.toml"
            given = {"region": double.region, "bucket": double.bucket, "url": double.url, "store": folder / "store.db"}
            settings.write_text(SETTINGS.format(**given, subnets=json.dumps(list(double.account.subnets))))
            daemon = Daemon(settings, folder / "daemon.log")
            with closing(wiring.service(load(str(settings)))) as service:
                killing = Killing(options, folder / "machines", double, service, daemon, written / "journal")
                try:
                    return _result(options, folder, double, service, daemon, killing)
                finally:
                    daemon.stop()


def _result(
    options: argparse.Namespace, folder: Path, double: Double, service: Service, daemon: Daemon, killing: Killing
) -> int:
    """Run the lists, print the verdict, and return the exit code."""
    began = time.monotonic()
    killing.run()
    took, until = time.monotonic() - began, time.monotonic() + LEAVING

    def settled() -> bool:
        return daemon.acts and not service.operator.unfinished() and not kill_rules.mailboxes(service)

    while not settled() and time.monotonic() < until:
        double.check()
        daemon.look()
        time.sleep(RUNS)
    code = daemon.stop()
    killing.journal.read()
    checked = kill_rules.Checked(double, service, killing.journal, killing.ended, killing.kept)
    for run, count in killing.runs.items():
        checked.run(run, count)
    checked.left(folder)
    if code != 0:
        checked.broken["the control plane ends with 0"].append(f"the daemon exited with {code}")
    if (kills := killing.kills.total()) != options.kills:
        checked.broken["every kill happens"].append(f"{kills} of {options.kills}")
    print(
        json.dumps(
            {
                "seconds": round(took, 1),
                "commands": sum(killing.runs.values()),
                "kills": kills,
                "kinds": dict(killing.kills),
                "machines": len(double.history()),
                **checked.counts,
                "verdict": "broken" if checked.broken else "kept",
                "broken": {rule: found[: kill_rules.SHOWN_MOST] for rule, found in checked.broken.items()},
            }
        ),
        flush=True,
    )
    return 1 if checked.broken else 0


def _stop(*_: object) -> None:
    """Exit, which ends all processes and deletes the folder; further signals are ignored."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit("stopped: no verdict")


if __name__ == "__main__":
    sys.exit(main())
