"""Call EC2 for many machines, so that one bad id or one broken zone does not fail the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import groupby
from typing import TypeVar

from provisioner.core.errors import CloudError, Misconfigured, NeedsOperator, Retryable

R = TypeVar("R")

#: Maximum number of ids of one call. EC2 accepts 1,000 and recommends smaller batches (API Reference,
#: "TerminateInstances").
BATCH = 100


def each(
    operation: Callable[[list[str]], R], ids: Collection[str], zone: Callable[[str], str]
) -> tuple[list[R], dict[str, CloudError]]:
    """Return the answers of `operation` for all of `ids` that it accepts, and the error of each other id.

    EC2 rejects a whole call for one bad id, and may fail a call with a machine in a broken zone. `zone` returns a
    machine's zone, or "" if it is unknown.
    """
    answers: list[R] = []
    refused: dict[str, CloudError] = {}
    ordered = sorted(set(ids), key=lambda one: (zone(one), one))
    waiting = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    while waiting:
        batch = waiting.pop(0)
        try:
            answers.append(operation(batch))
        except CloudError as error:
            smaller = _smaller(batch, error, zone)
            waiting += smaller
            tried_again = {one for part in smaller for one in part}
            refused |= {one: error for one in batch if one not in tried_again}
    return answers, refused


def _smaller(batch: list[str], error: CloudError, zone: Callable[[str], str]) -> list[list[str]]:
    """Return the batches to try instead of a batch that failed; they leave out the ids to which the error applies."""
    if isinstance(error, NeedsOperator):
        return []
    if isinstance(error, Retryable):
        zones = [list(part) for _, part in groupby(batch, zone)]
        return zones if len(zones) > 1 else []
    if not isinstance(error, Misconfigured):
        return []
    named = set(re.findall(r"[\w-]+", str(error)))
    innocent = [one for one in batch if one not in named]
    if len(innocent) < len(batch):
        return [innocent] if innocent else []
    if error.code.startswith("InvalidInstanceID") and len(batch) > 1:
        half = len(batch) // 2
        return [batch[:half], batch[half:]]
    return []
