"""The user-data: constant, small and quoted; read back as cloud-init reads it."""

import email
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.adapters import agent_package
from provisioner.core.cloud.host_keys import host_keys
from provisioner.core.cloud.user_data import SIZE_LIMIT, builder_data, user_data
from provisioner.core.errors import Invalid

GOOD: dict[str, Any] = {
    "bucket": "a-bucket.of-mine",
    "prefix": "some/prefix",
    "region": "us-gov-west-1",
    "role_id": "AROAEXAMPLE",
    "agent_sha256": "0" * 64,
    "fetch_source": agent_package.fetch_source(),
    "endpoint": "http://127.0.0.1:5000",
}


def parts(text: str) -> dict[str, str]:
    whole = email.message_from_string(text)
    return {part.get_content_type(): str(part.get_payload()) for part in whole.walk() if not part.is_multipart()}


def test_user_data_has_two_valid_posix_scripts() -> None:
    """The boothook comes first and the script last. The text fits EC2's limit and is always the same."""
    text = user_data(**GOOD)
    assert list(parts(text)) == ["text/cloud-boothook", "text/cloud-config", "text/x-shellscript"]
    assert len(text.encode("ascii")) <= SIZE_LIMIT
    assert text == user_data(**GOOD)
    assert parts(text)["text/cloud-config"].startswith("#cloud-config\n")
    for kind in ("text/cloud-boothook", "text/x-shellscript"):
        script = parts(text)[kind]
        assert script.startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_builder_data_has_fuse_ssh_key_and_host_keys() -> None:
    """The parts are the fuse, the SSH key, and a script that prints host keys; none concerns the agent."""
    text = builder_data("ssh-ed25519 AAAA", 7200)
    found = parts(text)
    assert list(found) == ["text/cloud-boothook", "text/cloud-config", "text/x-shellscript"]
    assert yaml.safe_load(found["text/cloud-config"]) == {"ssh_authorized_keys": ["ssh-ed25519 AAAA"]}
    assert found["text/cloud-config"].startswith("#cloud-config\n")
    assert "+ 7200" in found["text/cloud-boothook"]
    assert "agent" not in text
    subprocess.run(["sh", "-n"], input=found["text/x-shellscript"], text=True, check=True)


@pytest.mark.parametrize("keys", [0, 2])
def test_builder_without_host_keys_powers_off(tmp_path: Path, keys: int) -> None:
    """A builder that cannot be reached by SSH is useless and costs money."""
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "poweroff").write_text("#!/bin/sh\necho off\n")
    (tmp_path / "poweroff").chmod(0o755)
    told = tuple(f"ssh-kind{number} AAAAB3" for number in range(keys))
    for number, key in enumerate(told):
        (tmp_path / f"etc/ssh/ssh_host_{number}_key.pub").write_text(f"{key} root@host\n")
    script = parts(builder_data("ssh-ed25519 AAAA", 7200))["text/x-shellscript"]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROVISION_ROOT": str(tmp_path)}
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert host_keys(done.stdout) == told
    assert done.stdout.endswith("off\n") is (keys == 0)


def test_upgrades_are_masked_and_services_of_the_machine_start_first() -> None:
    """An upgrade of packages reloads all units, after which jobs may lose their GPUs (nvidia-container-toolkit#48).

    Seen before dlami-nvme has joined the disks, they look blank.
    """
    script = parts(user_data(**GOOD))["text/x-shellscript"].replace("\\\n", "")
    [mask] = [line for line in script.splitlines() if line.startswith("systemctl mask")]
    assert set(mask.split()) >= {
        *("--now", "apt-daily.timer", "apt-daily.service", "apt-daily-upgrade.timer", "apt-daily-upgrade.service"),
        "unattended-upgrades.service",
    }
    [after] = [line for line in script.splitlines() if line.startswith("After=")]
    assert set(after.removeprefix("After=").split()) >= {
        *("docker.service", "dlami-nvme.service", "nvidia-fabricmanager.service", "nvidia-cdi-refresh.service")
    }


