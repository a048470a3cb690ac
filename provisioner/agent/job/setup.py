"""Write the scripts of the job's setup: they place files, install packages, and run the start script.

The job's first shell executes them, because only that shell knows HOME and runs as the image's user.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from provisioner.core.protocol.messages import Packages, WorkOrder
from provisioner.core.protocol.words import Attachment

#: The parts of the setup, in the order in which `entry.sh` runs them, and their names in messages.
PARTS = {
    "files": "placing the files",
    "apt": "the package step (apt)",
    "pip": "the package step (pip)",
    "start_script": "the start script",
}

#: The umask of 077 ensures that only the image's user can read a secret, even while its file is being written.
PLACE = """here=${0%/*}
umask 022
place() {
    case $3 in /*) target=$3 ;; *) target=$HOME/$3 ;; esac
    { mkdir -p "${target%/*}/" && rm -f "$target" && (umask 077 && cat "$here/file$2" >"$target") &&
        chmod "$1" "$target"; } || { echo "$target cannot be written"; exit 1; }
}
"""

APT = """as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    $as_root true || {
        echo "apt packages need an image whose user is root, or may use sudo without a password"
        exit 1
    }
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update --quiet &&
    exec $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends"""

#: The container is deleted after the job, so its system's packages need no protection from pip (PEP 668).
PIP = """export PIP_BREAK_SYSTEM_PACKAGES="${PIP_BREAK_SYSTEM_PACKAGES:-1}" PIP_ROOT_USER_ACTION=ignore
exec python3 -m pip install --no-input --disable-pip-version-check --progress-bar off"""


def setup_files(order: WorkOrder, secrets: Mapping[str, bytes], seen: Callable[[str], str]) -> dict[str, bytes]:
    """Return the content of each file by its name: the scripts, named for their parts, and the files that they read.

    `secrets` are the secrets' values by name; `seen` converts a path of the work order to the job's path.
    """
    contents = [(file.path, file.mode, file.content.encode(errors="surrogateescape")) for file in order.config_files]
    contents += [
        (secret.location, "0600", secrets[secret.name])
        for secret in order.secrets
        if secret.attachment is Attachment.FILE
    ]
    made = {f"file{number}": content for number, (_, _, content) in enumerate(contents)}
    if contents:
        lines = [
            shlex.join(["place", mode, str(number), seen(path)]) for number, (path, mode, _) in enumerate(contents)
        ]
        made["files"] = (PLACE + "\n".join(lines) + "\n").encode(errors="surrogateescape")
    return {**made, **_packages(order.packages), "start_script": order.start_script.encode(errors="surrogateescape")}


def _packages(packages: Packages) -> dict[str, bytes]:
    made = {"requirements": packages.requirements}
    if packages.apt:
        made["apt"] = f"{APT} {shlex.join(packages.apt)}\n"
    if packages.pip or packages.requirements:
        file = '--requirement "${0%/*}/requirements"' if packages.requirements else ""
        made["pip"] = f"{PIP} {shlex.join(packages.pip)} {file}\n"
    return {name: text.encode(errors="surrogateescape") for name, text in made.items()}
