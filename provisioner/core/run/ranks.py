"""Decide when an attempt of several ranks is over, and which rank's end is its verdict.

A machine that dies makes its peers fail within seconds, long before EC2 shows its end. So after a failure the verdict
waits until each other rank has shown a sign of life. An attempt with one rank is the simplest case: it has that rank's
verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core.protocol.messages import Notice, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.parts import Gang
from provisioner.core.run.machines.silence import HEARING
from provisioner.core.run.records import Assignment, Node, Run, Verdict

#: Seconds after the order to stop within which each rank must show a sign of life; after that it counts as lost.
ACCOUNTING = 120.0
#: Seconds after the first failure within which a lost or interrupted machine counts as its cause.
CAUSE = 60.0
#: Failures within this many seconds count as simultaneous: then a process that died of a signal counts as the cause.
TOGETHER = 5.0
#: Seconds from the order to stop, after a spot notice, to SIGTERM. By then all ranks have read the order, so all of
#: them get SIGTERM at the same time and can save one common checkpoint.
COMMON_INSTANT = 4.0
#: Seconds before the time in a spot notice at which the ranks get SIGKILL, so that the rest of the log is shipped.
LAST_BYTES = 20.0
#: Maximum number of ranks whose exit codes are in a reason.
NAMED = 8


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run's present attempt, and the verdicts on those that have ended."""

    run: Run
    gang: Gang
    #: In the order of their ranks. An adopted attempt may have fewer nodes than ranks.
    current: Sequence[Assignment]
    #: By rank.
    ends: Mapping[int, Verdict]
    #: The nodes whose mailbox is searched for a result: they have finished, or a verdict would be presumed.
    seek: tuple[Node, ...] = ()
    #: When reports last could not be read, as Unix seconds.
    unreadable_at: float = 0.0

    @property
    def open(self) -> list[Node]:
        """The nodes that have not ended."""
        return [each.node for each in self.current if each.node.rank not in self.ends]

    @property
    def settled(self) -> tuple[Node, ...]:
        """The nodes that have ended and have no stored verdict yet, with their verdicts."""
        return tuple(
            replace(each.node, verdict=self.ends[each.node.rank])
            for each in self.current
            if each.node.verdict is None and each.node.rank in self.ends
        )

    @property
    def ready(self) -> bool:
        """Whether all ranks wait at the barrier or have passed it, and none has ended or must stop."""
        return (
            len(self.current) == self.run.together > 1
            and not self.ends
            and not stop_of(self.run)
            and all(
                each.node.report is not None
                and each.node.report.ended is None
                and Step.BARRIER in each.node.report.spans
                for each in self.current
            )
        )

    @property
    def executing(self) -> bool:
        """Whether the ranks are ordered to execute the command, or one of them executes it."""
        return self.run.start_order == self.run.attempt or any(has_started(each.node) for each in self.current)

    def stop_for_others(self, now: float) -> Stop | None:
        """Return the order to stop for the other ranks, if the end of a rank or a spot notice ends the attempt."""
        early = {node.rank: node.report.ended for node in self.open if node.report and node.report.ended}
        ended = early | {rank: verdict.outcome for rank, verdict in self.ends.items()}
        for rank, outcome in sorted(ended.items()):
            if self._decides(rank, outcome):
                return _stop_ranks(Outcome.CANCELLED, f"rank {rank} has ended: {outcome}", now)
        headless = self.gang.success == "leader" and all(each.node.rank for each in self.current)
        if self._incomplete and (not self.executing or headless) and all(each.node.report for each in self.current):
            return _stop_ranks(Outcome.CANCELLED, "the machines of other ranks were not found", now)
        if not self.executing:
            return None
        for node in self.open:
            notice = _notice(node)
            if notice and node.rank not in early and self._decides(node.rank, Outcome.INTERRUPTED):
                left = max(0.0, notice.at - now)
                # After a notice that was read too late, the machines that go on have their usual grace period.
                kill_at = notice.at - min(LAST_BYTES, left / 2) if left else 0.0
                reason = f"EC2 interrupts the machine of rank {node.rank}"
                begin_at = now + min(COMMON_INSTANT, left / 8)
                return _stop_ranks(Outcome.INTERRUPTED, reason, now, begin_at, kill_at)
        return None

    def over(self, now: float) -> bool:
        """Whether the verdict on the attempt is certain."""
        if not self.open:
            return True
        deciding = [verdict for rank, verdict in self._causes().items() if self._decides(rank, verdict.outcome)]
        if not deciding or self.run.ranks_stop is None:
            return False
        reported = [(node.rank, node.report.ended) for node in self.open if node.report and node.report.ended]
        if any(outcome is not Outcome.CANCELLED and self._decides(rank, outcome) for rank, outcome in reported):
            # A rank that has ended by itself still ships its log; its result may be the verdict.
            return False
        # Before the command executes, the end of one machine does not make another rank fail.
        if not self.executing or self._led_by(self._causes()):
            return True
        # While reports could not be read, silence proved nothing.
        return now >= max(self.run.ranks_stop.at + ACCOUNTING, self.unreadable_at + HEARING) or not self._silent()

    def verdict(self) -> Verdict:
        """Return the verdict on an attempt that is over."""
        if self.run.together == 1:
            return self.ends[self.current[0].node.rank]
        causes = self._causes()
        if self._led_by(causes):
            return self._named(0, causes[0])
        if self.executing and self.run.ranks_stop:
            # No sign of life came within ACCOUNTING seconds.
            lost = Verdict(Outcome.LOST, "it stopped reporting when the others failed", self.run.ranks_stop.at)
            causes |= dict.fromkeys((node.rank for node in self._silent()), lost)
        bad = {rank: verdict for rank, verdict in causes.items() if verdict.outcome is not Outcome.SUCCEEDED}
        told = all(verdict.outcome is Outcome.CANCELLED for verdict in bad.values())
        if told and not self.run.stop and (bad or self._incomplete):
            # The rank whose end decided the attempt is not known, for example because the store was restored.
            at = max(verdict.at for verdict in self.ends.values())
            return Verdict(Outcome.LOST, "the end of at least one rank is not known", at)
        if not bad:
            return max(self.ends.values(), key=lambda verdict: verdict.at)
        nodes = {each.node.rank: each.node for each in self.current}
        first = min(_ended_at(nodes[rank], verdict) for rank, verdict in bad.items())

        def order(rank: int) -> tuple[int, bool, float]:
            verdict, ended = bad[rank], _ended_at(nodes[rank], bad[rank])
            evident = ended <= first + TOGETHER and (verdict.process_exit_code or 0) > 128
            return _precedence(verdict, _last_sign(nodes[rank], ended) <= first + CAUSE), not evident, ended

        rank = min(bad, key=order)
        return self._named(rank, bad[rank])

    @property
    def _incomplete(self) -> bool:
        """Whether ranks are missing, because their machines were not found when the store was restored."""
        return len(self.current) < self.run.together

    def _decides(self, rank: int, outcome: Outcome) -> bool:
        """Whether the attempt is over when this rank has this outcome."""
        if self.gang.success == "leader":
            # No rank starts without the others, so a worker that ends before the start cannot be ignored.
            ignored = self.gang.workers == "ignore" and self.executing
            return rank == 0 or (outcome is not Outcome.SUCCEEDED and not ignored)
        return outcome is not Outcome.SUCCEEDED

    def _led_by(self, causes: Mapping[int, Verdict]) -> bool:
        """Whether the leader's end is the verdict, whatever the other ranks do; it was not told to stop.

        The end of a worker's machine may be the cause of the leader's failure, unless workers are ignored.
        """
        if self.gang.success != "leader" or 0 not in causes:
            return False
        return causes[0].outcome is Outcome.SUCCEEDED or self.gang.workers == "ignore"

    def _causes(self) -> dict[int, Verdict]:
        """Return the verdicts that may be the cause of the attempt's end: not those of ranks that were ordered to stop.

        If all ranks have ended and no other verdict exists, return all verdicts.
        """
        if self.run.stop or not self.run.ranks_stop:
            return dict(self.ends)
        own = {rank: verdict for rank, verdict in self.ends.items() if verdict.outcome is not Outcome.CANCELLED}
        return own if own or self.open else dict(self.ends)

    def _silent(self) -> list[Node]:
        """Return the nodes that have not ended and not reported since the order to stop."""
        since = self.run.ranks_stop.at if self.run.ranks_stop else 0.0
        return [node for node in self.open if node.reported_at is None or node.reported_at <= since]

    def _named(self, rank: int, verdict: Verdict) -> Verdict:
        """Return the verdict with the rank and the exit codes of the other ranks in its reason."""
        codes = [
            f"rank {other}: {found.process_exit_code}"
            for other, found in sorted(self.ends.items())
            if other != rank and found.process_exit_code is not None
        ]
        more = f" and {len(codes) - NAMED} more" if len(codes) > NAMED else ""
        others = f" (exit codes of other ranks: {', '.join(codes[:NAMED])}{more})" if codes else ""
        return replace(verdict, reason=f"rank {rank}: {verdict.reason}{others}")


