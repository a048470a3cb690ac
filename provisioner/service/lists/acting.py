"""Act on the commands of lists: stop one of them, and start a run of those that failed."""

from collections.abc import Collection, Iterator

from provisioner.core.access.callers import Caller
from provisioner.core.commands.blocks import Blocks, CommandState
from provisioner.core.commands.records import CommandList
from provisioner.core.errors import Conflict, Invalid
from provisioner.core.run.lists import stopping
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.records import Run
from provisioner.ports.clock import Clock
from provisioner.ports.store import Store
from provisioner.service.control_loop.lists.texts import Texts
from provisioner.service.jobs import TRIES, Jobs
from provisioner.service.lists.uploads import Uploads
from provisioner.service.recorder import Recorder
from provisioner.service.runs import Runs

#: Maximum number of blocks that are read at once.
BLOCKS_MOST = 8
#: Commands that `rerun` repeats, and those that it repeats on request.
FAILED = frozenset({CommandState.FAILED, CommandState.LOST})
UNFINISHED = frozenset({CommandState.CANCELLED, CommandState.NOT_RUN})


class Acting:
    """Changes of lists within the rights of one caller; the caller has found the run."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        texts: Texts,
        jobs: Jobs,
        runs: Runs,
        uploads: Uploads,
        caller: Caller,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._texts = texts
        self._jobs = jobs
        self._runs = runs
        self._uploads = uploads
        self._caller = caller

    def stop(self, run: Run, index: int) -> None:
        """Stop one command. Does nothing if it has ended, or if the run has. Raises Conflict after TRIES tries."""
        for _ in range(TRIES):
            commands, now = self._store.command_list(run.id), self._store.run(run.id)
            if commands is None or now is None or now.ended_at is not None:
                return
            numbers = {index // commands.block_size, commands.next // commands.block_size}
            ledger = Ledger(commands, (), (), self._store.blocks(run.id, numbers))
            if not stopping.stop(ledger, index):
                return
            audit = self._recorder.audit(self._caller, "stop command", run.owner, f"{run.id} {index}")
            try:
                self._recorder.save([*ledger.changed(), audit])
            except Conflict:
                continue
            self._clock.wake()
            return
        raise Conflict(f"other processes keep changing the list of run {run.id[:12]}: try again")

    def rerun(self, run: Run, commands: CommandList, idempotency_key: str, *, unfinished: bool) -> Run:
        """Return a new run of the same job and revision, with the commands of an ended run that did not succeed."""
        short, now = run.id[:12], self._clock.now()
        if run.ended_at is None or commands.sealed_at is None:
            raise Conflict(f"run {short} is still running: its failed commands can be run again when it has ended")
        wanted = FAILED | UNFINISHED if unfinished else FAILED
        count = commands.failed + commands.lost + unfinished * (commands.cancelled + commands.not_run)
        if not count:
            others = commands.cancelled + commands.not_run
            advice = f"; {others:,} were cancelled or did not run: --unfinished runs them, too" if others else ""
            raise Invalid(f"no command of run {short} failed or was lost{advice}")
        # Raises NotFound for a deleted job.
        self._jobs.record(run.job_id)
        texts = self._texts.texts(run, self._in_states(commands, wanted))
        if run.upload:
            # Even a few of its commands may be more than a recipe has room for.
            upload = self._uploads.record((f"{text}\0".encode() for text in texts), run.owner, null=True)
            fresh = self._jobs.repeated(run, (), idempotency_key, now, upload)
            added = self._runs.add(fresh, "rerun", upload)
            if added.upload != upload.id:
                self._uploads.drop(upload)
            return added
        return self._runs.add(self._jobs.repeated(run, list(texts), idempotency_key, now), "rerun")

    def _in_states(self, commands: CommandList, states: Collection[CommandState]) -> Iterator[int]:
        """Yield the indices of the commands in these states, in order."""
        for number in range(0, -(-commands.total // commands.block_size), BLOCKS_MOST):
            blocks = Blocks(commands, self._store.blocks(commands.id, range(number, number + BLOCKS_MOST)))
            for each in blocks.numbers:
                found = [part for state in states for part in blocks.runs_of(each, state)]
                for first, count, _ in sorted(found):
                    yield from range(first, first + count)
