"""The hosts that git over SSH may trust: nobody is there to answer ssh's question."""

import fnmatch
import re
from collections.abc import Iterable

#: A line of known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): marker, hosts, kind, key.
LINE = r"(@(cert-authority|revoked) )?[^\s#@]\S* [a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\n]*)?"

BUILT_IN = (
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
    """Whether a line may be about `host`; what a hashed line is about cannot be told, so it may."""
    patterns = [
        pattern
        for line in lines
        if not line.startswith("@revoked")
        for pattern in line.removeprefix("@cert-authority ").split(" ")[0].split(",")
    ]
    # fnmatch would take a bracket for a choice of characters; known_hosts has only * and ?.
    return any(
        pattern.startswith("|1|") or fnmatch.fnmatchcase(host, pattern.replace("[", "[[]")) for pattern in patterns
    )
