"""Keep a double up in the background until its shell ends or `rehearse --end` is called.

The double's process reads a FIFO in its folder. Each line is END, or the process id of a shell that uses the double.
The double ends at END, or when all these shells have ended. `rehearse --background` prints shell commands; the shell
that evaluates them writes its own process id to the FIFO.
"""

import json
import os
import select
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioner.core.errors import NotFound
from provisioner.faces.cli import exits
from provisioner.faces.cli.terminal import streams

#: The FIFO; and the file with the id of the double's process and the names of the environment variables that select the
#: double.
CONTROL, ABOUT = "control", "about.json"
END = b"end"
#: Seconds in which a shell must evaluate the lines of `rehearse --background`. If no shell does, the double ends.
ADOPTION = 60.0


class Held:
    """A running double that other processes can end; its folder must be private to this user."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        os.mkfifo(folder / CONTROL, 0o600)
        # Open it for writing too: otherwise this process would read an end of file each time a writer closes it.
        self._control = os.open(folder / CONTROL, os.O_RDWR | os.O_NONBLOCK)
        about = {"process": os.getpid(), "variables": list(environment)}
        (folder / ABOUT).write_text(json.dumps(about))

    def wait(self, *, in_background: bool) -> None:
        """Return when the double should end: on request, when its shells have ended, or if it got no shell in time."""
        shells: set[int] = set()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        rest = ADOPTION * 1000 if in_background else None
        try:
            while events := poll.poll(rest):
                for ready, _ in events:
                    if ready == self._control:
                        for line in os.read(self._control, 4096).split():
                            shell = _opened(line)
                            if shell is None:
                                return
                            shells.add(shell)
                            poll.register(shell, select.POLLIN)
                            rest = None
                    else:
                        poll.unregister(ready)
                        shells.remove(ready)
                        os.close(ready)
                        if not shells:
                            return
        finally:
            for shell in shells:
                os.close(shell)


def _opened(line: bytes) -> int | None:
    """Return a file descriptor that is readable when the shell with this id has ended.

    Returns None for END, and if the shell has ended.
    """
    if line == END:
        return None
    try:
        return os.pidfd_open(int(line))
    except (ProcessLookupError, ValueError):
        return None


def begin(options: Sequence[str]) -> int:
    """Start `rehearse --serve` in the background, and print shell commands to use it; return the exit code."""
    with tempfile.TemporaryFile() as said:
        words = ("-m", "provisioner.faces.cli.main", "rehearse", "--serve", "--json", "--in-background", *options)
        child = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            with child.stdout:
                printed = child.stdout.read()
        except BaseException:
            # The child has a session of its own, so it does not get the terminal's Ctrl-C.
            child.terminate()
            child.wait()
            raise
        said.seek(0)
        streams.draw(said.read().decode(errors="replace"))
    if not printed:
        return child.wait() or exits.BUG
    environment = json.loads(printed)["environment"]
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    control = Path(environment["PROVISION_SETTINGS"]).with_name(CONTROL)
    for line in (*lines, f"echo $$ > {shlex.quote(str(control))}"):
        streams.put(line)
    if sys.stdout.isatty():
        streams.say('evaluate these lines within a minute, or use: eval "$(provision rehearse --background)"')
    else:
        streams.say("the double is up; it ends with this shell, or by `provision rehearse --end`")
    return 0


def end() -> int:
    """End the double that this shell uses, and print lines that unset its variables; return the exit code.

    Raises NotFound if $PROVISION_SETTINGS names no double that is up.
    """
    folder = Path(os.environ.get("PROVISION_SETTINGS", "")).parent
    try:
        about = json.loads((folder / ABOUT).read_text())
        process = os.pidfd_open(about["process"])
        # This fails if no process reads the FIFO: then the double has ended, and its id may belong to another process.
        control = os.open(folder / CONTROL, os.O_WRONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise NotFound(
            "no rehearsal is up: $PROVISION_SETTINGS names none of `provision rehearse --background`"
        ) from error
    os.write(control, END + b"\n")
    os.close(control)
    ended = select.poll()
    ended.register(process, select.POLLIN)
    ended.poll()
    os.close(process)
    streams.put(f"unset {' '.join(about['variables'])}")
    streams.say('the double is down; to unset its variables too: eval "$(provision rehearse --end)"')
    return 0
