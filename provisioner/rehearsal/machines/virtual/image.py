"""Build the guest image of QEMU machines from this computer's Debian apt sources, and cache it.

python -m provisioner.rehearsal.machines.virtual.image      builds it if it is missing, and prints its folder
"""

import contextlib
import fcntl
import gzip
import hashlib
import lzma
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.errors import Invalid

#: Folder of the image's recipe: in an installed wheel, or else in a checkout.
RECIPE = next(
    folder
    for folder in (
        Path(__file__).parents[3] / "images" / "rehearsal",
        Path(__file__).parents[4] / "images" / "rehearsal",
    )
    if folder.is_dir()
)

#: Programs that make the image, and programs that run it, each with its Debian package.
MAKERS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "lz4": "lz4",
}
RUNNERS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "busybox": "busybox-static",
}

OPTIONS = (
    "mmdebstrap",
    "--variant=apt",
    "--format=null",
    "--aptopt=APT::Install-Recommends false",
    "--aptopt=Acquire::Languages none",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")),
    "--dpkgopt=force-unsafe-io",
)

#: An image that was not used for this many seconds is removed when a new image is made.
FORGET_AFTER = 7 * 86400.0

#: Seconds that the probe of KVM may take. A usable KVM boots the initrd in less than one second.
PROBE = 5.0

#: Decompressors of a kernel by its first bytes (Linux, Documentation/arch/x86/boot.rst, "payload_offset").
PACKINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ\0": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x02\x21\x4c\x18": lambda data: _piped("lz4", data),
    b"\x28\xb5\x2f\xfd": lambda data: _piped("zstd", data),
}


@dataclass(frozen=True)
class Image:
    folder: Path
    #: `kvm`, or `tcg` for emulation.
    accelerator: str

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def disk(self) -> Path:
        """An ext4 file system, the backing file of each machine's own disk."""
        return self.folder / "disk"


def image(say: Callable[[str], None]) -> Image:
    """Return the guest image for the current recipe, options and apt sources; make it first if it does not exist.

    Raises Invalid if this computer cannot make it; the message says what is missing.
    """
    _need(RUNNERS)
    sources = _sources()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provision" / "rehearsal"
    folder = cache / _key(sources)
    if not folder.exists():
        _need({**MAKERS, **RUNNERS})
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                say("building the guest image (only the first time; takes some minutes)")
                began = time.monotonic()
                _tidy(cache)
                _make(folder, sources)
                say(f"built {folder} in {time.monotonic() - began:.0f} s")
    os.utime(folder)
    return Image(folder, _accelerator(folder))


def _need(programs: dict[str, str]) -> None:
    if platform.machine() != "x86_64":
        raise Invalid(
            f"QEMU rehearsals need an x86_64 computer, and this one is {platform.machine()}: use --machine light"
        )
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({programs[name] for name in missing}))
        raise Invalid(
            f"programs not found: {', '.join(missing)}; install them with: "
            f"apt-get install --no-install-recommends {packages}"
        )


def _sources() -> list[Path]:
    """Return this computer's apt source files of Debian, without those of other vendors; raises Invalid if none."""
    suite = _suite()
    found = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    ours = [
        path
        for path in found
        if path.suffix in (".list", ".sources")
        and path.is_file()
        and all(re.search(rf"^[^#]*\b{word}\b", path.read_text(), re.MULTILINE) for word in (suite, "main"))
    ]
    if not ours:
        raise Invalid(
            f"no apt source of Debian {suite} with main in /etc/apt: add one; the guest image is built from "
            "this computer's apt sources"
        )
    return ours


def _suite() -> str:
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        raise Invalid(
            f"the guest image can be built only on Debian, and this computer runs {release['NAME']}: "
            "use --machine light"
        )
    return release["VERSION_CODENAME"]


