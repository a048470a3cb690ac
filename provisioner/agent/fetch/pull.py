"""Pulls an image over Docker's engine API (Docker Engine API, "Create an image"), and says how far it is.

A credential travels in a header: it is in no file and on no command line.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from provisioner.agent.machine.disk import NO_SPACE
from provisioner.agent.machine.tools import Tools, ask
from provisioner.agent.outcomes import Ended, outcome_of, unresolved_host
from provisioner.core.protocol.messages import Outcome, Step

#: Where Docker listens unless DOCKER_HOST says otherwise (Docker reference, "Daemon socket option").
SOCKET = "unix:///var/run/docker.sock"

#: A shell's own code for a command that is not there.
NO_SUCH_COMMAND = 127

#: Seconds between two lines of progress.
INTERVAL = 5.0

#: A registry that has too much to do, or is in trouble itself: another machine would meet it too.
BUSY = re.compile(
    r"\b429\b|toomanyrequests|too many requests|rate limit|\b50[0-4]\b|internal server error|bad gateway"
    r"|service unavailable|gateway time-?out",
    re.IGNORECASE,
)
#: Pauses of such a registry, the last one again and again; and how often other trouble is tried.
BUSY_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)
TRIES = 3


def pull(image: str, login: bytes | None, tools: Tools, version: str) -> None:
    """Have the image here; `login` is `user:password` for its registry, `version` the engine's API's. Raises Ended.

    A busy registry is waited out as long as `outside` may take.
    """
    name, reference = split(image)
    path = f"/v{version}/images/create?{urlencode({'fromImage': name, 'tag': reference})}"
    headers = {"X-Registry-Auth": _header(image, login)} if login else {}
    tools.say(f"pulling {image}")
    limit, busy, tries = tools.limit, 0, 0
    while trouble := _try(image, path, headers, tools):
        # Of the registry's own words only; a tag may be 429 as well.
        words = trouble.replace(image, "").replace(f"manifests/{reference}", "")
        outcome = outcome_of(words)
        waits = BUSY.search(words) is not None
        busy, tries = busy + waits, tries + (not waits)
        if outcome is Outcome.REFUSED or tries >= TRIES or NO_SPACE.search(words):
            host = unresolved_host(words) if outcome is Outcome.LOST else ""
            reason = f"the image {image} cannot be pulled: {trouble}"
            raise Ended(outcome, tools.step, reason, unresolved_host=host)
        pause = BUSY_PAUSES[min(busy, len(BUSY_PAUSES)) - 1] if waits else float(tries)
        tools.say(f"{image} cannot be pulled, again in {pause:.0f} s: {trouble}")
        tools = dataclasses.replace(tools, limit=f"{limit}; the last trouble was: {trouble}")
        tools.sleep(pause)
        tools.check()


def named_by_digest(image: str) -> bool:
    """Whether it can only mean what is here: what a tag means today, the registry alone knows."""
    return ":" in split(image)[1]


def is_here(image: str, tools: Tools, version: str) -> bool:
    """Whether this machine has an image of that name; raises Ended."""
    return any("Id" in event for event in _events("GET", f"/v{version}/images/{quote(image)}/json", {}, tools))


def engine_version(tools: Tools) -> str:
    """The version of the engine's API, once it answers; raises Ended."""
    try:
        while (answer := ask(["docker", "version", "--format", "{{.Server.APIVersion}} {{.Server.Version}}"])).code:
            if answer.code == NO_SUCH_COMMAND:
                raise FileNotFoundError(answer.text)
            tools.sleep(1)
            if time.time() >= tools.until:
                raise Ended(Outcome.LOST, Step.PULL, f"the container engine does not answer: {answer.text}")
    except FileNotFoundError as error:
        raise Ended(Outcome.LOST, Step.PULL, f"this machine has no container engine: {error}") from error
    # Above it there may be warnings.
    api, _, version = answer.text.splitlines()[-1].partition(" ")
    tools.say(f"docker {version}")
    return api


def split(image: str) -> tuple[str, str]:
    """Name, and digest or tag: without one Docker would take every tag that there is."""
    name, _, digest = image.partition("@")
    beyond, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{beyond}{slash}{last}", digest or tag or "latest"


def registry_of(image: str) -> str:
    """The registry as Docker's own configuration names it (Docker reference, "docker login")."""
    first, slash, _ = image.partition("/")
    named = slash and (set(first) & set(".:") or first == "localhost")
    return first if named and first not in ("docker.io", "index.docker.io") else "https://index.docker.io/v1/"


