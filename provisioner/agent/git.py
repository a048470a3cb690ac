"""Checks a repository out, as little of it as the reference needs."""

from __future__ import annotations

import os
import re

from provisioner.agent.ending import Ended, outcome_of
from provisioner.agent.outside import Answer, Outside
from provisioner.core.work import Outcome, Repository, Step

#: Nobody answers a prompt here; and transports that run commands (`ext::`) are no place to clone from.
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}

#: After a restart the folder may belong to the image's user already; and nothing tidies up behind us.
OPTIONS = ("-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false")

TRIES = 3


def check_out(repository: Repository, folder: str, outside: Outside) -> None:
    """The repository at its reference in `folder`, which may exist; raises Ended."""
    os.makedirs(folder, exist_ok=True)
    reference, kind = repository.reference, repository.reference_type
    if kind == "commit" and not re.fullmatch("[0-9a-fA-F]{4,64}", reference):
        raise Ended(Outcome.REFUSED, Step.CLONE, f"{reference!r} is no commit id")
    where = f"{repository.url} at {reference or 'its default branch'}"
    outside.say(f"cloning {where}")
    _must(_git(folder, outside, "init", "--quiet"), where)
    _git(folder, outside, "remote", "remove", "origin")
    _must(_git(folder, outside, "remote", "add", "--", "origin", repository.url), where)
    if kind == "commit":
        shallow = _git(folder, outside, "fetch", "--quiet", "--depth=1", "origin", reference)
        if shallow.code:
            # Not every server gives out commits by id, and none by a part of it.
            _fetch(folder, outside, where, "--tags", "origin")
        checkout = ["--detach", reference]
    elif kind == "tag":
        _fetch(
            folder,
            outside,
            where,
            "--depth=1",
            "origin",
            f"refs/tags/{reference}:refs/tags/{reference}",
        )
        checkout = ["--detach", f"refs/tags/{reference}"]
    elif reference:
        _fetch(
            folder,
            outside,
            where,
            "--depth=1",
            "origin",
            f"+refs/heads/{reference}:refs/remotes/origin/{reference}",
        )
        checkout = ["-B", reference, f"refs/remotes/origin/{reference}"]
    else:
        _fetch(folder, outside, where, "--depth=1", "origin", "HEAD")
        checkout = ["--detach", "FETCH_HEAD"]
    _must(_git(folder, outside, "checkout", "--quiet", "--force", *checkout), where)


def _fetch(folder: str, outside: Outside, where: str, *args: str) -> None:
    """Passing trouble gets some more tries; what stays wrong ends it at once."""
    for turn in range(1, TRIES + 1):
        answer = _git(folder, outside, "fetch", "--quiet", *args)
        if not answer.code or turn == TRIES or outcome_of(answer.text) is Outcome.REFUSED:
            break
        outside.sleep(turn)
    _must(answer, where)


def _git(folder: str, outside: Outside, *args: str) -> Answer:
    return outside.run("git", *OPTIONS, "-C", folder, *args, env=ENVIRONMENT)


def _must(answer: Answer, where: str) -> None:
    if answer.code:
        raise Ended(
            outcome_of(answer.text),
            Step.CLONE,
            f"git could not clone {where}: {answer.text}",
        )
