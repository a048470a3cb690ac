"""The scripts of `images/`: what they change in a system's folder, and what they leave alone."""

import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from provisioner.adapters import image_scripts

SCRIPTS = [name for name in image_scripts.files() if name.endswith(".sh")]


def run(script: str, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        ["sh", str(image_scripts.FOLDER / script), *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root folder of a system that has run for a while."""
    files = {
        "etc/machine-id": "0123",
        "etc/ssh/ssh_host_ed25519_key": "secret",
        "etc/ssh/sshd_config": "Port 22",
        "etc/cloud/cloud.cfg.d/90_dpkg.cfg": "datasource_list: [Ec2, None]",
        "root/.ssh/authorized_keys": "ssh-rsa AAAA root",
        "root/.docker/config.json": "{}",
        "home/ubuntu/.ssh/authorized_keys": "ssh-rsa AAAA me",
        "home/ubuntu/.bash_history": "rm -rf /",
        "home/ubuntu/kept": "kept",
        "var/lib/cloud/instance/user-data.txt": "data",
        "var/lib/provision/fuse": "1",
        "var/lib/docker/overlay2/layer": "kept",
        "var/lib/docker/engine-id": "x",
        "var/lib/systemd/random-seed": "x",
        "var/log/syslog": "x",
        "var/log/journal/0123/system.journal": "x",
        "tmp/left": "x",
        "tmp/.left": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def agent(folder: Path, content: bytes = b"agent") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"agent-{hashlib.sha256(content).hexdigest()}.zip"
    path.write_bytes(content)
    return path


def tree(root: Path) -> dict[str, object]:
    return {
        path.relative_to(root).as_posix(): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_posix(name: str) -> None:
    """The scripts must run with any POSIX sh."""
    subprocess.run(["dash", "-n", str(image_scripts.FOLDER / name)], check=True)


def test_prepare_installs_agent_and_fuse_and_masks_timers(root: Path, tmp_path: Path) -> None:
    """The script writes only inside the given root, and a second run changes nothing."""
    archive = agent(tmp_path / "archive")
    run("prepare.sh", str(root), str(archive))
    first = tree(root)
    assert first[f"opt/provision/{archive.name}"] == b"agent"
    units = "etc/systemd/system"
    assert str(first[f"{units}/apt-daily.timer"]) == str(first[f"{units}/snapd.seeded.service"]) == "/dev/null"
    assert str(first[f"{units}/sysinit.target.wants/provision-boot-fuse.service"]) == "../provision-boot-fuse.service"
    assert "etc/systemd/journald.conf.d/provision.conf" in first
    run("prepare.sh", str(root), str(archive))
    assert tree(root) == first


def test_a_newer_agent_takes_the_place_of_the_older(root: Path, tmp_path: Path) -> None:
    """An AMI made from an AMI that was prepared earlier has exactly one agent."""
    for content in (b"old", b"new"):
        run("prepare.sh", str(root), str(agent(tmp_path / "archive", content)))
    assert [path.read_bytes() for path in (root / "opt/provision").iterdir()] == [b"new"]


def test_agent_archive_with_wrong_checksum_is_refused(root: Path, tmp_path: Path) -> None:
    """A broken transfer must not become part of an AMI."""
    archive = agent(tmp_path / "archive")
    archive.write_bytes(b"other")
    assert "differs from the one in its name" in run("prepare.sh", str(root), str(archive), code=1)
    assert not (root / "opt/provision").exists()


def test_clean_removes_identity_keys_logs_and_state(root: Path) -> None:
    """Machine identity, SSH keys, credentials, logs and state are removed; the content of the AMI stays."""
    run("prepare.sh", str(root))
    prepared = tree(root)
    run("clean.sh", str(root))
    left = tree(root)
    gone = set(prepared) - set(left)
    assert gone == {
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/authorized_keys",
        "root/.docker/config.json",
        "home/ubuntu/.ssh/authorized_keys",
        "home/ubuntu/.bash_history",
        "var/lib/cloud/instance/user-data.txt",
        "var/lib/provision/fuse",
        "var/lib/docker/engine-id",
        "var/lib/systemd/random-seed",
        "var/log/journal/0123/system.journal",
        "tmp/left",
        "tmp/.left",
    }
    assert {name for name in left if left[name] != prepared[name]} == {"etc/machine-id", "var/log/syslog"}
    assert left["etc/machine-id"] == left["var/log/syslog"] == b""
    run("clean.sh", str(root))
    assert tree(root) == left


@pytest.mark.parametrize("words", [(), ("",), ("/a", "/b")])
def test_clean_without_a_folder_prints_usage(words: tuple[str, ...]) -> None:
    """Nothing is touched if no folder is given, or if its name is empty."""
    assert "usage" in run("clean.sh", *words, code=64)


def test_cleaning_leaves_other_systems_alone(root: Path) -> None:
    """The script cleans only a folder that prepare.sh has prepared."""
    before = tree(root)
    assert "prepared" in run("clean.sh", str(root), code=1)
    assert tree(root) == before


def test_verify_names_every_program_that_the_base_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names every missing program, and an AMI that has all of them."""
    for name in ("git", "cloud-init", "modinfo"):
        (tmp_path / name).write_text("#!/bin/sh\necho 1.0\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "head", "dash"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if name != "head" else "/usr/bin/head")
    monkeypatch.setenv("PATH", str(tmp_path))
    last = run("gpu/verify.sh", code=1).splitlines()[-1]
    assert last.startswith(
        "this AMI lacks: systemd, Docker, NVIDIA container toolkit, Python of at least 3.10. Use AWS's Deep Learning"
    )


def test_the_configuration_of_cloud_init_is_yaml() -> None:
    """The file is valid YAML and keeps the cloud-init modules that user-data and SSH access need."""
    files = image_scripts.files()
    said = yaml.safe_load(files["tree/etc/cloud/cloud.cfg.d/95_provision.cfg"])
    assert {"growpart", "resizefs", "users_groups", "ssh"} <= set(said["cloud_init_modules"])
    assert "scripts_user" in said["cloud_final_modules"]
