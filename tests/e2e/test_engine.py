"""The Docker engine that tests start."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import processes_with
from tests.polling import until

pytestmark = pytest.mark.docker

PROGRAM = """
import signal
from tests.engine import engine, shell_tree
with engine() as made:
    image = made.publish("shell", shell_tree(made.folder / "tree"), "ENV PATH=/bin")
    made.docker("run", "--detach", "--network=none", image, "sleep", "1000")
    print(made.folder, flush=True)
    signal.pause()
"""


def test_killed_starter_leaves_no_engine_behind() -> None:
    """After kill -9 of its starter, no daemon, registry, container, mount or folder is left."""
    root = Path(__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, cwd=root)
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    assert folder.is_dir()
    assert len(processes_with(str(folder))) >= 4
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until(lambda: not processes_with(str(folder)) and not folder.exists(), "the end of all of it")
    assert str(folder) not in Path("/proc/self/mounts").read_text()
