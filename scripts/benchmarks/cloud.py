"""Run the EC2 double in a process of its own, so that it does not share an interpreter with the measured code.

    python -m scripts.benchmarks.cloud FOLDER light|scripted

The process prints the double's environment variables as a line of JSON, and answers each line of standard input with a
line of JSON.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from provisioner import wiring
from provisioner.rehearsal import scenario
from provisioner.rehearsal.aws.calls import CONTROL, Call
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.light import LightHost
from provisioner.rehearsal.machines.script import CommandScript, Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.service.control import Service
from provisioner.settings import Settings, load
from scripts.benchmarks.moto_objects import answer_quickly, objects

#: The key of an incomplete object; no process lists it.
UNSEEN = "unseen"
PROVISION = (sys.executable, "-m", "provisioner.faces.cli.main")

#: Settings of a rehearsal in which passes are as frequent as in a real installation.
SETTINGS = """
installation = "bench"
region = "{region}"
bucket = "{bucket}"
subnets = {subnets}
store = {store}
owner = "bench"

[rehearsal]
endpoint = "{url}"
busy_interval = 1.0
"""


#: The script of a list: a machine with 16 slots ends 80 commands a second.
LIST = Script(job="list", commands=CommandScript(seconds=0.16, spread=0.5, output=20))
#: The script of a list whose outputs are read: a machine with four slots ends 800 commands a second.
OUTPUTS = Script(job="outputs", commands=CommandScript(seconds=0.005, output=20))
#: The scripts of scripted machines, by the names of their jobs.
SCRIPTS = (
    Script(job="hostile", command=86_400.0),
    Script(job="quiet", command=3.0),
    LIST,
    OUTPUTS,
    Script(command=1.0),
)


@dataclass(frozen=True)
class Seen:
    """One call that the double received."""

    service: str
    action: str
    principal: str
    at: float

    @property
    def ours(self) -> bool:
        return self.principal == "control"


class Cloud:
    """A context manager that runs the double, and sets this process's environment variables to use the double."""

    def __init__(self, folder: Path, machines: str) -> None:
        self.folder = folder
        self._machines = machines

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "scripts.benchmarks.cloud", str(self.folder), self._machines]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.environment: Mapping[str, str] = json.loads(self._process.stdout.readline())
        self._before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def count(self) -> int:
        """Return the number of calls so far."""
        return int(self._ask("count"))

    def calls(self, since: int = 0) -> list[Seen]:
        """Return the calls after the first `since` ones, oldest first."""
        return [Seen(**each) for each in self._ask(f"calls {since}")]

    def requests(self, since: int = 0) -> Counter[tuple[str, str, str]]:
        """Return how often each request of S3 was made after the first `since` calls.

        Keys are `control` or `machine`, the action, and the folder of the object in its mailbox.
        """
        return Counter({(who, action, what): count for who, action, what, count in self._ask(f"requests {since}")})

    def history(self) -> dict[str, list[tuple[str, float]]]:
        """Return the states of every machine that ever existed, each with its start, by instance id."""
        return {name: [(state, at) for state, at in states] for name, states in self._ask("history").items()}

    def put(self, key: str, data: bytes, *, pad: int = 0, count: int = 1, first: int = 0, step: int = 1) -> None:
        """Put `count` objects into the bucket directly, because the double's API would be slower than S3.

        `key` is a format string for a number, which counts from `first` in steps of `step`. Each object is `data` and
        `pad` spaces.
        """
        self._ask(f"put {key} {count} {first} {step} {pad} {base64.b64encode(data).decode() or '='}")

    def forget(self, prefix: str) -> None:
        """Delete the objects under the prefix directly, and forget the calls so far, which take GB in an hour."""
        self._ask(f"forget {prefix}")

    def boxes(self) -> dict[str, str]:
        """Return the mailboxes that have a work order, by run id."""
        found: dict[str, str] = self._ask("boxes")
        return found

    def interrupt(self, instance_id: str, notice: float) -> None:
        """Interrupt a spot machine after a notice of so many seconds."""
        self._ask(f"interrupt {instance_id} {notice}")

    def settings(self) -> Settings:
        return load(os.environ["PROVISION_SETTINGS"])

    @contextlib.contextmanager
    def service(self) -> Iterator[Service]:
        service = wiring.service(self.settings())
        try:
            yield service
        finally:
            service.close()

    @contextlib.contextmanager
    def daemon(self) -> Iterator[int]:
        """Run `provision daemon`; yield its process id when it has begun to act."""
        process = subprocess.Popen([*PROVISION, "daemon"], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            if "acting; " not in said:
                raise RuntimeError(f"unexpected first line of the daemon: {said!r}; expected 'acting; '")
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield process.pid
            process.terminate()
            drain.join()
        finally:
            process.terminate()
            process.wait()
            process.stderr.close()


def recipe(name: str, command: str | list[str], **spec: Any) -> str:
    whole = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": command, **spec}
    return yaml.safe_dump({"type": "job", "spec": whole})


def finished(service: Service, run: str) -> None:
    """Wait until the run is done."""
    until(lambda: service.runs.record(run).done_at is not None, "the run's end")


def until(condition: Callable[[], bool], what: str, patience: float = 120.0) -> None:
    """Wait until the condition holds; raise TimeoutError after `patience` seconds, so that a broken bench ends."""
    pause = threading.Event()
    for _ in range(int(patience / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise TimeoutError(f"timed out waiting for {what}")


def main(folder: Path, machines: str) -> None:
    answer_quickly()
    told = scenario.parse(
        {
            "boot_delay": "1s" if machines == "light" else "0s",
            "end_delay": "0s",
            # EC2 lists terminated machines for an hour, so listings would grow during a measure of an hour.
            "forget_after": "1m",
        }
    )
    host = LightHost(folder / "machines") if machines == "light" else ScriptedHost(SCRIPTS)
    with Double(told, host, installation="bench") as double:
        text = SETTINGS.format(
            region=double.region,
            bucket=double.bucket,
            subnets=json.dumps(list(double.account.subnets)),
            store=json.dumps(str(folder / "store.db")),
            url=double.url,
        )
        path = folder / "settings.toml"
        path.write_text(text)
        print(json.dumps({**double.environment(), "PROVISION_SETTINGS": str(path)}), flush=True)
        for question in sys.stdin:
            print(json.dumps(_answer(double, question.split())), flush=True)


def _answer(double: Double, words: Sequence[str]) -> object:
    match words:
        case ["count"]:
            return len(double.calls.every)
        case ["calls", since]:
            calls = double.calls.of()[int(since) :]
            return [asdict(Seen(call.service, call.action, call.principal, call.at)) for call in calls]
        case ["requests", since]:
            made = Counter(_kind(call) for call in double.calls.of("s3")[int(since) :])
            return [[*kind, count] for kind, count in made.items()]
        case ["put", key, count, first, step, pad, data]:
            value = base64.b64decode(data.strip("=") and data)
            for number in range(int(count)):
                _put(double, key.format(int(first) + number * int(step)), value, int(pad))
            return int(count)
        case ["forget", prefix]:
            for key in [key for key in _keys(double) if key.startswith(prefix)]:
                objects().delete_object(double.bucket, key)
            double.calls.every.clear()
            return None
        case ["interrupt", instance_id, notice]:
            double.interrupt(instance_id, notice=float(notice))
            return None
        case ["boxes"]:
            orders = [key for key in _keys(double) if key.startswith("machines/") and key.endswith("/work")]
            found = {key.split("/")[1]: _content(double, key) for key in orders}
            # The control plane may have deleted a mailbox since the keys were listed.
            return {json.loads(order)["run"]: box for box, order in found.items() if order is not None}
        case _:
            return {name: [(each.state, each.at) for each in states] for name, states in double.history().items()}


def _kind(call: Call) -> tuple[str, str, str]:
    """Return who has made a request of S3, its action, and the kind of its object, without names and numbers."""
    _, _, key = call.resource.partition("/")
    words = [word for word in key.split("/")[1:] if word.isalpha()]
    what = "report" if key.startswith("inbox/") and not words else "/".join(words)
    return "control" if call.principal == CONTROL else "machine", call.action, what


def _content(double: Double, key: str) -> bytes | None:
    """Return the object's content, or None if it is deleted before or while it is read."""
    found = objects().get_object(double.bucket, key)
    try:
        return None if found is None else bytes(found.value)
    except ValueError:
        # moto has closed the object's buffer.
        return None


def _put(double: Double, name: str, value: bytes, pad: int) -> None:
    """Put an object of `value` and `pad` spaces, in blocks, so that the double answers other calls meanwhile."""
    # moto computes the MD5 of an object when it is first listed, so one listing of several large objects would take
    # seconds. S3 computes it when the object is put.
    key = objects().put_object(double.bucket, UNSEEN if pad else name, value, etag="0" * 32)
    if not pad:
        return
    file, block = key._value_buffer, b" " * (1 << 20)  # noqa: SLF001 - moto has no public API for a large object
    if pad > len(block):
        file.rollover()
    file.seek(0, os.SEEK_END)
    for at in range(0, pad, len(block)):
        file.write(block[: pad - at])
    key.name, key.contentsize = name, file.tell()
    objects().buckets[double.bucket].keys.rename(UNSEEN, name)


def _keys(double: Double) -> list[str]:
    return list(objects().buckets[double.bucket].keys)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
