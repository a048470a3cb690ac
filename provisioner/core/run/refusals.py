"""What a run waits for after a launch that gave it no machine."""

from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.cloud.launches import Refusal
from provisioner.core.errors import CloudError, Misconfigured, NeedsOperator, NoCapacity, QuotaExceeded
from provisioner.core.run.progress import refuse
from provisioner.core.run.records import Run, Tried
from provisioner.core.run.states import State, Waiting, transition

#: The first wait after an answer that names no offer, doubling to the longest.
FIRST = {Waiting.CAPACITY: 30.0, Waiting.QUOTA: 60.0, Waiting.THROTTLE: 2.0, Waiting.OPERATOR: 2.0}
#: Causes that are independent of the market: the next market would fail in the same way.
OURS = frozenset({Waiting.THROTTLE, Waiting.OPERATOR})
#: The longest wait, in seconds, after a fault of this computer, which the operator may repair at any time.
LONGEST_OURS = 30.0
LONGEST = 600.0
#: What makes a named offer dry, so that the next launch asks others.
DRYING = (NoCapacity, Misconfigured)
#: What a reader is shown of earlier answers.
REMEMBERED = 20


def unfilled(run: Run, refusals: Sequence[Refusal], tiers: int, now: float) -> Run:
    """The run, queued again with the cause and the next try, or refused if no try can ever help.

    An offer that has nothing is dry by now, so the next try may come at once: other offers may be
    open. What the next try would only meet again sends the run to its next market, or lets it wait.
    """
    tried = tuple(Tried(_subject(refusal), _code(refusal.error), now) for refusal in refusals)
    run = replace(
        run,
        launch="",
        tried=(run.tried + tried)[-REMEMBERED:],
        dry_launches=run.dry_launches + 1,
    )
    errors = [refusal.error for refusal in refusals]
    if errors and all(isinstance(error, Misconfigured) for error in errors):
        return refuse(run, str(errors[0]), now)
    run = replace(run, state=transition(run.state, State.QUEUED))
    # A quota is not the offer's: another zone cannot help, and no offer is dry for it.
    whole = [refusal.error for refusal in refusals if refusal.offer is None or not isinstance(refusal.error, DRYING)]
    cause = _cause(whole or errors)
    text = "; ".join(dict.fromkeys(str(error) for error in errors)) or "the cloud gave no machine and no reason"
    # After a whole round of markets without a machine, wait; within it, go on at once.
    rounds, within = divmod(run.dry_launches, tiers)
    at_once = errors and (not whole or within > 0) and cause not in OURS
    longest = LONGEST_OURS if cause is Waiting.OPERATOR else LONGEST
    wait = 0.0 if at_once else min(longest, FIRST[cause] * 2 ** min(max(rounds - 1, 0), 10))
    tier = (run.tier + 1) % tiers if whole and cause not in OURS else run.tier
    return replace(run, waiting=cause, waiting_for=text, next_try_at=now + wait, tier=tier)


def _cause(errors: Sequence[CloudError]) -> Waiting:
    if any(isinstance(error, QuotaExceeded) for error in errors):
        return Waiting.QUOTA
    if any(isinstance(error, NeedsOperator) for error in errors):
        return Waiting.OPERATOR
    if not errors or any(isinstance(error, NoCapacity | Misconfigured) for error in errors):
        return Waiting.CAPACITY
    return Waiting.THROTTLE


def _subject(refusal: Refusal) -> str:
    return str(refusal.offer) if refusal.offer else "the whole request"


def _code(error: CloudError) -> str:
    return error.code or type(error).__name__
