"""The guest image of virtual machines, made by a double of mmdebstrap: made once, atomically, without leftovers."""

import gzip
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioner.core.errors import Invalid
from provisioner.rehearsal.machines.virtual import image
from tests.polling import until

PROGRAM = [sys.executable, "-m", "provisioner.rehearsal.machines.virtual.image"]

#: A double of mmdebstrap: writes the kernel, records each call in `calls`, and waits while `hold` exists.
MAKER = """#!/bin/sh
echo call >>{folder}/calls
while [ -e {folder}/hold ]; do sleep 0.05; done
for word; do
    case $word in --customize-hook=*pack*) made=${{word##* }} ;; esac
done
cp {folder}/vmlinuz "$made/vmlinuz"
"""


def packed(kernel: bytes) -> bytes:
    """Return a bzImage with this kernel (Linux, Documentation/arch/x86/boot.rst)."""
    payload = gzip.compress(kernel) + struct.pack("<I", len(kernel))
    head = bytearray(512 * 3)
    head[0x1F1] = 1
    struct.pack_into("<II", head, 0x248, 512, len(payload))
    return bytes(head) + payload


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of images, on a computer with doubles of the programs that make and run them."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in (*image.MAKERS, *image.RUNNERS):
        (commands / name).write_text(MAKER.format(folder=tmp_path) if name == "mmdebstrap" else "#!/bin/sh\nexit 1\n")
        (commands / name).chmod(0o755)
    (tmp_path / "vmlinuz").write_bytes(packed(b"a kernel"))
    # No real mount is changed here.
    (commands / "unshare").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (commands / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/provision/rehearsal"


def images(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name != "lock"]


def test_an_image_is_made_once(tmp_path: Path, cache: Path) -> None:
    """The second call finds the image; its kernel is unpacked."""
    said: list[str] = []
    first, second = image.image(said.append), image.image(said.append)
    assert first == second
    assert first.kernel.read_bytes() == b"a kernel"
    assert images(cache) == [first.folder.name]
    assert (tmp_path / "calls").read_text() == "call\n"
    assert len(said) == 2


def test_two_at_once_make_one(tmp_path: Path, cache: Path) -> None:
    """The second process waits for the first and uses its image."""
    (tmp_path / "hold").touch()
    makers = [subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until((tmp_path / "calls").exists, "the making")
    (tmp_path / "hold").unlink()
    heard = [maker.communicate() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0], heard
    assert heard[0][0] == heard[1][0] == f"{cache / images(cache)[0]}\n"
    assert (tmp_path / "calls").read_text() == "call\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_maker_that_is_interrupted_leaves_nothing(tmp_path: Path, cache: Path, number: signal.Signals) -> None:
    """No partial image or process is left; Ctrl-C has its usual exit code."""
    (tmp_path / "hold").touch()
    with subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as maker:
        until((tmp_path / "calls").exists, "the making")
        maker.send_signal(number)
        maker.communicate()
    assert maker.returncode == 130
    assert images(cache) == []


def test_leftovers_of_a_killed_maker_are_removed(cache: Path) -> None:
    """The next making removes the leftovers, and images that were unused for a week; a younger image stays."""
    for name, age in ((".making.x", 0), ("old", 8 * 86400), ("young", 86400)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    made = image.image(lambda _: None)
    assert sorted(images(cache)) == sorted(["young", made.folder.name])


def test_a_making_that_fails_says_why(tmp_path: Path, cache: Path) -> None:
    """The error has mmdebstrap's last message, and no image is left."""
    (tmp_path / "bin/mmdebstrap").write_text("#!/bin/sh\necho 'E: no such suite'\nexit 1\n")
    with pytest.raises(Invalid, match="E: no such suite"):
        image.image(lambda _: None)
    assert images(cache) == []


def test_missing_programs_are_named_with_their_packages(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has a command to install the packages. Programs for making are not required once the image exists."""
    image.image(lambda _: None)
    (cache.parents[2] / "bin/mmdebstrap").unlink()
    monkeypatch.setenv("PATH", str(cache.parents[2] / "bin"))
    image.image(lambda _: None)
    for path in (cache.parents[2] / "bin").iterdir():
        path.unlink()
    with pytest.raises(Invalid, match=r"apt-get install .* busybox-static qemu-system-x86 qemu-utils"):
        image.image(lambda _: None)
