"""Docker images, and the registries that they come from."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from provisioner.agent.ending import Ended, outcome_of
from provisioner.agent.outside import Outside, ask
from provisioner.agent.place import private
from provisioner.core.work import Outcome, Step

#: A registry's "too many requests" is waited out, for another machine would meet it too.
BUSY_PAUSE = 15.0
TRIES = 3

#: A shell's own code for a command that is not there.
NO_SUCH_COMMAND = 127


def pull(image: str, outside: Outside, login: bytes | None, credentials: Path) -> None:
    """Have the image on this machine; `login` is `user:password` for its registry alone. Raises Ended.

    `credentials` is a folder in memory. What a digest names is not asked for where it is already.
    """
    _wait_for_daemon(outside)
    if "@sha256:" in image and not ask(["docker", "image", "inspect", "--", image]).code:
        outside.say(f"{image} is in this machine's own image: not pulled")
        return
    if login is None:
        _pull(image, outside, [])
        return
    auth = {registry_of(image): {"auth": base64.b64encode(login).decode()}}
    with private(credentials / "docker") as folder:
        (folder / "config.json").write_text(json.dumps({"auths": auth}))
        _pull(image, outside, [f"--config={folder}"])


def _pull(image: str, outside: Outside, options: list[str]) -> None:
    turn = 0
    while (answer := outside.run("docker", *options, "pull", "--", image)).code:
        turn += 1
        outcome = outcome_of(answer.text)
        busy = "toomanyrequests" in answer.text.lower() or "429" in answer.text
        if outcome is Outcome.REFUSED or (turn >= TRIES and not busy):
            raise Ended(outcome, Step.PULL, f"the image {image} cannot be pulled: {answer.text}")
        outside.sleep(BUSY_PAUSE if busy else turn)


def _wait_for_daemon(outside: Outside) -> None:
    try:
        while (answer := ask(["docker", "version", "--format", "{{.Server.Version}}"])).code:
            if answer.code == NO_SUCH_COMMAND:
                raise FileNotFoundError(answer.text)
            outside.sleep(1)
            if time.time() >= outside.until:
                raise Ended(Outcome.LOST, Step.PULL, f"the container engine does not answer: {answer.text}")
    except FileNotFoundError as error:
        raise Ended(Outcome.LOST, Step.PULL, f"this machine has no container engine: {error}") from error
    outside.say(f"docker {answer.text}")


def digest(image: str) -> str:
    """The pulled image as `name@sha256:…`; raises Ended where Docker knows none."""
    answer = ask(["docker", "image", "inspect", "--format", "{{index .RepoDigests 0}}", "--", image])
    if answer.code or "@sha256:" not in answer.text:
        raise Ended(Outcome.LOST, Step.PULL, f"{image} has no digest: {answer.text}")
    return answer.text


def registry_of(image: str) -> str:
    """The registry as Docker's own configuration names it (Docker reference, "docker login")."""
    first, slash, _ = image.partition("/")
    named = slash and (set(first) & set(".:") or first == "localhost")
    return first if named and first not in ("docker.io", "index.docker.io") else "https://index.docker.io/v1/"
