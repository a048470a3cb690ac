"""What lets git into a private repository: shown to that repository's host alone, in memory, and soon gone."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from provisioner.agent.ending import Ended
from provisioner.agent.place import private
from provisioner.core.work import Outcome, Repository, Step

#: What every repository may use; a file of this machine only another file may name as its submodule.
PROTOCOLS = "git:http:https"

#: Nothing that git's or ssh's own configuration would take for a pattern or a second word.
HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")

#: Git's form without a scheme: `git@host:path` (gitglossary, git-fetch "GIT URLS").
SHORT = re.compile(r"(?:[^/@:]+@)?([^/@:]+):")

#: The first fitting value counts (ssh_config(5)); other hosts, of submodules, get no key to see.
SSH = """Host {host}
    IdentityFile "{folder}/key"
Host *
    IdentityFile none
    IdentitiesOnly yes
    IdentityAgent none
    PreferredAuthentications publickey
    StrictHostKeyChecking yes
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile /dev/null
    UpdateHostKeys no
    BatchMode yes
    ConnectTimeout 30
    ClearAllForwardings yes
"""


@dataclass(frozen=True)
class Access:
    """Options and environment for git."""

    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def access(repository: Repository, credential: bytes | None, known_hosts: str, folder: Path) -> Iterator[Access]:
    """As long as this lasts `folder`, the caller's own, holds the credential; raises Ended.

    A value that begins like a PEM file is an SSH key; all else is `user:token` or a token, for https.
    An SSH key is of no use for https: such a repository is cloned as a public one.
    """
    protocols = PROTOCOLS + (":file" if repository.url.startswith("file:") else "")
    scheme, host = _target(repository.url)
    key = credential is not None and credential.lstrip().startswith(b"-----BEGIN")
    if credential is None or (key and scheme == "https"):
        yield Access(environment={"GIT_ALLOW_PROTOCOL": protocols})
        return
    if scheme != ("ssh" if key else "https") or not HOST.fullmatch(host):
        kind = "an SSH key, for ssh:// or git@host:" if key else "a token, for https://"
        reason = f"the secret {repository.credential} is {kind}, and no credential for {repository.url}"
        raise Ended(Outcome.REFUSED, Step.CLONE, reason)
    with private(folder):
        if key:
            # A carriage return, or no end of line at the end, and ssh cannot read it.
            _write(folder / "key", credential.replace(b"\r\n", b"\n").strip() + b"\n")
            _write(folder / "known_hosts", known_hosts.encode() + b"\n")
            _write(folder / "config", SSH.format(host=host, folder=folder).encode())
            ssh = {
                "GIT_SSH_COMMAND": f"ssh -F {shlex.quote(str(folder / 'config'))}",
                "GIT_SSH_VARIANT": "ssh",
                "GIT_ALLOW_PROTOCOL": f"{protocols}:ssh",
            }
            yield Access(environment=ssh)
        else:
            user, colon, token = credential.strip().rpartition(b":")
            if not colon:
                user = b"x-access-token"
            _write(folder / "credential", b"username=%s\npassword=%s\n" % (user, token))
            # Git itself asks it for this host and port alone, after a redirect too (gitcredentials(7)).
            helper = f'!f() {{ test "$1" != get || cat {shlex.quote(str(folder / "credential"))}; }}; f'
            options = ("-c", "credential.helper=", "-c", f"credential.https://{host}.helper={helper}")
            yield Access(options, {"GIT_ALLOW_PROTOCOL": protocols})


def _target(url: str) -> tuple[str, str]:
    """Scheme and host of a git URL; the host with its port where it is https."""
    short = SHORT.match(url)
    if short and "://" not in url:
        return "ssh", short[1]
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2] if parts.scheme == "https" else parts.hostname or ""
    except ValueError:
        return "", ""
    return ("ssh" if parts.scheme == "git+ssh" else parts.scheme), host


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
