"""The settings file: defaults for recipes, the store's path, and error messages."""

from pathlib import Path

import pytest

from provisioner.core.cloud.caps.budget import Caps
from provisioner.core.errors import Invalid
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.settings import load

PLAIN = 'installation = "a"\nregion = "us-east-1"\nbucket = "b"\nsubnets = ["subnet-a"]\n'


def test_settings_give_defaults_for_recipes(tmp_path: Path) -> None:
    """The settings hold names of credentials, known_hosts lines, and a checkpoint folder."""
    (tmp_path / "s.toml").write_text(
        PLAIN + 'checkpoint_url = "s3://bucket/kept"\n[git]\ncredential = "ssm:/git"\n'
        'known_hosts = ["git.corp ssh-ed25519 AAAA"]\n[registry]\ncredential = "secretsmanager:r#k"\n'
    )
    assert load(str(tmp_path / "s.toml")).terms == RecipeDefaults(
        "ssm:/git", ("git.corp ssh-ed25519 AAAA",), "secretsmanager:r#k", "s3://bucket/kept/", ("subnet-a",)
    )
    (tmp_path / "s.toml").write_text(PLAIN)
    assert load(str(tmp_path / "s.toml")).terms == RecipeDefaults(subnets=("subnet-a",))


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
def test_settings_error_omits_a_secret_value(tmp_path: Path, wrong: str) -> None:
    """A user may have put the secret itself into the setting, so the error must not print the value."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}{wrong}\n")
    with pytest.raises(Invalid) as error:
        load(str(tmp_path / "s.toml"))
    assert "hunter2" not in str(error.value)


def test_settings_error_has_file_field_and_suggestion(tmp_path: Path) -> None:
    """Each mistake has one line: the file, the field, and a suggestion."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}disk_gb = 100\n[git]\ncredentials = 'ssm:/a'\n")
    with pytest.raises(Invalid) as error:
        load(str(tmp_path / "s.toml"))
    assert str(error.value).splitlines() == [
        f"{tmp_path}/s.toml: disk_gb: unknown field; did you mean disk_gib?",
        f"{tmp_path}/s.toml: git.credentials: unknown field; did you mean credential?",
    ]


@pytest.mark.parametrize(
    ("written", "caps"),
    [
        ("", Caps(200.0)),
        ("max_dollars_a_day = 12.5", Caps(12.5)),
        ('max_dollars_a_day = "never"\nallow_unknown_price = true', Caps(None, unknown_prices=True)),
        ('[rehearsal]\nendpoint = "http://localhost:1"', Caps(None)),
        ('max_dollars_a_day = 3\n[rehearsal]\nendpoint = "http://localhost:1"', Caps(3.0)),
    ],
)
def test_a_real_account_has_a_cap_unless_the_settings_say_never(tmp_path: Path, written: str, caps: Caps) -> None:
    """The first day on a real account must not cost any amount. A rehearsal costs nothing."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}{written}\n")
    assert load(str(tmp_path / "s.toml")).caps == caps


@pytest.mark.parametrize("wrong", ["0", "-1", "true", '"200 dollars"', "1e9", "nan", '""', "inf"])
def test_a_cap_that_is_no_amount_is_refused(tmp_path: Path, wrong: str) -> None:
    """0 is refused because it could mean either no launch or no cap."""
    (tmp_path / "s.toml").write_text(f"{PLAIN}max_dollars_a_day = {wrong}\n")
    with pytest.raises(Invalid, match=r"max_dollars_a_day.*write US dollars as a number above 0.*, or never"):
        load(str(tmp_path / "s.toml"))


def stored(text: str, path: Path) -> Path:
    """Write settings with this `store` to `path`, and return the resolved store path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{PLAIN}store = '{text}'\n")
    return load(str(path)).store_path


def test_the_store_s_path_counts_from_the_settings_file_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation must find the same store from every working directory."""
    settings = tmp_path / "etc/s.toml"
    (tmp_path / "link.toml").symlink_to(settings)
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert stored("data/x.db", settings) == tmp_path / "etc/data/x.db"
        assert load(str(tmp_path / "link.toml")).store_path == tmp_path / "etc/data/x.db"
    monkeypatch.chdir(tmp_path)
    assert stored("data/x.db", Path("etc/s.toml")) == tmp_path / "etc/data/x.db"
    assert stored("/srv/x.db", settings) == Path("/srv/x.db")


def test_a_tilde_in_settings_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde in the path of the settings file is expanded too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stored("~/x.db", tmp_path / "s.toml") == tmp_path / "x.db"
    monkeypatch.setenv("PROVISION_SETTINGS", "~/s.toml")
    assert load().store_path == tmp_path / "x.db"
    assert load("~/s.toml").store_path == tmp_path / "x.db"


@pytest.mark.parametrize("path", ["$HOME/x.db", "${HOME}/x.db", "~no-such-user/x.db"])
def test_store_path_with_shell_variables_is_refused(tmp_path: Path, path: str) -> None:
    """If such a path were accepted, the store would go to a folder with that literal name."""
    with pytest.raises(Invalid, match="store: "):
        stored(path, tmp_path / "s.toml")


@pytest.mark.parametrize("path", ["x.db", "~/x.db"])
def test_store_at_an_earlier_versions_path_is_refused_until_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A new, empty store would not own the installation's machines, and would report them as foreign."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "~").mkdir()
    (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "etc/s.toml"
    with pytest.raises(Invalid) as error:
        stored(path, settings)
    assert str(tmp_path / path) in str(error.value)
    moved = (tmp_path / "home/x.db") if path.startswith("~") else (settings.parent / path)
    moved.parent.mkdir(exist_ok=True)
    (tmp_path / path).rename(moved)
    assert stored(path, settings) == moved


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = tmp_path / "provision.toml"
    path.write_bytes(
        b'\xef\xbb\xbfinstallation = "mine"\nregion = "us-east-1"\nbucket = "bucket"\nsubnets = ["subnet-1"]\n'
    )
    assert load(str(path)).installation == "mine"


def test_policies_are_for_the_profiles_and_the_parameter_of_the_settings(tmp_path: Path) -> None:
    """Each owner's profile counts once, and has a role with its own name unless the settings say otherwise."""
    (tmp_path / "s.toml").write_text(
        PLAIN + 'image = "ssm:/ours/ami-id"\n[profiles]\nada = "lab"\nbob = "lab"\n[profile_roles]\nlab = "team/lab"\n'
    )
    values = load(str(tmp_path / "s.toml")).policy_values
    assert values.roles == {"lab": "team/lab", "provision-machine": "provision-machine"}
    assert values.parameters == ("/ours/ami-id",)
    (tmp_path / "s.toml").write_text(PLAIN)
    assert load(str(tmp_path / "s.toml")).policy_values.parameters == ()


@pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1", "eusc-de-east-1", "us-isob-east-1"])
def test_regions_of_every_partition_are_accepted(tmp_path: Path, region: str) -> None:
    (tmp_path / "s.toml").write_text(PLAIN.replace("us-east-1", region))
    assert load(str(tmp_path / "s.toml")).region == region
