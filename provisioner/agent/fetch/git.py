"""Check out a repository: the commit of its reference, and as much of the history as the recipe sets."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass

from provisioner.agent.fetch.git_credentials import Access, needs
from provisioner.agent.fetch.git_lfs import lfs_options, refuse_pointers
from provisioner.agent.machine.disk import NO_SPACE
from provisioner.agent.machine.tools import Answer, Output, Tools, output
from provisioner.agent.outcomes import Ended, outcome_of, unresolved_host
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Outcome, Step

#: Git must not prompt, because there is no user. LC_ALL keeps git's messages in English, which `outcomes` parses.
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}

#: After a restart of the agent the folder may already belong to the image's user, so git must accept every owner. Git's
#: maintenance is off, because its background processes would outlive the command.
OPTIONS = ("-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false")

#: A depth larger than any history; `--unshallow` would fail in a repository that is not shallow (git-fetch(1)).
ALL_COMMITS = "--depth=2147483647"

TRIES = 3

#: The default branch in the output of `ls-remote --symref` (git-ls-remote(1)).
DEFAULT = re.compile(r"ref: refs/heads/(\S+)\s+HEAD\b")

#: git's error message for a reference that the server does not have.
NO_REFERENCE = re.compile(r"couldn't find remote ref", re.IGNORECASE)

#: git's error message for a submodule that cannot be cloned.
NO_SUBMODULE = re.compile(r"clone of '([^']+)' into submodule path '([^']+)' failed")

#: Error messages of git, ssh and the large git hosts for a repository that needs another credential, or whose transport
#: git may not use without a credential.
NOT_LET_IN = re.compile(
    r"transport '\w+' not allowed|could not read username|permission denied|authentication failed"
    r"|host key verification failed|repository not found|repository .* not found|error: 40[134]|access rights",
    re.IGNORECASE,
)


def check_out(repository: Repository, folder: str, granted: Access, tools: Tools) -> None:
    """Check out the repository, with submodules and LFS files, in `folder`, which may exist. Raises Ended."""
    git = _Git(folder, granted, tools, repository.lfs)
    os.makedirs(folder, exist_ok=True)
    where = f"{repository.url} at {repository.reference or 'its default branch'}"
    tools.say(f"cloning {where}")
    _must(git.run("init", "--quiet"), where)
    if any("origin" in name.split() for name in git.listed("remote")):
        git.run("remote", "remove", "origin")
    _must(git.run("remote", "add", "--", "origin", repository.url), where)
    target = _target(git, repository, where)
    _fetch(git, repository, target, where)
    _must(git.run("checkout", "--quiet", "--force", *target.checkout), where)
    if target.passing:
        git.run("update-ref", "-d", target.passing)
    _submodules(git, repository, where)
    refuse_pointers(repository, folder, git.listed)


@dataclass(frozen=True)
class _Target:
    """What to fetch, and how to check it out."""

    refspec: str
    checkout: tuple[str, ...]
    #: A temporary reference that the fetch makes; empty if none is needed.
    passing: str = ""


def _target(git: _Git, repository: Repository, where: str) -> _Target:
    reference, kind = repository.reference, repository.reference_type
    if kind == "commit":
        if not re.fullmatch("[0-9a-fA-F]{4,64}", reference):
            raise Ended(Outcome.REFUSED, Step.CLONE, f"{reference!r} is not a commit id (4 to 64 hexadecimal digits)")
        # `git describe` needs tags, and git fetches tags only for commits that it stores under a reference.
        passing = "refs/provision/commit"
        return _Target(f"+{reference}:{passing}", ("--detach", reference), passing)
    if kind == "tag":
        tag = f"refs/tags/{reference}"
        return _Target(f"{tag}:{tag}", ("--detach", tag))
    branch = reference or git.default_branch(where)
    if not branch:
        # The server's HEAD is detached, or the server does not report its branch.
        return _Target("HEAD", ("--detach", "FETCH_HEAD"))
    tracked = f"refs/remotes/origin/{branch}"
    return _Target(f"+refs/heads/{branch}:{tracked}", ("-B", branch, "--track", tracked))


def _fetch(git: _Git, repository: Repository, target: _Target, where: str) -> None:
    """Fetch the target's commit first, because a shallow fetch is the fastest, and then the history."""
    depth = repository.depth
    shallow = ("fetch", "--quiet", f"--depth={depth if depth.isdigit() else 1}", "origin", target.refspec)
    first = git.run(*shallow) if target.passing else git.ask(*shallow)
    if first.code and target.passing:
        # Some servers reject a fetch by commit id, and all reject an abbreviated id.
        _must(git.fetch("--tags", "origin"), where)
        if git.run("rev-parse", "--quiet", "--verify", f"{repository.reference}^{{commit}}").code:
            reason = (
                f"{repository.url} has no commit {repository.reference} on a branch or tag,"
                " or several commits whose ids begin with it"
            )
            raise Ended(Outcome.REFUSED, Step.CLONE, reason)
        return
    if first.code and NO_REFERENCE.search(first.text):
        raise Ended(Outcome.REFUSED, Step.CLONE, _missing(git, repository))
    _must(first, where)
    if depth == "full":
        branches = "+refs/heads/*:refs/remotes/origin/*"
        _must(git.fetch(ALL_COMMITS, "--tags", "origin", target.refspec, branches), where)
    elif not depth and os.path.exists(os.path.join(git.folder, ".git/shallow")):
        # The first fetch got the files, so only commits are wanted. A server that cannot filter sends older files, too.
        _must(git.fetch(ALL_COMMITS, "--filter=tree:0", "origin", target.refspec), where)


