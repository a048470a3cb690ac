"""What the settings say of what jobs may use."""

from pathlib import Path

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.terms import Terms
from provisioner.settings import load

PLAIN = 'installation = "a"\nregion = "us-east-1"\nbucket = "b"\nsubnets = ["subnet-a"]\n'


def test_the_terms_are_read(tmp_path: Path) -> None:
    """Credentials by name, hosts by their lines, and a place for checkpoints, as a folder."""
    (tmp_path / "s.toml").write_text(
        PLAIN + 'checkpoint_url = "s3://bucket/kept"\n[git]\ncredential = "ssm:/git"\n'
        'known_hosts = ["git.corp ssh-ed25519 AAAA"]\n[registry]\ncredential = "secretsmanager:r#k"\n'
    )
    assert load(str(tmp_path / "s.toml")).terms == Terms(
        "ssm:/git", ("git.corp ssh-ed25519 AAAA",), "secretsmanager:r#k", "s3://bucket/kept/", ("subnet-a",)
    )
    (tmp_path / "s.toml").write_text(PLAIN)
    assert load(str(tmp_path / "s.toml")).terms == Terms(subnets=("subnet-a",))


@pytest.mark.parametrize(
    "wrong",
    [
        'checkpoint_url = "/kept"',
        '[git]\ncredential = "hunter2"',
        '[git]\nknown_hosts = ["git.corp"]',
        '[git]\nknown_hosts = ["a b c\\nd e f"]',
        '[registry]\ncredential = "me:hunter2"',
    ],
)
def test_what_is_wrong_is_told_without_its_value(tmp_path: Path, wrong: str) -> None:
    """Somebody may have put the secret itself there."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}{wrong}\n")
    with pytest.raises(Invalid) as error:
        load(str(tmp_path / "s.toml"))
    assert "hunter2" not in str(error.value)


def test_a_mistake_is_told_as_a_recipe_s_is(tmp_path: Path) -> None:
    """One line for each: the file, the field, and what would be right."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}disk_gb = 100\n[git]\ncredentials = 'ssm:/a'\n")
    with pytest.raises(Invalid) as error:
        load(str(tmp_path / "s.toml"))
    assert str(error.value).splitlines() == [
        f"{tmp_path}/s.toml: disk_gb: unknown field; did you mean disk_gib?",
        f"{tmp_path}/s.toml: git.credentials: unknown field; did you mean credential?",
    ]


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = tmp_path / "provision.toml"
    path.write_bytes(
        b'\xef\xbb\xbfinstallation = "mine"\nregion = "us-east-1"\nbucket = "bucket"\nsubnets = ["subnet-1"]\n'
    )
    assert load(str(path)).installation == "mine"
