"""Pull Docker images into an AMI that is being built; runs on the builder machine, from the agent's archive.

python3 -m provisioner.agent.fetch.preload FILE REGION CREDENTIAL IMAGE...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from provisioner.agent.fetch.pull import engine_version, pull, registry_of
from provisioner.agent.fetch.secrets import Secrets, login
from provisioner.agent.machine.tools import Tools, ask
from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.words import Outcome, Step

#: Maximum seconds to pull one image; the builder machine has a fuse, too.
LIMIT = 3600.0


def preload(file: Path, region: str, credential: str, images: Sequence[str]) -> None:
    """Pull the images, and write each digest, as `name@sha256:…`, as a line of `file`; raises Ended.

    A private registry of AWS gets a token of the machine's own role. Any other registry gets the secret `credential`,
    if that is not empty.
    """
    found = []
    for image in images:
        tools = Tools(Step.PULL, Halt(), time.time() + LIMIT, f"{image} takes more than {LIMIT:.0f} s", _say)
        secrets = Secrets(region, tools)
        key = secrets.registry_login(registry_of(image))
        if key is None and credential:
            key = login(credential, secrets.read(credential))
        pull(image, key, tools, engine_version(tools))
        found.append(digest(image))
        _say(f"preloaded {found[-1]}")
    file.write_text("".join(f"{name}\n" for name in found))


def digest(image: str) -> str:
    """Return the pulled image as `name@sha256:…`; raises Ended if Docker has no digest for it."""
    answer = ask(["docker", "image", "inspect", "--format", "{{index .RepoDigests 0}}", "--", image])
    if answer.code or "@sha256:" not in answer.text:
        raise Ended(Outcome.LOST, Step.PULL, f"{image} has no digest: {answer.text}")
    return answer.text


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    target, *rest = sys.argv[1:]
    try:
        preload(Path(target), rest[0], rest[1], rest[2:])
    except Ended as ended:
        sys.exit(str(ended.reason))
