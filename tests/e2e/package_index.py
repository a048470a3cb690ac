"""A package index on this computer, for pip with a password and for apt."""

import contextlib
import hashlib
import http.server
import subprocess
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote


class PackageIndex:
    """Wheels and Debian packages below a folder; each package contains its own version."""

    def __init__(self, folder: Path, port: int, login: str) -> None:
        self._folder = folder
        user, _, password = login.partition(":")
        #: The index URL for pip, with the password.
        self.wheels = f"http://{user}:{quote(password, safe='')}@127.0.0.1:{port}/wheels"
        #: A line of apt's sources.list.
        self.debs = f"deb [trusted=yes] http://127.0.0.1:{port}/debs ./"

    def add_wheel(self, name: str, version: str) -> None:
        """Add a wheel whose module `name` has a `version`.

        PyPA: "Binary distribution format", "Simple repository API".
        """
        shelf, info = self._folder / "wheels" / name.replace("_", "-"), f"{name}-{version}.dist-info"
        shelf.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", f"version = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in sorted(shelf.glob("*.whl")))
        (shelf / "index.html").write_text(f"<!DOCTYPE html>\n{links}")

    def add_deb(self, name: str, version: str) -> None:
        """Add a Debian package whose program `name` prints the version."""
        shelf, tree = self._folder / "debs", self._folder / f"{name}-{version}"
        for each in (shelf, tree / "DEBIAN", tree / "usr/bin"):
            each.mkdir(parents=True, exist_ok=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: t <t@example.com>\n"
        (tree / "DEBIAN/control").write_text(f"{control}Description: made for a test\n")
        program = tree / "usr/bin" / name
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
        deb = shelf / f"{name}_{version}_all.deb"
        build = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)]
        subprocess.run(build, check=True, capture_output=True)
        about = f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
        with (shelf / "Packages").open("a") as packages:
            packages.write(f"{control}{about}SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n\n")


@contextlib.contextmanager
def package_index(folder: Path, login: str) -> Iterator[PackageIndex]:
    """Serve an index; `login` is the `user:password` for the wheels."""
    expected = f"Basic {b64encode(login.encode()).decode()}"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path.startswith("/wheels/") and self.headers["Authorization"] != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="wheels"')
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield PackageIndex(folder, server.server_port, login)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
