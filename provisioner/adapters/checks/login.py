"""Read the login with which the account is read, and the difference of the clocks."""

from __future__ import annotations

import time

from provisioner.adapters import aws
from provisioner.adapters.checks.looking import Looker
from provisioner.core.check.lines import Unseen
from provisioner.core.check.login import Identity
from provisioner.core.cloud.clock_skew import Reading


def identity(looker: Looker) -> Identity | Unseen:
    def read() -> Identity:
        before = time.monotonic()
        answer = looker.ask("sts", "get_caller_identity")
        after = time.monotonic()
        at = aws.date(answer)
        ahead = Reading(at, after, after - before).ahead(time.time(), after) if at is not None else 0.0
        return Identity(answer["Account"], answer["Arn"], ahead)

    return looker.look("the login", "", read, needed=True)
