"""Work through 10,000 commands on four light machines, three of which are killed on the way.

The control plane, the agents and the commands are real processes; only EC2 is the double. At the end the states of all
commands are compared with what each command does. Raises AssertionError if one differs, or if a kill did not happen.
"""

import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from provisioner import wiring
from provisioner.faces.cli.terminal import lists, screen
from provisioner.ports.control.lists import every
from provisioner.rehearsal import scenario
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.light import LightHost
from provisioner.service.control import Service
from provisioner.settings import Rehearsal, Settings

COMMANDS, MACHINES, SLOTS = 10_000, 4, 4
#: Every so many commands one fails.
FAILS = 2_000
#: Seconds between two lines about the progress.
PACE = 5.0
#: Seconds of the spot notice.
NOTICE = 10.0


def code(index: int) -> int:
    """Return the exit code of a command."""
    return int(index % FAILS == 7)


CLOUD = {
    "boot_delay": "0s",
    "end_delay": "0s",
    "prices": [{"market": "spot", "type": "g5.xlarge", "dollars": 0.402}],
    "disk": {"gib": 0.08},
}
RECIPE = {
    "type": "job",
    "spec": {
        "name": "map",
        "image": "any",
        "instance_type": "g5.xlarge",
        "use_spot_instance": True,
        "scale": MACHINES,
        "nprocs": SLOTS,
        "command": [f"exit {code(index)}" for index in range(COMMANDS)],
    },
}


class Demo:
    def __init__(self, double: Double, service: Service, machines: Path) -> None:
        self._double, self._service, self._machines = double, service, machines
        self._began = self._due = time.monotonic()
        self._kills = iter(
            [
                (0.25, "EC2 interrupts", self._interrupt),
                (0.50, "power cut of", self._double.power_off),
                (0.75, "kill -9 of the agent of", self._kill_agent),
            ]
        )
        self._next = next(self._kills, None)
        self._killed: list[str] = []

    def run(self) -> str:
        """Run the job to its end, with the kills; return the run's id."""
        self._service.jobs.apply(yaml.safe_dump(RECIPE), "map.yaml")
        run = self._service.runs.start("map", {}).id
        self._service.operator.drive(lambda: self._over(run))
        return run

    def _over(self, run: str) -> bool:
        self._double.check()
        now = time.monotonic()
        found = self._service.runs.get(run)
        progress = found.commands
        if progress is not None:
            ended = progress.total - progress.open
            if self._next and ended >= self._next[0] * progress.total and (machine := self._busy(run)):
                share, words, kill = self._next
                self._say(f"{share:.0%}: {words} {machine}", bold=True)
                kill(machine)
                self._killed.append(machine)
                self._next = next(self._kills, None)
            if now >= self._due:
                self._due = now + PACE
                self._tell(run)
        return found.done_at is not None

    def _tell(self, run: str) -> None:
        status = self._service.runs.status(run)
        alive = len(self._double.alive())
        if status.run.commands is not None:
            machines = f"{alive} machine{'' if alive == 1 else 's'}"
            self._say(f"{lists.progress(status.run.commands, time.time())}, {machines}")

    def _busy(self, run: str) -> str:
        """Return a machine that runs commands and was not killed before; empty if there is none."""
        status = self._service.runs.status(run)
        able = [each.instance_id for each in status.attempts if each.step == "command" and each.ended_at is None]
        return next((machine for machine in able if machine not in self._killed), "")

    def _interrupt(self, machine: str) -> None:
        self._double.interrupt(machine, notice=NOTICE)

    def _kill_agent(self, machine: str) -> None:
        program = f"{(self._machines / machine).resolve()}/var/lib/provision/agent".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if program in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue

    def _say(self, text: str, *, bold: bool = False) -> None:
        line = f"{time.monotonic() - self._began:5.0f} s  {text}"
        print(f"\x1b[1;33m{line}\x1b[0m" if bold else line, flush=True)

    def count(self, run: str) -> None:
        """Check the end of every command, and print how many ended in which way."""
        assert len(self._killed) == 3, f"the list ended after {len(self._killed)} of 3 kills"
        commands = list(every(self._service.commands, run))
        assert [each.index for each in commands] == list(range(COMMANDS))
        assert all(each.exit_code == code(each.index) for each in commands)
        assert self._service.runs.get(run).exit_code == 1
        states = Counter(str(each.state) for each in commands)
        again = sum(each.generation > 1 for each in commands)
        print(
            f"{len(commands):,} commands, each with one record: " + ", ".join(f"{n:,} {s}" for s, n in states.items())
        )
        print(f"{again:,} of them were handed out again, because their machine was killed")

    def receipt(self, run: str) -> None:
        screen.receipt(self._service.runs.receipt(run))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="provision-map.") as name:
        folder = Path(name)
        machines = folder / "machines"
        host = LightHost(machines, environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "1"})
        with Double(scenario.parse(CLOUD), host, installation="demo") as double:
            os.environ.update(double.environment())
            service = wiring.service(
                Settings(
                    installation=double.installation,
                    region=double.region,
                    bucket=double.bucket,
                    subnets=tuple(double.account.subnets),
                    store=folder / "store.db",
                    owner="you",
                    rehearsal=Rehearsal(endpoint=double.url, busy_interval=0.5),
                )
            )
            try:
                demo = Demo(double, service, machines)
                run = demo.run()
                demo.count(run)
                demo.receipt(run)
            finally:
                service.close()


if __name__ == "__main__":
    main()