def has_started(node: Node) -> bool:
    """Return whether the node's command has begun to execute."""
    return bool(node.report and Step.COMMAND in node.report.spans) or bool(
        node.result and Step.COMMAND in node.result.spans
    )


def stop_of(run: Run) -> Stop | None:
    """Return the order to stop for the run's machines: a user's, or that after the end of a rank."""
    return run.stop or run.ranks_stop


def _stop_ranks(outcome: Outcome, reason: str, at: float, begin_at: float = 0.0, kill_at: float = 0.0) -> Stop:
    return Stop(outcome, reason, at, begin_at, kill_at, ends_run=False)


def _precedence(verdict: Verdict, caused: bool) -> int:
    """Return a number that orders the verdicts on the ranks of one attempt: the lowest number has precedence."""
    match verdict.outcome:
        case Outcome.CANCELLED:
            return 0
        case Outcome.TIMED_OUT:
            return 1
        case Outcome.REFUSED:
            return 2
        case Outcome.INTERRUPTED | Outcome.LOST if caused:
            return 3
        case Outcome.FAILED:
            return 4
        case _:
            return 5


def _notice(node: Node) -> Notice | None:
    found = node.result.notice if node.result else None
    return found or (node.report.notice if node.report else None)


def _ended_at(node: Node, verdict: Verdict) -> float:
    """Return when the node's command ended, by our clock. The result has a later time: the log is shipped before it."""
    span = node.result.spans.get(Step.COMMAND) if node.result else None
    return _by_our_clock(span.ended, node) if span and span.ended is not None else verdict.at


def _last_sign(node: Node, ended: float) -> float:
    """Return when the node was interrupted, ended or last reported."""
    if notice := _notice(node):
        return _by_our_clock(notice.seen, node)
    if node.result:
        return ended
    return _by_our_clock(node.report.at, node) if node.report else node.bound_at


def _by_our_clock(at: float, node: Node) -> float:
    """Convert a time of the machine's clock: the clocks count as equal, unless a report comes from the future."""
    return at + min(0.0, node.clock_ahead)
