"""Start the jobs whose schedule is due."""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.access.callers import SCHEDULE
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.errors import ClockWrong, CloudError, Conflict, Invalid, LimitReached, Retryable
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Concurrency, Job
from provisioner.core.recipe.schedules.schedule import KEY, due, key, next_tick, run_id
from provisioner.core.run import story
from provisioner.core.run.clock_repair import SLACK
from provisioner.core.run.records import Record, Run
from provisioner.core.run.states import State, Waiting
from provisioner.service.control_loop.problems import AGAIN as TOLD_AGAIN
from provisioner.service.control_loop.problems import words
from provisioner.service.installation import Installation
from provisioner.service.jobs import TRIES, Jobs, commands_of

#: Seconds after which a schedule that failed, or that waits for the operator, is tried again.
AGAIN = 10.0
#: What `Job.tick_without` says while the run of the job's last due time waits for the operator.
DEFERRED = "deferred: later times are decided when the operator is done, by schedule_catchup"


class DueSchedules:
    """Starts the due jobs of all owners, and stores each decision, so that no other process repeats it."""

    def __init__(self, installation: Installation, jobs: Jobs) -> None:
        self._installation = installation
        self._jobs = jobs
        #: By job id, the logged error that is not resolved yet, and the monotonic time at which it was logged. The key
        #: "" has an error that concerns all schedules.
        self._told: dict[str, tuple[str, float]] = {}

    def fire(self, *, told: bool = False) -> float:
        """Start the jobs that are due. Return the Unix time of the next call: now if a run was started.

        `told`: a pass logs the errors that affect all schedules, so do not log them here.
        """
        soonest = math.inf
        try:
            jobs = self._installation.store.scheduled()
        except Retryable as error:
            return self._hindered(error, told)
        try:
            self._compare(jobs)
            jobs = tuple(map(self._repaired, jobs))
        except ClockWrong as error:
            return self._hindered(error, told)
        known = {"", *(job.id for job in jobs)}
        self._told = {key: told for key, told in self._told.items() if key in known}
        for job in jobs:
            now = self._installation.clock.now()
            try:
                soonest = min(soonest, self._fire(job, self._installation.now()))
            except ClockWrong as error:
                return self._hindered(error, told)
            except Exception as error:  # noqa: BLE001 - one job's error must not delay the other jobs
                self._complain(f"the schedule could not start a run: {words(error)}", job)
                soonest = min(soonest, now + AGAIN)
            else:
                self._told.pop(job.id, None)
        self._told.pop("", None)
        return soonest

    def _compare(self, jobs: Iterable[Job]) -> None:
        """Compare the clock with the cloud's if a job is due and the last comparison is old. Raises ClockWrong.

        If the cloud does not answer, this computer's clock decides which jobs are due.
        """
        check, now = self._installation.check, self._installation.clock.now()
        if not check.fresh and any(next_tick(job) <= now for job in jobs):
            with contextlib.suppress(CloudError):
                check.measure(self._installation.cloud)
        self._installation.now()

    def _repaired(self, job: Job) -> Job:
        """Return the job. If a wrong clock stored a future time as `scheduled_at`, save the present time instead."""
        now = self._installation.now()
        if not self._installation.check.compared or job.scheduled_at <= now + SLACK:
            return job
        with contextlib.suppress(Conflict):
            [job] = self._installation.save([replace(job, scheduled_at=now)])
        return job

    def _hindered(self, error: Retryable, told: bool) -> float:
        """Log the error once, unless a pass logs it (`told`), and return the Unix time of the next try."""
        if not told:
            self._complain(str(error))
        return self._installation.clock.now() + AGAIN

    def _complain(self, text: str, job: Job | None = None) -> None:
        """Log an error of the job's schedule, or without a job of all schedules: at first, and every ten minutes."""
        key, about = (job.id, {"job": job.name, "owner": job.owner}) if job else ("", {})
        clock = self._installation.clock
        before, told_at = self._told.get(key, ("", 0.0))
        if before != text or clock.elapsed() >= told_at + TOLD_AGAIN:
            self._told[key] = text, clock.elapsed()
            self._installation.journal.complain(text, clock.now(), **about)

    def _fire(self, job: Job, now: float) -> float:
        found: Job | None = job
        for _ in range(TRIES):
            if found is None or found.id != job.id:
                return math.inf
            try:
                decided = self._defer(found, now) or self._decide(found, now)
                if decided and decided.tick_without == DEFERRED:
                    return now + AGAIN
                return next_tick(found) if decided is None else now if decided.tick_run else next_tick(decided)
            except Conflict:
                # Another process has decided about this scheduled time, or has changed a run that this start replaces.
                found = self._installation.store.job(job.owner, job.name)
        raise Conflict(f"other processes keep changing {job.owner}/{job.name}")

    def _defer(self, job: Job, now: float) -> Job | None:
        """Return the stored job if a time is due while the run of the last one waits for the operator; else None.

        After a night without credentials, a run for each time of the night would start at the morning's login. So the
        times after the first one count as missed, as if no control plane had run.
        """
        if next_tick(job) > now or job.tick is None or not job.tick_run:
            return None
        run, deferred = self._installation.store.run(job.tick_run), job.tick_without == DEFERRED
        if run is None or run.stop:
            return None
        waits = run.state is State.QUEUED and run.waiting is Waiting.OPERATOR
        if deferred and (waits or run.state is State.LAUNCHING):
            # While it is tried again, it is not known whether the operator is done.
            return job
        return self._save(job, job.tick, [], job.tick_run, DEFERRED) if waits else None

    def _decide(self, job: Job, now: float) -> Job | None:
        """Start, skip or refuse the job's due runs; return the stored job, or None if no run is due."""
        found = due(job, now)
        if found is None:
            return None
        starts = [tick for tick in found.starts if self._installation.store.run(run_id(job, tick)) is None]
        if not starts and found.starts:
            return self._save(job, found.tick, [], run_id(job, found.starts[-1]), "")
        if not starts:
            ahead = job.tick is not None and job.tick > found.tick
            why = "this computer's clock was ahead" if ahead else "no control plane was running"
            if job.tick_without == DEFERRED:
                why = "the operator was needed"
            return self._save(job, found.tick, [], "", f"missed: {why}")
        policy = job.schedule.concurrency if job.schedule else Concurrency.ALLOW
        before = [] if policy is Concurrency.ALLOW else self._unfinished(job)
        if policy is Concurrency.FORBID and before:
            return self._save(job, found.tick, [], "", f"skipped: run {before[0].id[:12]} had not ended")
        # Of several due runs, start only the latest: the policy would replace or skip the others.
        starts = starts if policy is Concurrency.ALLOW else starts[-1:]
        try:
            fresh = [self._fresh(job, tick, now) for tick in starts]
        except Invalid as error:
            return self._save(job, found.tick, [], "", f"refused: {error}")
        records: list[Record] = []
        for run in [run for run in before if not run.stop]:
            stopped = replace(run, stop=Stop(Outcome.CANCELLED, "replaced by its schedule's next run", now))
            records += [stopped, story.replaced_by_schedule(stopped, now)]
            records.append(self._installation.recorder.audit(SCHEDULE, "stop", run.owner, run.id))
        for run in fresh:
            records += [run, *commands_of(run), story.triggered_by_schedule(run, now)]
            records.append(self._installation.recorder.audit(SCHEDULE, "start", run.owner, run.id))
        try:
            return self._save(job, found.tick, records, fresh[-1].id, "", self._installation.policy.limits)
        except LimitReached as error:
            return self._save(job, found.tick, [], "", f"skipped: {error}")

    def _unfinished(self, job: Job) -> list[Run]:
        return [
            run
            for run in self._installation.store.live().runs
            if run.job_id == job.id and run.idempotency_key.startswith(KEY) and run.ended_at is None
        ]

    def _fresh(self, job: Job, tick: float, now: float) -> Run:
        return replace(self._jobs.fresh_run(job, {}, None, None, key(tick), now), id=run_id(job, tick))

    def _save(
        self, job: Job, tick: float, records: list[Record], run: str, without: str, limits: OwnerLimits = UNLIMITED
    ) -> Job:
        decided = replace(job, tick=tick, tick_run=run, tick_without=without)
        stored = self._installation.recorder.save([decided, *records], limits=limits)
        if without:
            at = self._installation.clock.now()
            self._installation.journal.tell(f"{key(tick)} {without}", at, job=job.name, owner=job.owner)
        return next(each for each in stored if isinstance(each, Job))
