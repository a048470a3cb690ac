"""The first process of a light machine: runs the user-data, like cloud-init, and carries out systemd commands.

    init.py FOLDER

It exits when the machine powers off; its supervisor then ends the remaining processes.
"""

import email
import os
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

#: Content types in the order in which cloud-init runs them: boothooks early, scripts in its last stage.
PARTS = ("text/cloud-boothook", "text/x-shellscript")


class Init:
    def __init__(self, folder: Path, pipe: Path) -> None:
        # These folders may be links to folders on the machine's own disk, which is empty at first.
        for name in ("home/jovyan", "var/lib", "var/log"):
            os.makedirs(os.path.realpath(folder / name), exist_ok=True)
        self._units = folder / "etc/systemd/system"
        self._parts = folder / "var/lib/cloud"
        self._pipe = pipe
        self._user_data = (folder / "user-data").read_text()
        #: How often each unit was started.
        self._starts: Counter[str] = Counter()

    def run(self) -> None:
        """Run the user-data and carry out the systemd commands; return when the machine has to power off."""
        # Write all scripts before the first one runs. A file cannot be executed while a process has it open for
        # writing, and a child process that another thread forks meanwhile would inherit the open file.
        threading.Thread(target=self._cloud_init, args=(self._unpack(),), daemon=True).start()
        for words in self._told():
            if not self._obey(words):
                return

    def _cloud_init(self, scripts: list[Path]) -> None:
        for script in scripts:
            subprocess.run([str(script)], check=False)

    def _unpack(self) -> list[Path]:
        """Write the user-data's scripts to files; return the files in the order in which they run."""
        self._parts.mkdir(parents=True, exist_ok=True)
        parts = list(email.message_from_string(self._user_data).walk())
        scripts: list[Path] = []
        for kind in PARTS:
            for part in parts:
                if part.get_content_type() == kind:
                    script = self._parts / f"part-{len(scripts)}"
                    script.write_bytes(bytes(part.get_payload(decode=True)))
                    script.chmod(0o755)
                    scripts.append(script)
        return scripts

    def _told(self) -> Iterator[list[str]]:
        """Yield the words of each systemd command that the machine's processes run, in order of arrival."""
        # Opened for writing too, so that there is no end of file between two callers.
        with open(self._pipe, "r+b", buffering=0) as pipe:
            heard = b""
            while True:
                heard += pipe.read(65536)
                while b"\0\0" in heard:
                    call, _, heard = heard.partition(b"\0\0")
                    yield [os.fsdecode(word) for word in call.split(b"\0")]

    def _obey(self, words: list[str]) -> bool:
        """Carry out a command; return False if the machine must power off. Unknown commands are printed and ignored."""
        command, *args = words
        names = [word for word in args if not word.startswith("-")]
        if command in ("poweroff", "shutdown", "halt", "reboot") or names[:1] in (["poweroff"], ["halt"], ["reboot"]):
            return False
        if command == "systemd-run":
            options = [word for word in args if word.startswith("-")]
            self._spawn(names if not options else args[_first_plain(args) :], "")
        elif names[:1] in (["enable"], ["start"], ["restart"]):
            for name in names[1:]:
                self._start(name)
        elif names[:1] not in (["daemon-reload"], ["mask"]):
            print(f"light machine: ignored unsupported command: {shlex.join(words)}", flush=True)
        return True

    def _start(self, name: str) -> None:
        unit = self._units / (name if "." in name else f"{name}.service")
        if not unit.exists():
            print(f"light machine: systemd unit {unit.name} not found", flush=True)
            return
        lines = [line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line]
        values = dict(lines)
        environment = dict(
            word.split("=", 1) for key, line in lines if key == "Environment" for word in shlex.split(line)
        )
        self._starts[unit.name] += 1
        # Like systemd: a unit that has reached StartLimitBurst is not restarted, and its OnFailure unit starts.
        again = values.get("Restart") == "on-failure" and self._starts[unit.name] < int(values["StartLimitBurst"])
        self._spawn(shlex.split(values["ExecStart"]), unit.name if again else values.get("OnFailure", ""), environment)

    def _spawn(self, words: list[str], on_failure: str, environment: dict[str, str] | None = None) -> None:
        given = {name: value for name, value in (environment or {}).items() if value}
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **given})

        def watch() -> None:
            if process.wait() and on_failure:
                print(f"light machine: {shlex.join(words)} failed", flush=True)
                self._start(on_failure)

        threading.Thread(target=watch, daemon=True).start()


def _first_plain(args: list[str]) -> int:
    """Return the index at which the options end and the command begins."""
    return next(index for index, word in enumerate(args) if not word.startswith("-"))


if __name__ == "__main__":
    machine = Path(sys.argv[1])
    Init(machine, machine / "run/systemd.pipe").run()
    sys.stdout.flush()
    # Exit without waiting for any thread: the power is off.
    os._exit(0)