def _header(image: str, login: bytes) -> str:
    user, _, password = login.decode(errors="surrogateescape").partition(":")
    told = {"username": user, "password": password, "serveraddress": registry_of(image)}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _try(image: str, path: str, headers: Mapping[str, str], tools: Tools) -> str:
    """What went wrong, in the words of engine or registry; empty when the image is here."""
    progress = Progress(time.time())
    for event in _events("POST", path, headers, tools):
        if trouble := event.get("error") or event.get("message"):
            return " ".join(str(trouble).split())
        progress.hear(event)
        if line := progress.line(time.time()):
            tools.say(line)
    if not progress.digest:
        return "Docker's answer broke off"
    tools.say(f"{image} is {progress.digest}: {progress.end(time.time())}")
    return ""


@dataclass
class Progress:
    """What the engine has told of one pull, summed over the layers."""

    began: float
    digest: str = ""
    #: Bytes that are here and bytes that there are, as far as they are known, by layer.
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    unpacked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._told_at, self._told = self.began, 0

    def hear(self, event: Mapping[str, Any]) -> None:
        status, layer = str(event.get("status", "")), str(event.get("id", ""))
        detail = event.get("progressDetail") or {}
        here, whole = self.layers.get(layer, (0, 0))
        if status == "Downloading":
            self.layers[layer] = (int(detail.get("current") or 0), int(detail.get("total") or 0))
        elif status in ("Pulling fs layer", "Verifying Checksum", "Download complete"):
            self.layers[layer] = (here if status == "Pulling fs layer" else whole, whole)
        elif status in ("Pull complete", "Already exists"):
            self.layers[layer] = (whole, whole)
            self.unpacked.add(layer)
        elif status.startswith("Digest: "):
            self.digest = status.removeprefix("Digest: ")

    def line(self, now: float) -> str:
        """How far it is, when it is time to say so; else empty."""
        past = now - self._told_at
        if past < INTERVAL:
            return ""
        here, whole = self._sums()
        more, self._told, self._told_at = here - self._told, here, now
        # Of a layer that waits for its turn the size is not known yet.
        known = all(size or layer in self.unpacked for layer, (_, size) in self.layers.items())
        rate = f"{_size(more / past)}/s" if more > 0 or here < whole else "unpacking"
        layers = f"{len(self.unpacked)} of {len(self.layers)} layers"
        return f"pulled {_size(here)} of {'' if known else 'at least '}{_size(whole)}, {rate}, {layers}"

    def end(self, now: float) -> str:
        here, _ = self._sums()
        return f"pulled {_size(here)} in {now - self.began:.1f} s" if here else "nothing of it was missing"

    def _sums(self) -> tuple[int, int]:
        return sum(here for here, _ in self.layers.values()), sum(whole for _, whole in self.layers.values())


def _size(count: float) -> str:
    """In the units that Docker shows."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path
        self.wire = socket.socket(socket.AF_UNIX)

    def connect(self) -> None:
        self.wire.connect(self._path)
        self.sock = self.wire


def _events(method: str, path: str, headers: Mapping[str, str], tools: Tools) -> Iterator[dict[str, Any]]:
    """What the engine answers, object by object; the engine gives up what nobody waits for. Raises Ended."""
    host = os.environ.get("DOCKER_HOST") or SOCKET
    if not host.startswith("unix://"):
        raise Ended(Outcome.LOST, Step.PULL, f"DOCKER_HOST is {host}: only a unix:// socket is known here")
    heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    connection = _Connection(host.removeprefix("unix://"))

    def listen() -> None:
        try:
            with connection.getresponse() as response:
                for line in response:
                    heard.put(json.loads(line))
            heard.put(None)
        except (OSError, http.client.HTTPException, ValueError) as error:
            heard.put({"error": f"Docker's answer broke off: {error!r}"})

    # Both: one that never connected knows nothing of its socket.
    with contextlib.closing(connection.wire), contextlib.closing(connection):
        try:
            connection.request(method, path, headers=dict(headers))
        except OSError as error:
            yield {"error": f"Docker does not answer: {error}"}
            return
        listener = threading.Thread(target=listen, name="docker", daemon=True)
        listener.start()
        try:
            while True:
                tools.check()
                try:
                    event = heard.get(timeout=0.1)
                except queue.Empty:
                    continue
                if event is None:
                    return
                yield event
        finally:
            # The listener may wait for the next byte.
            with contextlib.suppress(OSError):
                connection.wire.shutdown(socket.SHUT_RDWR)
            listener.join()