@pytest.mark.parametrize(
    ("region", "domain"),
    [("us-east-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn"), ("us-iso-east-1", "c2s.ic.gov")],
)
def test_machine_gets_the_domain_of_its_partition(region: str, domain: str) -> None:
    script = parts(user_data(**{**GOOD, "region": region}))["text/x-shellscript"]
    assert f"export PROVISION_DOMAIN={domain}\n" in script
    assert 'Environment="PROVISION_DOMAIN=$PROVISION_DOMAIN"\n' in script


def test_no_command_is_named_by_its_path() -> None:
    """Commands are found by PATH only, so that a rehearsed machine always runs its doubles."""
    scripts = parts(user_data(**GOOD)) | parts(builder_data("ssh-ed25519 AAAA", 7200))
    for script in scripts.values():
        rest = script.removeprefix("#!/bin/sh\n")
        assert not [word for word in ("/bin/", "/sbin/", "/usr/") if word in rest]


@pytest.mark.parametrize("field", ["bucket", "prefix", "region", "role_id", "agent_sha256", "endpoint"])
@given(bad=st.text(alphabet="'\"$`;\n\\ %|&<>()é", min_size=1, max_size=5))
def test_value_with_shell_characters_is_refused(field: str, bad: str) -> None:
    """A value of the wrong form is refused, not quoted."""
    with pytest.raises(Invalid):
        user_data(**{**GOOD, field: GOOD[field] + bad})


def test_a_text_past_the_limit_is_refused() -> None:
    """The error comes before the launch, which EC2 would refuse, and has the limit in bytes."""
    with pytest.raises(Invalid, match="16384"):
        user_data(**{**GOOD, "fetch_source": "#" * SIZE_LIMIT})
    with pytest.raises(Invalid, match="ASCII"):
        user_data(**{**GOOD, "fetch_source": "é"})
    with pytest.raises(Invalid, match="fuse"):
        user_data(**GOOD, boot_fuse=0)


def boothook(folder: Path, boot_fuse: int) -> list[str]:
    """Run the boothook with a double of systemd-run; return the double's arguments."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "systemd-run").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$PROVISION_ROOT/called"\n')
    (commands / "systemd-run").chmod(0o755)
    environment = {"PROVISION_ROOT": str(folder), "PATH": f"{commands}:{os.defpath}"}
    script = parts(user_data(**GOOD, boot_fuse=boot_fuse))["text/cloud-boothook"]
    subprocess.run(["sh"], input=script, env=environment, text=True, check=True)
    return (folder / "called").read_text().splitlines()


def test_the_fuse_is_armed_on_every_boot_and_set_on_the_first(tmp_path: Path) -> None:
    """A second boot starts the fuse again, but does not extend its time."""
    called = boothook(tmp_path, 1000)
    options = called[: called.index("sh")]
    assert options[:3] == ["--no-block", "--unit=provision-fuse", "--property=DefaultDependencies=no"]
    first = (tmp_path / "var/lib/provision/fuse").read_text()
    (tmp_path / "called").unlink()
    assert boothook(tmp_path, 5000) == called
    assert (tmp_path / "var/lib/provision/fuse").read_text() == first


def test_machine_without_an_agent_powers_off_after_writing_its_settings(tmp_path: Path) -> None:
    """Without an agent the machine writes its settings, prints the reason, and powers off."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in {
        "poweroff": 'echo off >"$PROVISION_ROOT/off"',
        "sleep": ":",
        "python3": "case $1 in -c) ;; *) exit 1 ;; esac",
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    environment = {"PROVISION_ROOT": str(tmp_path), "PATH": f"{commands}:{os.defpath}"}
    script = parts(user_data(**GOOD))["text/x-shellscript"]
    done = subprocess.run(["sh"], input=script, env=environment, text=True, capture_output=True, check=False)
    assert (done.returncode, (tmp_path / "off").exists()) == (1, True)
    assert "the agent cannot be fetched" in done.stdout
    settings = json.loads((tmp_path / "var/lib/provision/settings.json").read_text())
    assert settings == {
        "bucket": "a-bucket.of-mine",
        "prefix": "some/prefix/",
        "region": "us-gov-west-1",
        "role_id": "AROAEXAMPLE",
    }
