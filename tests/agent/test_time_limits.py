"""The agent waits for nothing outside without a time limit: read from the syntax trees of its modules."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "provisioner/agent"

#: The one module that starts programs.
TOOLS = "machine/tools.py"

#: Modules of the standard library that start programs, or open connections that no other module of the agent opens.
STARTERS = {"subprocess", "multiprocessing", "pty", "concurrent", "asyncio"}
DIALERS = {"ftplib", "imaplib", "poplib", "smtplib", "socketserver", "telnetlib", "xmlrpc", "selectors"}

#: Functions of `os` that start a program or a process.
STARTING = ("system", "popen", "fork", "forkpty", "spawn", "posix_spawn", "exec", "startfile")

#: Functions and classes that open a connection.
DIALING = {"HTTPConnection", "HTTPSConnection", "urlopen", "create_connection"}

#: Methods that wait for a process, a thread or an event: without an argument, for ever.
WAITING = {"wait", "communicate", "join", "acquire", "wait_for"}

#: Waits that have another limit.
EXCUSED = {
    # The process is replaced by the agent's own next process, which has the same limits.
    ("steps/next_attempt.py", "os.execv"),
    # The threads end when the bucket has the log. The machine's fuse and the run's lifetime limit them.
    ("logs/pump.py", "self.join"),
    ("logs/shipper.py", "self.join"),
    ("logs/spool.py", "self._spool.changed.wait"),
}


def faults(source: str, path: str) -> Iterator[str]:
    """Yield each call and import that waits without a limit, or starts a program elsewhere than in TOOLS."""
    tree = ast.parse(source)
    timed = "settimeout(" in source
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            first = name.partition(".")[0]
            if (first in STARTERS and path != TOOLS) or first in DIALERS:
                yield name
        if isinstance(node, ast.Call):
            said = ast.unparse(node.func)
            if _waits(node, said, path, timed=timed) and (path, said) not in EXCUSED:
                yield said


def _waits(call: ast.Call, said: str, path: str, *, timed: bool) -> bool:
    owner, _, name = said.rpartition(".")
    given = {keyword.arg for keyword in call.keywords}
    if owner == "os" and name.startswith(STARTING):
        return True
    if owner == "subprocess":
        return path != TOOLS or name != "Popen"
    if name in DIALING:
        return "timeout" not in given
    if said in ("socket.socket", "socket"):
        return not timed
    # The methods of a port or of the mailbox have the same name and other arguments.
    if name in WAITING and not said.startswith("node.mailbox."):
        return len(call.args) < (2 if name == "wait_for" else 1) and "timeout" not in given
    return False


@pytest.mark.parametrize("path", sorted(path.relative_to(AGENT).as_posix() for path in AGENT.rglob("*.py")))
def test_no_call_outside_is_without_a_time_limit(path: str) -> None:
    """A program is started by `machine/tools.py`; every connection has a timeout, and every wait a limit."""
    assert list(faults((AGENT / path).read_text(), path)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import subprocess", "subprocess"),
        ("from subprocess import run", "subprocess"),
        ("from concurrent.futures import ProcessPoolExecutor", "concurrent.futures"),
        ("os.posix_spawnp('x', ['x'], {})", "os.posix_spawnp"),
        ("os.execvp('x', ['x'])", "os.execvp"),
        ("urllib.request.urlopen(url)", "urllib.request.urlopen"),
        ("http.client.HTTPConnection(host)", "http.client.HTTPConnection"),
        ("socket.socket(socket.AF_UNIX)", "socket.socket"),
        ("process.wait()", "process.wait"),
        ("thread.join()", "thread.join"),
        ("done.wait_for(ready)", "done.wait_for"),
    ],
)
def test_a_call_without_a_time_limit_is_found(source: str, found: str) -> None:
    """The check itself is tested."""
    assert list(faults(source, "steps/new.py")) == [found]


def test_even_the_one_module_uses_no_call_that_waits_without_a_limit() -> None:
    """`run` and `wait` without a limit wait for ever for a process in an uninterruptible sleep."""
    source = "import subprocess\nsubprocess.run(args)\nprocess.wait()\nsubprocess.Popen(args)\nprocess.wait(5)"
    assert list(faults(source, TOOLS)) == ["subprocess.run", "process.wait"]
