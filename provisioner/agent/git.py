"""Checks a repository out, as little of it as the reference needs."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from provisioner.agent.access import Access
from provisioner.agent.disk import NO_SPACE
from provisioner.agent.ending import Ended, outcome_of
from provisioner.agent.outside import Answer, Outside
from provisioner.core.work import Outcome, Repository, Step

#: Nobody answers a prompt here; and transports that run commands (`ext::`) are no place to clone from.
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}

#: After a restart the folder may belong to the image's user already; and nothing tidies up behind us.
OPTIONS = ("-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false")

#: As `git lfs install` would write it where we do not look.
LFS = tuple(
    word
    for line in (
        "smudge=git-lfs smudge -- %f",
        "clean=git-lfs clean -- %f",
        "process=git-lfs filter-process",
        "required=true",
    )
    for word in ("-c", f"filter.lfs.{line}")
)

TRIES = 3


def check_out(repository: Repository, folder: str, granted: Access, outside: Outside) -> None:
    """The repository at its reference in `folder`, which may exist, with its submodules; raises Ended."""
    git = _Git(folder, granted, outside)
    os.makedirs(folder, exist_ok=True)
    reference, kind = repository.reference, repository.reference_type
    if kind == "commit" and not re.fullmatch("[0-9a-fA-F]{4,64}", reference):
        raise Ended(Outcome.REFUSED, Step.CLONE, f"{reference!r} is no commit id")
    where = f"{repository.url} at {reference or 'its default branch'}"
    outside.say(f"cloning {where}")
    _must(git.run("init", "--quiet"), where)
    git.run("remote", "remove", "origin")
    _must(git.run("remote", "add", "--", "origin", repository.url), where)
    if kind == "commit":
        shallow = git.run("fetch", "--quiet", "--depth=1", "origin", reference)
        if shallow.code:
            # Not every server gives out commits by id, and none by a part of it.
            git.fetch(where, "--tags", "origin")
        checkout = ["--detach", reference]
    elif kind == "tag":
        git.fetch(
            where,
            "--depth=1",
            "origin",
            f"refs/tags/{reference}:refs/tags/{reference}",
        )
        checkout = ["--detach", f"refs/tags/{reference}"]
    elif reference:
        git.fetch(
            where,
            "--depth=1",
            "origin",
            f"+refs/heads/{reference}:refs/remotes/origin/{reference}",
        )
        checkout = ["-B", reference, f"refs/remotes/origin/{reference}"]
    else:
        git.fetch(where, "--depth=1", "origin", "HEAD")
        checkout = ["--detach", "FETCH_HEAD"]
    _must(git.run("checkout", "--quiet", "--force", *checkout), where)
    _submodules(git, where)
    asked = git.run("grep", "--cached", "--recurse-submodules", "--quiet", "-e", "filter=lfs", "--", "*.gitattributes")
    if not asked.code and not shutil.which("git-lfs"):
        outside.say(f"{repository.url} keeps files in LFS and this machine has no git-lfs: they stay pointers")


def _submodules(git: _Git, where: str) -> None:
    if not os.path.exists(os.path.join(git.folder, ".gitmodules")):
        return
    update = ("submodule", "update", "--init", "--recursive", "--quiet", "--force")
    answer = git.run(*update, "--depth=1")
    if answer.code and outcome_of(answer.text) is Outcome.REFUSED:
        # Not every server gives out commits by id, as for the repository itself.
        git.run("submodule", "deinit", "--all", "--force", "--quiet")
        shutil.rmtree(os.path.join(git.folder, ".git/modules"), ignore_errors=True)
        answer = git.run(*update)
    _must(answer, f"the submodules of {where}")


@dataclass(frozen=True)
class _Git:
    """git in one folder, let in where `granted` opens."""

    folder: str
    granted: Access
    outside: Outside

    def run(self, *args: str) -> Answer:
        options = (*OPTIONS, *self.granted.options, *(LFS if shutil.which("git-lfs") else ()))
        return self.outside.run(
            "git", *options, "-C", self.folder, *args, env={**ENVIRONMENT, **self.granted.environment}
        )

    def fetch(self, where: str, *args: str) -> None:
        """Passing trouble gets some more tries; what stays wrong ends it at once."""
        for turn in range(1, TRIES + 1):
            answer = self.run("fetch", "--quiet", *args)
            final = outcome_of(answer.text) is Outcome.REFUSED or NO_SPACE.search(answer.text)
            if not answer.code or turn == TRIES or final:
                break
            self.outside.sleep(turn)
        _must(answer, where)


def _must(answer: Answer, where: str) -> None:
    if not answer.code:
        return
    hint = ""
    if "host key verification failed" in answer.text.lower():
        hint = "; hosts are pinned by git.known_hosts in the settings"
    raise Ended(outcome_of(answer.text), Step.CLONE, f"git could not clone {where}: {answer.text}{hint}")