def _key(sources: list[Path]) -> str:
    """Return the name of the image's folder: a hash of everything from which the image is made."""
    digest = hashlib.sha256("\0".join((_suite(), *OPTIONS)).encode())
    recipe = sorted(path for path in RECIPE.rglob("*") if path.is_file())
    for path in [*recipe, *sources, Path(shutil.which("busybox") or "")]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _make(folder: Path, sources: list[Path]) -> None:
    """Make the image in a temporary folder and rename it when complete, so that no process sees a partial image."""
    with _aside(folder.parent) as made:
        command = [
            # Mounts on the new root are then visible to these processes only, and end with the last of them.
            *(("unshare", "--mount") if os.geteuid() == 0 else ()),
            *OPTIONS,
            f"--include={','.join((RECIPE / 'packages').read_text().split())}",
            f'--customize-hook=sh {RECIPE}/customize "$1"',
            f'--customize-hook=sh {RECIPE}/pack "$1" {made}',
            *(_suite(), "-", *map(str, sources)),
        ]
        log = made / "log"
        if _run(command, log, made):
            said = log.read_text(errors="replace")[-3000:]
            raise Invalid(f"building the guest image failed; the end of mmdebstrap's output:\n{said}")
        (made / "vmlinux").write_bytes(unpacked((made / "vmlinuz").read_bytes()))
        (made / "vmlinuz").unlink()
        made.rename(folder)


def _run(command: list[str], log: Path, temporary: Path) -> int:
    """Run the command and return its exit code; after an interrupt, no process of the command is left."""
    with log.open("wb") as heard:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=subprocess.STDOUT,
            # The unpacked files are large, and /tmp may be in memory.
            env={**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True,
        )
    try:
        return process.wait()
    except BaseException:
        # SIGTERM before SIGKILL, so that the command can clean up.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".making.", dir=parent))
    # apt's own user must be able to enter the folder.
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder, but nothing that is mounted below it (by a killed mmdebstrap)."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


def _tidy(cache: Path) -> None:
    """Remove old images and the temporary folders of killed makers; the caller must hold the lock."""
    for path in cache.iterdir():
        old = path.is_dir() and path.stat().st_mtime < time.time() - FORGET_AFTER
        if old or path.name.startswith(".making."):
            _remove(path)


def unpacked(packed: bytes) -> bytes:
    """Return the kernel in a bzImage as an ELF file, which QEMU starts faster (Linux, boot.rst). Raises Invalid."""
    sectors = packed[0x1F1]
    offset, length = struct.unpack_from("<II", packed, 0x248)
    start = (sectors + 1) * 512 + offset
    # The last four bytes are the unpacked length.
    payload = packed[start : start + length - 4]
    for magic, unpack in PACKINGS.items():
        if payload.startswith(magic):
            return unpack(payload)
    raise Invalid(
        f"unknown compression of the guest kernel: first bytes {payload[:6].hex()}; expected gzip, xz, lz4 or zstd"
    )


def _piped(program: str, data: bytes) -> bytes:
    return subprocess.run([program, "-dc"], input=data, capture_output=True, check=True).stdout


def _accelerator(folder: Path) -> str:
    """Return `kvm` if this computer's KVM really boots a guest, else `tcg`. The result is cached until the next boot.

    A /dev/kvm may exist and not work, for example within another virtual machine.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    memory = folder / "accelerator"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(FileNotFoundError, ValueError):
        remembered, found = memory.read_text().split()
        if remembered == boot:
            return found
    found = "kvm" if _boots(folder, "kvm") else "tcg"
    _replace(memory, f"{boot} {found}\n".encode())
    return found


def _boots(folder: Path, accelerator: str) -> bool:
    """Return whether the initrd powers off in time; without a usable KVM, QEMU fails or the guest hangs."""
    image = Image(folder, accelerator)
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", "host", "-m", "128"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(image.kernel)),
        *("-initrd", str(image.initrd), "-append", "rehearsal.probe quiet panic=-1"),
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


def main() -> int:
    try:
        print(image(lambda text: print(f"== {text}", file=sys.stderr, flush=True)).folder)
    except Invalid as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # Set a handler for SIGINT, too: a program that a shell starts in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