def _missing(git: _Git, repository: Repository) -> str:
    """Return the error message for a branch or tag that the server lacks; it also says what the server has instead."""
    name, kind = repository.reference, repository.reference_type
    reason = f"{repository.url} has no {kind} {name!r}"
    if not name:
        return f"{repository.url} has no default branch, because its HEAD has no commit: set reference to a branch"
    other, refs = ("tag", "tags") if kind == "branch" else ("branch", "heads")
    answer = git.ask("ls-remote", "--symref", "origin", "HEAD", f"refs/{refs}/{name}")
    if re.search(rf"\srefs/{refs}/{re.escape(name)}(;|$)", answer.text):
        return f"{reason}, but it has a {other} of that name: set reference_type: {other}"
    default = DEFAULT.search(answer.text)
    hint = f"; its default branch is {default[1]}" if default else ""
    return f"{reason}{hint}; check reference and reference_type (branch, tag or commit)"


def _submodules(git: _Git, repository: Repository, where: str) -> None:
    if not os.path.exists(os.path.join(git.folder, ".gitmodules")):
        return
    update = ("submodule", "update", "--init", "--recursive", "--quiet", "--force")
    depth = () if repository.depth == "full" else (f"--depth={repository.depth or 1}",)
    answer = git.run(*update, *depth)
    if answer.code and depth and outcome_of(answer.text) is Outcome.REFUSED and not NO_SUBMODULE.search(answer.text):
        # Some servers reject a fetch by commit id.
        git.run("submodule", "deinit", "--all", "--force", "--quiet")
        shutil.rmtree(os.path.join(git.folder, ".git/modules"), ignore_errors=True)
        answer = git.run(*update)
    failed = NO_SUBMODULE.search(answer.text)
    if answer.code and failed and NOT_LET_IN.search(answer.text) and (why := needs(failed[1], git.granted)):
        # The URL may contain a password.
        shown = re.sub(r"//[^/@]*@", "//", failed[1])
        name = os.path.relpath(failed[2], git.folder)
        raise Ended(Outcome.REFUSED, Step.CLONE, f"the submodule {name} is {shown}: {why}")
    _must(answer, f"the submodules of {where}")


@dataclass(frozen=True)
class _Git:
    """Runs git in one folder, with the credential and the transports of `granted`."""

    folder: str
    granted: Access
    tools: Tools
    lfs: bool

    def run(self, *args: str) -> Answer:
        return self.tools.run(*self._command(*args), env=self._environment())

    def ask(self, *args: str) -> Answer:
        """Run a command that connects to the server; retry temporary failures, TRIES times in all."""
        for turn in range(1, TRIES + 1):
            answer = self.run(*args)
            final = outcome_of(answer.text) is Outcome.REFUSED or NO_SPACE.search(answer.text)
            if not answer.code or turn == TRIES or final:
                break
            self.tools.sleep(turn)
        return answer

    def fetch(self, *args: str) -> Answer:
        return self.ask("fetch", "--quiet", *args)

    def default_branch(self, where: str) -> str:
        """Return the name of the server's default branch; empty if its HEAD names none. Raises Ended."""
        answer = self.ask("ls-remote", "--symref", "origin", "HEAD")
        _must(answer, where)
        found = DEFAULT.search(answer.text)
        return found[1] if found else ""

    def listed(self, *args: str) -> list[str]:
        """Return the NUL-terminated entries that a local command prints; an empty list if it fails."""
        left = max(0.0, self.tools.until - time.time())
        _, data = output(
            self._command(*args),
            left,
            env=self._environment(),
            wanted=Output.NO_ERRORS,
            meanwhile=self.tools.check,
        )
        return [os.fsdecode(entry) for entry in data.split(b"\0") if entry]

    def _command(self, *args: str) -> tuple[str, ...]:
        return ("git", *OPTIONS, *self.granted.options, *lfs_options(), "-C", self.folder, *args)

    def _environment(self) -> dict[str, str]:
        # "1" makes git-lfs leave pointers unchanged. "0" must be set explicitly, because the agent's environment may
        # contain this variable.
        skip = "0" if self.lfs else "1"
        return {**ENVIRONMENT, "GIT_LFS_SKIP_SMUDGE": skip, **self.granted.environment}


def _must(answer: Answer, where: str) -> None:
    if not answer.code:
        return
    hint = ""
    if "host key verification failed" in answer.text.lower():
        hint = "; hosts are pinned by git.known_hosts in the settings"
    outcome = outcome_of(answer.text)
    reason = f"git could not clone {where}: {answer.text}{hint}"
    host = unresolved_host(answer.text) if outcome is Outcome.LOST else ""
    raise Ended(outcome, Step.CLONE, reason, unresolved_host=host)
