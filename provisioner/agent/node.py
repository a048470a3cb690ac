"""The state of one node's work on this machine, which the steps and the watchers share."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from provisioner.agent import handover
from provisioner.agent.aws.imds import Identity, notice
from provisioner.agent.handover import Memory
from provisioner.agent.job.engine import Engine
from provisioner.agent.job.job_dir import JobDir
from provisioner.agent.logs.mask import Mask
from provisioner.agent.logs.pump import Pump
from provisioner.agent.logs.shipper import Shipper
from provisioner.agent.logs.spool import Spool
from provisioner.agent.machine import files, kernel, xids
from provisioner.agent.machine.disk import Ballast, Disks
from provisioner.agent.machine.paths import Paths
from provisioner.agent.machine.xids import Xid
from provisioner.agent.mailbox import Mailbox
from provisioner.agent.outcomes import Cause, Ended, Halt, broken
from provisioner.core.protocol.messages import ListReport, Notice, Orders, Report, Result, Span, WorkOrder
from provisioner.core.protocol.words import Outcome, SignalCause, Step


class Log:
    """Writes dated, masked lines to the system stream."""

    def __init__(self, spool: Spool, mask: Mask, *, closed: bool = False) -> None:
        self.mask = mask
        self._stream = spool.stream("system")
        self._lock = threading.Lock()
        self._closed = closed

    def say(self, text: str) -> None:
        """Write a line; never wait, because the agent must continue when the spool is full."""
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {self.mask.text(text)}\n"
        with self._lock:
            if not self._closed:
                self._stream.write(line.encode(errors="replace"), wait=False)

    def close(self) -> None:
        """Ignore all later lines; return when all earlier lines are in the spool."""
        with self._lock:
            self._closed = True
            self._stream.write(b"")


class Node:
    def __init__(
        self,
        order: WorkOrder,
        machine: Identity,
        paths: Paths,
        mailbox: Mailbox,
        spool: Spool,
        shipper: Shipper,
        log: Log,
        engine: Engine,
        left: Memory,
    ) -> None:
        """`left` is the state that an earlier agent process of this boot stored; an empty Memory if there was none."""
        self.order = order
        self.machine = machine
        self.paths = paths
        self.mailbox = mailbox
        self.spool = spool
        self.shipper = shipper
        self.log = log
        #: Values that are added here are masked in everything that leaves the machine from then on.
        self.mask = log.mask
        self.engine = engine
        #: The random id of this agent process; another agent process may read the same work order.
        self.process = uuid.uuid4().hex
        self.halt = Halt()
        #: How the preparing steps ended; this first value stays until a step raises Ended.
        self.ended = Ended(Outcome.LOST, Step.BOOT, "the agent ended before its first step")
        self.orders = Orders()
        self.notice: Notice | None = left.notice
        #: The Unix time at which the last request that found no spot notice began.
        self.unnoticed_at = 0.0
        self.rebalance_at: float | None = None
        #: The Xids of GPUs that broke since the check of the GPUs.
        self.broken_gpus: tuple[Xid, ...] = ()
        #: The PCI addresses of the machine's GPUs, and of those of each slot of a list; empty if they are not known.
        self.gpu_places: frozenset[str] = frozenset()
        self.slot_gpus: tuple[frozenset[str], ...] = ()
        #: Why the job gets SIGTERM; None if it does not.
        self.signalled: Cause | None = left.signalled
        if left.signalled is not None:
            self.halt.ask(left.signalled)
        #: Names of the processes that setup left running.
        self.daemons = left.daemons
        #: How far the sending of SIGTERM has progressed.
        self.reached = left.reached
        #: Whether the image is on this machine already, so that it is not pulled.
        self.preloaded = False
        #: The work order's secrets and credentials by name, and the registry's `user:password`.
        self.secrets: dict[str, bytes] = {}
        self.login: bytes | None = None
        #: The newest line of the kernel's log when the job's first shell was started.
        self.kernel_mark: str | None = left.kernel_mark
        #: The result to put into the mailbox, once it is settled.
        self.result: Result | None = left.result
        #: The outcome, once the work of a run with several ranks is over; reports have it before the result does.
        self.over: Outcome | None = None
        #: The private addresses of all ranks, by rank; empty for a run with one rank.
        self.peers: tuple[str, ...] = ()
        #: Seconds for which this rank waited for these addresses.
        self.waited = 0.0
        #: The machine's SSH host keys, if the work order names a key that may log in.
        self.host_keys: tuple[str, ...] = ()
        #: The disks whose free space is measured while the job runs.
        self.disks: Disks | None = None
        self.job_dir: JobDir | None = None
        self.pumps: dict[str, Pump] = {}
        self.ballast = Ballast(paths.home / "ballast")
        #: Returns the state of the list of commands, for reports; None if the job has none, or it has not begun.
        self.list_report: Callable[[], ListReport | None] = lambda: None
        #: The seconds that the waiting commands of a list will last, if the machine ends many each second; otherwise 0.
        self.ahead = 0.0
        self.changed = threading.Event()
        #: The attempt, if it is not the machine's first one; otherwise 0.
        self.later = left.later
        #: Whether this machine waits for the work order of the run's next attempt.
        self.waits = False
        #: Whether the result is in the mailbox. Every later report, even a late heartbeat, has this flag.
        self.finished = False
        self._lock = threading.Lock()
        self._sequence = 0
        self._remembering = threading.Lock()
        now = time.time()
        self._spans = {Step.BOOT: Span(now if self.later else machine.launch_time, now)}
        self._spans.update({Step(name): span for name, span in left.spans.items()})

    def say(self, text: str) -> None:
        self.log.say(text)

    def paced(self, usual: float, longest: float) -> float:
        """Return the seconds to the next request: half of `ahead`, but at least `usual` and at most `longest`.

        So a machine with short commands makes fewer requests while it has many, and has more of them in time.
        """
        return min(longest, max(usual, self.ahead / 2))

    def begin(self, step: Step) -> None:
        """Record that a step begins now; a step that has already begun keeps its time."""
        with self._lock:
            self._spans.setdefault(step, Span(time.time()))
        self.remember()
        self.changed.set()

    def end(self, step: Step) -> None:
        with self._lock:
            self._spans[step] = replace(self._spans[step], ended=time.time())
        self.remember()
        self.changed.set()

    def remember(self) -> None:
        """Store the state for an agent process that may take over; an OSError is only logged."""
        hidden = handover.coded(self.mask.values)
        with self._remembering:
            try:
                handover.write(
                    self.paths.memory,
                    Memory(
                        self.spans(),
                        self.notice,
                        self.signalled,
                        self.daemons,
                        self.reached,
                        self.kernel_mark,
                        hidden,
                        self.result,
                        self.later,
                    ),
                )
            except OSError as error:
                # The machine's memory is full. The state that was stored last is older, but still valid.
                self.say(f"the agent's state cannot be stored for a later agent process: {error}")

    def look_for_notice(self) -> Notice | None:
        """Return the spot notice that the metadata service shows now, or None; raises OSError.

        `seen` is when the agent first saw that notice.
        """
        began = time.time()
        found = notice()
        if found is None:
            self.unnoticed_at = began
        elif self.notice is None or self.notice.at != found.at:
            self.notice = found
            self.say(f"spot interruption notice: AWS takes the machine back in {found.at - found.seen:.0f} s")
            self.remember()
            self.changed.set()
        return self.notice if found is not None else None

    def look_at_gpus(self) -> tuple[Xid, ...]:
        """Return the Xids in the kernel's log that show a broken GPU; the check of the GPUs passed, so they are new."""
        found = tuple(xids.broken(kernel.messages(), running=True)) if self.order.gpus else ()
        if found and not self.broken_gpus:
            self.say(broken(found))
        # The log may be unreadable now, or may have dropped these lines.
        self.broken_gpus = found or self.broken_gpus
        return self.broken_gpus

    def gpu_fault(self) -> Cause | None:
        """Return the cause of the end of a job that failed because a GPU broke; None if no GPU is broken."""
        found = self.look_at_gpus()
        return Cause(Outcome.LOST, broken(found), time.time(), SignalCause.NONE) if found else None

    def end_all(self) -> None:
        for step, span in list(self._spans.items()):
            if span.ended is None:
                self.end(step)

    def spans(self) -> dict[str, Span]:
        with self._lock:
            return {step.value: span for step, span in self._spans.items()}

    def began(self, step: Step) -> float:
        with self._lock:
            return self._spans[step].began

    @property
    def step(self) -> Step:
        """The first step that has begun and not ended; the last step if all have ended."""
        spans = self.spans()
        begun = [step for step in Step if step.value in spans]
        return next((step for step in begun if spans[step.value].ended is None), begun[-1])

    def report(self) -> bool:
        """Put a report and return whether that succeeded. Sequence numbers grow, also across restarts."""
        with self._lock:
            counter = self.paths.home / "sequence"
            self._sequence = max(self._sequence, int(counter.read_text()) if counter.exists() else 0) + 1
            try:
                files.replace(counter, str(self._sequence).encode())
            except OSError:
                # The disk is full. The next report tries again.
                pass
        streams = dict(self.spool.streams)
        return self.mailbox.report(
            Report(
                sequence=self._sequence,
                at=time.time(),
                process=self.process,
                step=self.step,
                spans=self.spans(),
                produced={name: stream.produced for name, stream in streams.items()},
                shipped={name: stream.shipped for name, stream in streams.items()},
                notice=self.notice,
                rebalance_at=self.rebalance_at,
                finished=self.finished,
                host_keys=self.host_keys,
                ended=self.over,
                attempt=self.order.attempt,
                waits=self.waits,
                commands=self.list_report(),
            )
        )
