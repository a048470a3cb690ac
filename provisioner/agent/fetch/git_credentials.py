"""Give git the credential of a private repository: only for the repository's host, and deleted after the clone."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from provisioner.agent.machine.files import private
from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Outcome, Step

#: Transports allowed for every repository. `file` is added only if the repository itself is a `file:` URL.
PROTOCOLS = "git:http:https"

#: Allowed host names: without characters that git's or ssh's configuration reads as a pattern or the end of a word.
HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")

#: A URL in git's form without a scheme, `git@host:path` (git-fetch(1), "GIT URLS"); an IPv6 address is in brackets.
SHORT = re.compile(r"(?:[^/@:]+@)?(?:\[([^]/@]+)]|([^/@:\[]+)):")

#: ssh uses the first matching value (ssh_config(5)). Other hosts, such as those of submodules, get no key.
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
    #: The credential and its host, as text for an error message.
    held: str = "git.credential names none"
    #: The scheme and the host that get the credential.
    target: tuple[str, str] = ("", "")


@contextlib.contextmanager
def access(repository: Repository, credential: bytes | None, known_hosts: str, folder: Path) -> Iterator[Access]:
    """Yield options with which git uses the credential, which is in `folder` until the context ends. Raises Ended.

    A value that begins like a PEM file is an SSH key; any other value is `user:token` or a token, for https. An https
    repository whose credential is an SSH key is cloned without the key, as a public repository.
    """
    protocols = PROTOCOLS + (":file" if repository.url.startswith("file:") else "")
    scheme, host = _target(repository.url)
    key = credential is not None and credential.lstrip().startswith(b"-----BEGIN")
    if credential is None or (key and scheme == "https"):
        held = f"{repository.credential} is an SSH key" if key else Access.held
        yield Access(environment={"GIT_ALLOW_PROTOCOL": protocols}, held=held)
        return
    if scheme != ("ssh" if key else "https") or not HOST.fullmatch(host):
        kind = "an SSH key for ssh:// and git@host: URLs" if key else "a token for https:// URLs"
        reason = f"the secret {repository.credential} is {kind}, so it cannot be used for {repository.url}"
        raise Ended(Outcome.REFUSED, Step.CLONE, reason)
    with private(folder):
        if key:
            # ssh cannot read a key with carriage returns, or without a final line end.
            _write(folder / "key", credential.replace(b"\r\n", b"\n").strip() + b"\n")
            _write(folder / "known_hosts", known_hosts.encode() + b"\n")
            _write(folder / "config", SSH.format(host=host, folder=folder).encode())
            ssh = {
                "GIT_SSH_COMMAND": f"ssh -F {shlex.quote(str(folder / 'config'))}",
                "GIT_SSH_VARIANT": "ssh",
                "GIT_ALLOW_PROTOCOL": f"{protocols}:ssh",
            }
            held = f"{repository.credential} is an SSH key for ssh://{host} only"
            yield Access(environment=ssh, held=held, target=(scheme, host))
        else:
            user, colon, token = credential.strip().rpartition(b":")
            if not colon:
                user = b"x-access-token"
            _write(folder / "credential", b"username=%s\npassword=%s\n" % (user, token))
            # Git calls the helper only for this host and port, also after a redirect (gitcredentials(7)).
            helper = f'!f() {{ test "$1" != get || cat {shlex.quote(str(folder / "credential"))}; }}; f'
            options = ("-c", "credential.helper=", "-c", f"credential.https://{host}.helper={helper}")
            held = f"{repository.credential} is a token for https://{host} only"
            yield Access(options, {"GIT_ALLOW_PROTOCOL": protocols}, held, (scheme, host))


def needs(url: str, granted: Access) -> str:
    """Return a message: the credential that a submodule's host needs, the credential that git has, and what to do.

    `url` is the URL of the submodule. The message is empty if git's credential is for the host of this URL.
    """
    scheme, host = _target(url)
    if (scheme, host) == granted.target:
        return ""
    if scheme == "file":
        right = "write ../name.git, or a URL of the repository's own host, in .gitmodules"
        return f"a submodule cannot be a file on the machine; {right}"
    kind = {"ssh": "an SSH key", "https": "a token"}.get(scheme)
    if kind is None:
        return "no credential can be used for this URL; write an https:// or ssh:// URL in .gitmodules"
    right = "write ../name.git, or a URL of the repository's own host and transport, in .gitmodules"
    return f"{host} needs {kind}, and {granted.held}; {right}"


def _target(url: str) -> tuple[str, str]:
    """Return the scheme and the host of a git URL.

    For https the host is `host:port` as written; for other schemes it has no port and no brackets.
    """
    short = SHORT.match(url)
    if short and "://" not in url:
        return "ssh", short[1] or short[2]
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2] if parts.scheme == "https" else parts.hostname or ""
    except ValueError:
        return "", ""
    return ("ssh" if parts.scheme == "git+ssh" else parts.scheme), host


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
