"""Types for git repositories in a recipe (URLs, references, depths), and the SSH hosts to trust."""

import fnmatch
import re
from collections.abc import Iterable
from typing import Annotated, Any

from provisioner.core.recipe.kinds import Kind, matching, rule


def repository_name(url: str) -> str:
    """Return the name of the folder that `git clone` makes for `url`."""
    path = re.split("[?#]", url)[0].rstrip("/").removesuffix("/.git")
    return re.split("[/:]", path)[-1].removesuffix(".git")


def is_ssh(url: str) -> bool:
    return bool(re.match(r"ssh://|[^/]+@[^/]+:", url))


def _repository_url(text: str) -> str:
    # A user or host must not begin with a hyphen: ssh would read it as an option.
    user, path = r"[A-Za-z0-9_][A-Za-z0-9._-]*", r"[^\s-]\S*"
    host = r"([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
    if pip := re.match(r"git\+([a-z]+://)", text):
        raise ValueError(f"git+{pip[1]} is a URL for pip, not for git: write {pip[1]}")
    if re.match(r"ssh://[^/@]*:[^/@]*@|(https?|git)://[^/@]*@", text):
        raise ValueError(
            "a recipe must not contain credentials: remove the part before @, and name a secret in git.credential"
        )
    plain = re.fullmatch(r"(https?|git)://[^/\s]+/\S+|file:///\S+", text)
    ssh = re.fullmatch(rf"ssh://({user}@)?{host}(:[0-9]{{1,5}})?/{path}|{user}@{host}:{path}", text)
    if not (plain or ssh) or not text.isprintable():
        raise ValueError(
            "write an http(s), git, ssh or file URL, or git@host:path; an IPv6 address as the host has brackets"
        )
    if repository_name(text) in ("", ".", ".."):
        raise ValueError("the URL does not end in a repository's name")
    return text


def _reference(text: str) -> str:
    """Return the reference; raises ValueError for names such as `HEAD`, `origin/main` and `refs/tags/v1`."""
    if text in ("HEAD", "@"):
        raise ValueError("leave reference out for the default branch, or name a branch, or a tag with reference_type")
    if tag := re.fullmatch("refs/tags/(.+)", text):
        raise ValueError(f"write {tag[1]}, with reference_type: tag")
    if branch := re.fullmatch("(?:refs/heads/|(?:(?:refs/)?remotes/)?origin/)(.+)", text):
        raise ValueError(f"write {branch[1]}: reference_type says that it is a branch")
    if text.startswith("refs/"):
        raise ValueError("write a branch or a tag, or the commit's id with reference_type: commit")
    return text


def _depth(value: Any) -> Any:
    if isinstance(value, bool) or not re.fullmatch("full|[1-9][0-9]{0,8}", str(value)):
        raise ValueError("write a number of commits, 1 or more, or full for all commits, branches and tags")
    return str(value)


RepositoryUrl = Annotated[
    str, Kind(_repository_url, {"type": "string", "pattern": "^((https?|git|ssh|file)://|[^/]+@[^/]+:)"})
]


#: Roughly the names that git-check-ref-format(1) allows, except those that git would read as an option.
Reference = Annotated[
    str,
    matching(r"(?!-)(?!.*(\.\.|@\{))[^\s\x00-\x20~^:?*\[\\\x7f]+", "write a branch, a tag or a commit"),
    rule(_reference),
]


#: A number of commits to clone, or `full`.
Depth = Annotated[
    str,
    Kind(
        _depth,
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^(full|[1-9][0-9]{0,8})$"}]},
        first=True,
    ),
]


#: A line of known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): marker, hosts, kind, key.
KNOWN_HOST = r"(@(cert-authority|revoked) )?[^\s#@]\S* [a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\n]*)?"

KNOWN_HOSTS = (
    # GitHub Docs, "GitHub's SSH key fingerprints":
    # its SHA-256 is +DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU.
    "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    # GitLab Docs, "GitLab.com settings", "SSH host keys fingerprints":
    # its SHA-256 is eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8.
    "gitlab.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAfuCHKVTjquxvt6CM6tdG4SLp1Btn/nOeHHE5UOzRdf",
    # Bitbucket Cloud support, "Configure SSH and two-step verification":
    # its SHA-256 is ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM.
    "bitbucket.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIazEu89wgQZ4bqs3d63QSMzYVa0MuJ2e2gKTKqu+UUO",
)


def host_of(url: str) -> str:
    """Return the host of a git URL over SSH, as known_hosts names it; empty for any other URL.

    A URL has brackets around an IPv6 address. known_hosts has brackets around any host with a port other than 22.
    """
    host = r"(\[[^]/]+]|[^/:\[]+)"
    if not (found := re.match(rf"ssh://(?:[^@/]*@)?{host}(?::([0-9]+))?/|[^@/]+@{host}:", url)):
        return ""
    long, port, short = found.groups()
    name = (long or short).strip("[]")
    return name if port in (None, "22") else f"[{name}]:{port}"


def knows(lines: Iterable[str], host: str) -> bool:
    """Return whether a line of known_hosts may be for `host`; a hashed line may be for any host."""
    patterns = [
        pattern
        for line in lines
        if not line.startswith("@revoked")
        for pattern in line.removeprefix("@cert-authority ").split(" ")[0].split(",")
    ]
    # fnmatch reads brackets as a set of characters; known_hosts has only * and ?.
    return any(
        pattern.startswith("|1|") or fnmatch.fnmatchcase(host, pattern.replace("[", "[[]")) for pattern in patterns
    )
