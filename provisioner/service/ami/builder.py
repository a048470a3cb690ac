"""A temporary machine, controlled over SSH, from which a machine image is made.

Its launch is stored before the call is made. Until the launch's `held_until`, no pass of the control plane terminates
the machine, although no run uses it. At the end, also after an error, the launch is closed and the machine terminated.
If this process is killed, the reconciler, the reaper or the machine's fuse ends the machine after its lifetime.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from provisioner.core.cloud.host_keys import host_keys
from provisioner.core.cloud.launches import LaunchAnswer, LaunchedMachine, LaunchRequest, Refusal
from provisioner.core.cloud.machines import ENDING, Machine, MachineState
from provisioner.core.errors import CloudError, Conflict, Failed, NoAnswer, Retryable, Transient
from provisioner.core.run.records import KnownMachine, Launch, Record
from provisioner.ports.clock import Clock
from provisioner.ports.shell import Host, Key, Session, Shell
from provisioner.service.installation import Installation

#: Maximum number of seconds until the machine runs and its console shows the host keys. The console output of a machine
#: without Nitro appears minutes late.
BOOT_LIMIT = 900.0
#: Maximum number of seconds to connect: sshd runs once the console shows the host keys. Also the seconds for which a
#: launch without an answer is repeated.
REACH_LIMIT = 60.0
#: Seconds between two steps of `looks`.
LOOK = 1.0
#: Maximum number of characters from the end of the console output in an error message about the builder.
CONSOLE_TAIL = 600


@dataclass(frozen=True)
class Told:
    """Callbacks for the progress: `step` gets one line for each step, and `output` the output of the machine."""

    step: Callable[[str], None]
    output: Callable[[bytes], None]


class Builder:
    """A context manager that launches the builder, and terminates it at the end."""

    def __init__(
        self,
        installation: Installation,
        shell: Shell,
        request: LaunchRequest,
        lifetime: float,
        told: Told,
        hourly: float | None = None,
    ) -> None:
        """`hourly` is what the launch counts for against the cap, in US dollars."""
        self._installation, self._shell, self._request, self._told = installation, shell, request, told
        self._lifetime, self._hourly = lifetime, hourly
        self._answer: LaunchAnswer | None = None

    @property
    def id(self) -> str:
        assert self._answer is not None, "it is there inside the context alone"
        return self._answer.machines[0].instance_id

    def __enter__(self) -> Self:
        """Launch the machine. Raises Failed, with the refusal of every offer, if no machine can be launched."""
        now = self._installation.clock.now()
        promise = Launch(self._request, (), now, held_until=now + self._lifetime, hourly_at_most=self._hourly)
        try:
            self._installation.store.save([promise])
            self._answer = self._ask()
            if not self._answer.machines:
                why = dict.fromkeys(f"{each.offer or 'any offer'}: {each.error}" for each in self._answer.refusals)
                raise Failed(f"no builder could be launched: {'; '.join(why)}")
            self._told.step(f"{self.id} is launched ({self._answer.machines[0].offer})")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # Launch

    def _ask(self) -> LaunchAnswer:
        """Make the launch and return its answer; after a Retryable error repeat the call, for REACH_LIMIT seconds."""
        doubtful, trouble = False, ""
        for _ in looks(self._installation.clock, REACH_LIMIT):
            try:
                return self._ask_once()
            except Retryable as error:
                doubtful, trouble = doubtful or isinstance(error, NoAnswer), str(error)
            except CloudError as error:
                if doubtful:
                    raise
                return LaunchAnswer(refusals=(Refusal(error),))
        raise Failed(f"no builder could be launched: {trouble}")

    def _ask_once(self) -> LaunchAnswer:
        try:
            return self._installation.cloud.launch(self._request)
        except Conflict:
            found = self._installation.cloud.machines_of(self._request.token)
            return LaunchAnswer(tuple(LaunchedMachine(each.id, each.offer) for each in found))

    def _end(self) -> None:
        """Close the launch and terminate its machine. If a call fails, a pass of the control plane repeats it."""
        try:
            self._close()
        except KeyboardInterrupt:
            # Ctrl-C may have interrupted `_close` at any line. All its steps may be repeated.
            self._close()
            raise

    def _close(self) -> None:
        launch = self._installation.store.launch(self._request.token)
        if launch is None or launch.held_until == 0.0:
            return
        cloud, now = self._installation.cloud, self._installation.clock.now()
        try:
            # If the answer was lost, repeat the request: the answer to the same token has the machine, if any.
            machines = (self._answer or self._ask_once()).machines
        except CloudError as error:
            self._save(replace(launch, held_until=0.0))
            self._told.step(f"a builder may be running ({error}): the next command or daemon will terminate it")
            return
        why = "its bake is over"
        over: list[Record] = [
            KnownMachine(
                each.instance_id,
                launch.id,
                each.offer,
                # Until a listing shows it, its use counts from the launch.
                launch.created_at,
                end_wanted_at=now,
                end_wanted_for=why,
                lifetime=launch.request.lifetime,
                hourly_at_most=launch.hourly_at_most,
            )
            for each in machines
        ]
        if launch.closed_at is None:
            self._save(*over, replace(launch, closed_at=now, result=f"{len(machines)} of 1 machines"))
        for id, refusal in cloud.terminate([each.instance_id for each in machines]).items():
            self._told.step(f"{id} could not be terminated ({refusal}): the next command or the daemon tries again")

    def _save(self, *records: Record) -> None:
        try:
            self._installation.store.save(records)
        except Conflict:
            pass  # After `held_until`, a pass has closed the launch; the pass terminates the machine.

    # SSH

    def session(self, key: Key) -> Session:
        """Connect, once the console shows the host keys that prove the machine's identity. Raises Failed."""
        host = self._host()
        self._told.step(f"host keys read from the console: connecting to {host.user}@{host.address} port {host.port}")
        trouble: CloudError | None = None
        for _ in looks(self._installation.clock, REACH_LIMIT):
            self._look()
            try:
                return self._shell.connect(host, key, REACH_LIMIT)
            except Transient as error:
                trouble = error
        raise self._installation.policy.way_in.unreachable(host.address, trouble)

    def _host(self) -> Host:
        way_in = self._installation.policy.way_in
        for _ in looks(self._installation.clock, BOOT_LIMIT):
            machine = self._look()
            if machine and machine.state is MachineState.RUNNING and (keys := host_keys(self._console())):
                return Host(way_in.address_of(machine), way_in.port, way_in.user, keys)
        raise Failed(
            f"{self.id} printed no SSH host keys to its console within {BOOT_LIMIT / 60:.0f} min, so its identity "
            f"cannot be verified{self._last_words()}"
        )

    def _look(self) -> Machine | None:
        """Return the machine, or None while it is not listed. Raises Failed if it has ended."""
        try:
            found = self._installation.cloud.machines_known([self.id]).machines
        except Retryable:
            return None
        if found and found[0].state in ENDING:
            raise Failed(f"{self.id} has ended: {found[0].reason}{self._last_words()}")
        return found[0] if found else None

    def _console(self) -> str:
        try:
            return self._installation.cloud.console(self.id)
        except Retryable:
            return ""

    def _last_words(self) -> str:
        tail = self._console()[-CONSOLE_TAIL:].strip()
        return f"; its console ends: {tail}" if tail else "; its console is empty"


def looks(clock: Clock, limit: float) -> Iterator[None]:
    """Yield at once, and then every LOOK seconds, until `limit` seconds are over."""
    end = clock.now() + limit
    while True:
        yield
        if clock.now() >= end:
            return
        clock.wait(LOOK)
