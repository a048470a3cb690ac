"""Pull an image over Docker's engine API (Docker Engine API, "Create an image"), and log the progress.

A credential is sent in a header: it is in no file and on no command line.
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

from provisioner.agent.aws.fetch import limit
from provisioner.agent.machine.disk import NO_SPACE
from provisioner.agent.machine.tools import LOOK, Answer, Tools, ask
from provisioner.agent.outcomes import Ended, outcome_of, unresolved_host
from provisioner.core.protocol.words import Outcome, Step

#: Docker's socket if DOCKER_HOST is not set (Docker reference, "Daemon socket option").
SOCKET = "unix:///var/run/docker.sock"

#: A shell's exit code for a command that does not exist.
NO_SUCH_COMMAND = 127

#: Maximum seconds to connect to the engine and send a request.
CONNECT = 10.0

#: Seconds in which Docker must answer, and seconds between two requests to systemd to start it: its unit stays failed
#: after three starts in a minute.
ENGINE_LIMIT, START_EVERY = 120.0, 30.0

#: Seconds between two lines of progress.
INTERVAL = 5.0

#: Error messages of a registry that is overloaded or broken: another machine would get them, too.
BUSY = re.compile(
    r"\b429\b|toomanyrequests|too many requests|rate limit|\b50[0-4]\b|internal server error|bad gateway"
    r"|service unavailable|gateway time-?out",
    re.IGNORECASE,
)
#: Seconds between two tries while the registry is busy; the last pause is repeated. TRIES is the number of tries after
#: other errors.
BUSY_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)
TRIES = 3


def pull(image: str, login: bytes | None, tools: Tools, version: str) -> None:
    """Pull the image; while its registry is busy, retry until the time limit of `tools`. Raises Ended.

    `login` is `user:password` for the registry; `version` is the version of the engine's API.
    """
    name, reference = split(image)
    path = f"/v{version}/images/create?{urlencode({'fromImage': name, 'tag': reference})}"
    headers = {"X-Registry-Auth": _header(image, login)} if login else {}
    tools.say(f"pulling {image}")
    first, busy, tries = tools.limit, 0, 0
    while trouble := _try(image, path, headers, tools):
        # Examine only the registry's own words: the image's tag may be 429, too.
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
        tools = dataclasses.replace(tools, limit=f"{first}; the last error was: {trouble}")
        tools.sleep(pause)
        tools.check()


def named_by_digest(image: str) -> bool:
    """Return whether a digest names the image; only the registry knows which image a tag names now."""
    return ":" in split(image)[1]


def is_here(image: str, tools: Tools, version: str) -> bool:
    """Return whether this machine has an image of that name; raises Ended."""
    return any("Id" in event for event in _events("GET", f"/v{version}/images/{quote(image)}/json", {}, tools))


def engine_version(tools: Tools) -> str:
    """Return the version of the engine's API. If the engine does not answer, start it; raises Ended.

    An engine that gives no answer within ENGINE_LIMIT seconds is the fault of the machine.
    """
    began, started, longest = time.monotonic(), -START_EVERY, limit(ENGINE_LIMIT)
    while (answer := _ask_version(began + longest - time.monotonic())).code:
        waited = time.monotonic() - began
        if answer.code == NO_SUCH_COMMAND:
            raise _unfit(f"this machine has no container engine: {answer.text}")
        if waited >= longest and started >= 0:
            raise _unfit(f"Docker did not answer within {longest:g} s: {answer.text}{_state_of_docker(tools)}")
        if waited >= started + START_EVERY:
            tools.say(f"Docker does not answer, so systemd is asked to start it: {answer.text}")
            ask(["systemctl", "start", "--no-block", "docker.service"])
            started = waited
        tools.sleep(1)
    # Lines before the last one may be warnings.
    api, _, version = answer.text.splitlines()[-1].partition(" ")
    tools.say(f"docker {version}")
    return api


def _ask_version(left: float) -> Answer:
    try:
        command = ["docker", "version", "--format", "{{.Server.APIVersion}} {{.Server.Version}}"]
        # Long enough for Docker's own message.
        return ask(command, min(LOOK, max(limit(10.0), left)))
    except FileNotFoundError as error:
        return Answer(NO_SUCH_COMMAND, str(error))


def _unfit(reason: str) -> Ended:
    return Ended(Outcome.LOST, Step.BOOT, reason, unfit=True)


def _state_of_docker(tools: Tools) -> str:
    """Return the state of Docker's unit, for a reason; log the end of its journal."""
    try:
        journal = ask(["journalctl", "--unit=docker", "--lines=20", "--no-pager", "--output=cat"]).text
        shown = ask(["systemctl", "show", "docker.service", "--property=LoadState,ActiveState,SubState,Result"])
    except OSError as error:
        tools.say(f"the state of Docker's unit is unknown: {error}")
        return ""
    for line in journal.splitlines():
        tools.say(f"docker's journal: {line}")
    return f" ({', '.join(shown.text.splitlines())})" if shown.text and not shown.code else ""


def split(image: str) -> tuple[str, str]:
    """Return the image's name, and its digest, tag, or `latest`: without a tag Docker would pull every tag."""
    name, _, digest = image.partition("@")
    beyond, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{beyond}{slash}{last}", digest or tag or "latest"


def registry_of(image: str) -> str:
    """Return the image's registry as Docker's own configuration names it (Docker reference, "docker login")."""
    first, slash, _ = image.partition("/")
    named = slash and (set(first) & set(".:") or first == "localhost")
    return first if named and first not in ("docker.io", "index.docker.io") else "https://index.docker.io/v1/"


def _header(image: str, login: bytes) -> str:
    user, _, password = login.decode(errors="surrogateescape").partition(":")
    told = {"username": user, "password": password, "serveraddress": registry_of(image)}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _try(image: str, path: str, headers: Mapping[str, str], tools: Tools) -> str:
    """Try the pull once; return the error message of the engine or the registry, empty if the image was pulled."""
    progress = Progress(time.time())
    for event in _events("POST", path, headers, tools):
        if trouble := event.get("error") or event.get("message"):
            return " ".join(str(trouble).split())
        progress.hear(event)
        if line := progress.line(time.time()):
            tools.say(line)
    if not progress.digest:
        return "Docker's response ended early"
    tools.say(f"{image} is {progress.digest}: {progress.end(time.time())}")
    return ""


@dataclass
class Progress:
    """The progress that the engine reports of one pull, summed over the layers."""

    began: float
    digest: str = ""
    #: By layer: the downloaded bytes, and the layer's size in bytes, 0 while it is not known.
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
        """Return a line about the progress; empty if the last line is less than INTERVAL seconds old."""
        past = now - self._told_at
        if past < INTERVAL:
            return ""
        here, whole = self._sums()
        more, self._told, self._told_at = here - self._told, here, now
        # The size of a layer whose download has not begun is not known yet.
        known = all(size or layer in self.unpacked for layer, (_, size) in self.layers.items())
        rate = f"{_size(more / past)}/s" if more > 0 or here < whole else "unpacking"
        layers = f"{len(self.unpacked)} of {len(self.layers)} layers"
        return f"pulled {_size(here)} of {'' if known else 'at least '}{_size(whole)}, {rate}, {layers}"

    def end(self, now: float) -> str:
        here, _ = self._sums()
        return (
            f"pulled {_size(here)} in {now - self.began:.1f} s" if here else "all layers were on this machine already"
        )

    def _sums(self) -> tuple[int, int]:
        return sum(here for here, _ in self.layers.values()), sum(whole for _, whole in self.layers.values())


def _size(count: float) -> str:
    """Return a number of bytes in the units that Docker shows."""
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
        # While the engine stands still, its queue of connections may be full.
        self.wire.settimeout(CONNECT)
        self.wire.connect(self._path)
        self.sock = self.wire


def _events(method: str, path: str, headers: Mapping[str, str], tools: Tools) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of the engine's response. Closing the connection cancels the work. Raises Ended."""
    host = os.environ.get("DOCKER_HOST") or SOCKET
    if not host.startswith("unix://"):
        raise Ended(Outcome.LOST, Step.PULL, f"DOCKER_HOST is {host}: only a unix:// socket is supported")
    heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    connection = _Connection(host.removeprefix("unix://"))

    def listen() -> None:
        try:
            with connection.getresponse() as response:
                for line in response:
                    heard.put(json.loads(line))
            heard.put(None)
        except (OSError, http.client.HTTPException, ValueError) as error:
            heard.put({"error": f"Docker's response ended early: {error!r}"})

    # Close both: a connection that never connected does not close its socket.
    with contextlib.closing(connection.wire), contextlib.closing(connection):
        try:
            connection.request(method, path, headers=dict(headers))
        except OSError as error:
            yield {"error": f"Docker does not answer: {error}"}
            return
        # The response may pause for minutes. Its reader ends when `tools` do, because the socket is then shut down.
        connection.wire.settimeout(None)
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
            # Shut the socket down, because the listener may be blocked in a read.
            with contextlib.suppress(OSError):
                connection.wire.shutdown(socket.SHUT_RDWR)
            listener.join(CONNECT)
