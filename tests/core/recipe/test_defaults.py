"""The installation's defaults for recipes, requests it cannot grant, and the resulting work order."""

import base64
import hashlib
import re
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import ConfigFile, Packages, Secret, WorkOrder
from provisioner.core.protocol.words import Attachment, Engine
from provisioner.core.recipe import git
from provisioner.core.recipe.defaults import RecipeDefaults, ungranted
from provisioner.core.recipe.recipe import Spec, parse_recipe, with_overrides
from provisioner.core.run.work_order import work_order
from tests.support.samples import recipe, run

OVER_SSH = [{"url": "git@github.com:a/b.git"}]
TERMS = RecipeDefaults(
    git_credential="ssm:/git",
    known_hosts=("git.corp ssh-ed25519 AAAA",),
    registry_credential="ssm:/registry",
    checkpoint_url="s3://b/kept/",
    subnets=("subnet-a", "subnet-b"),
)


def refused(terms: RecipeDefaults = TERMS, **spec: Any) -> dict[str, str]:
    return {".".join(map(str, path[1:])): why for path, why in ungranted(recipe(**spec).spec, "ann", terms)}


def order(terms: RecipeDefaults = TERMS, **spec: Any) -> WorkOrder:
    wanted = recipe(**spec)
    return work_order(run(), wanted, attempt=2, rank=0, gpus=1, engine=Engine.CONTAINER, terms=terms)


def test_ssh_needs_a_key_and_a_host_that_is_known() -> None:
    """Key and known host come from the recipe or the settings: a machine cannot ask a user."""
    assert not refused(git_repositories=OVER_SSH)
    assert not refused(RecipeDefaults(), git_repositories=OVER_SSH, git={"credential": "ssm:/own"})
    assert "spec.git.credential" in refused(RecipeDefaults(), git_repositories=OVER_SSH)["git_repositories.0.url"]
    elsewhere = [{"url": "git@git.corp:a"}, {"url": "ssh://git@git.corp:2222/a/b"}]
    assert list(refused(git_repositories=elsewhere)) == ["git_repositories.1.url"]
    assert not refused(RecipeDefaults(), git_repositories=[{"url": "https://h/a"}])


def test_secret_of_another_owner_is_refused() -> None:
    """The machine has only the rights of its job's owner."""
    secret = {"attachment_type": "file", "location": "a", "name": "ssm:/a"}
    assert not refused(secrets=[secret, secret | {"location": "b", "owner": "ann"}])
    assert "only the rights of ann" in refused(secrets=[secret | {"owner": "bob"}])["secrets.0.owner"]


def test_subnets_and_checkpoints_are_the_installations() -> None:
    """Subnets and checkpoints that the settings do not have are refused."""
    assert not refused(placement={"subnets": ["subnet-b"]}, checkpoint=True)
    found = refused(RecipeDefaults(), placement={"subnets": ["subnet-b"]}, checkpoint=True)
    assert list(found) == ["placement.subnets.0", "checkpoint"]
    assert "checkpoint_url" in found["checkpoint"]


def test_ungranted_field_is_reported_with_its_line() -> None:
    """All problems are in one error, with their lines, whatever their cause."""

    def here(spec: Spec) -> Any:
        return ungranted(spec, "ann", RecipeDefaults())

    text = "type: job\nspec:\n  name: a\n  image: b\n  instance_type: g5.xlarge\n  command: c\n  checkpoint: true\n"
    with pytest.raises(Invalid, match=r"f:7: spec\.checkpoint: the installation has no place"):
        parse_recipe(text, "f", here)
    with pytest.raises(Invalid, match=r"start: spec\.checkpoint: "):
        with_overrides(parse_recipe(text, "f"), {}, None, here)


def test_a_start_cannot_override_a_secret() -> None:
    """A start must not replace a secret with a plain value."""
    wanted = recipe(secrets=[{"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/a"}])
    with pytest.raises(Invalid, match=r"start: spec\.secrets\[0\]\.location: TOKEN is taken"):
        with_overrides(wanted, {"TOKEN": "x"}, None)


def test_work_order_has_resolved_attachments() -> None:
    """The work order has resolved values, so the agent needs no defaults."""
    got = order(
        secrets=[{"type": "file", "location": "a", "name": "ssm:/a"}],
        config_files={".x": {"content": "y", "mode": "600"}},
        extra_packages={"pip": {"install": "numpy", "requirements_txt": "torch\n"}, "apt": "ffmpeg"},
        shm_size="1Gi",
        checkpoint=True,
        git_repositories=OVER_SSH,
    )
    assert got.secrets == (Secret("ssm:/a", Attachment.FILE, "a"),)
    assert got.config_files == (ConfigFile(".x", "y", "0600"),)
    assert got.packages == Packages(("ffmpeg",), ("numpy",), "torch\n")
    assert (got.shm_size, got.checkpoint, got.registry_credential) == (1 << 30, "s3://b/kept/r1/", "ssm:/registry")
    assert got.known_hosts.splitlines() == [*git.KNOWN_HOSTS, "git.corp ssh-ed25519 AAAA"]


def test_a_plain_recipe_asks_for_nothing() -> None:
    """The work order of a plain recipe has none of the optional parts."""
    got = order(RecipeDefaults())
    assert got == WorkOrder(**{**vars(got), "secrets": (), "config_files": (), "packages": Packages()})
    assert (got.registry_credential, got.known_hosts, got.shm_size, got.checkpoint) == ("", "", None, "")


def test_credential_is_sent_only_to_private_encrypted_repositories() -> None:
    """Public repositories and unencrypted URLs get no credential; the recipe's own credential takes precedence."""
    urls = [
        "git@github.com:a/a", "https://github.com/a/b", "http://h/c", "git://h/d", "file:///e",
    ]  # fmt: skip
    repositories: list[dict[str, Any]] = [{"url": url} for url in urls]
    repositories.append({"url": "https://github.com/a/f", "public": True})
    shown = order(git_repositories=repositories).repositories
    assert [each.credential for each in shown] == ["ssm:/git", "ssm:/git", "", "", "", ""]
    own = order(git_repositories=OVER_SSH, git={"credential": "ssm:/own"}, registry={"credential": "ssm:/mine"})
    assert (own.repositories[0].credential, own.registry_credential) == ("ssm:/own", "ssm:/mine")


def test_the_time_zone_is_tz_unless_the_recipe_says_it_itself() -> None:
    """The recipe may set TZ as a variable or as a secret."""
    assert order(timezone="Asia/Tokyo").environment == {"TZ": "Asia/Tokyo"}
    assert order(timezone="Asia/Tokyo", environment_variables={"TZ": "UTC"}).environment == {"TZ": "UTC"}
    secret = {"attachment_type": "environment_variable", "location": "TZ", "name": "ssm:/a"}
    assert order(timezone="Asia/Tokyo", secrets=[secret]).environment == {}


def test_hosts_are_found_in_known_hosts_as_ssh_finds_them() -> None:
    """Hosts match by name, port or pattern; a hashed line may match any host."""
    assert git.host_of("git@github.com:a/b") == "github.com"
    assert git.host_of("ssh://h:22/a") == "h"
    assert git.host_of("ssh://git@h:2222/a") == "[h]:2222"
    assert git.host_of("https://h/a") == ""
    assert git.host_of("git@git_server:a") == "git_server"
    assert git.host_of("ssh://git@[fd00::1]:22/a") == git.host_of("git@[fd00::1]:a") == "fd00::1"
    assert git.host_of("ssh://[fd00::1]:2222/a") == "[fd00::1]:2222"
    for line, host in (
        ("a,git.corp x y", "git.corp"),
        ("[git.corp]:2222 x y", "[git.corp]:2222"),
        ("*.corp x y", "git.corp"),
        ("@cert-authority *.corp x y", "git.corp"),
        ("|1|c2FsdA==|aGFzaA== x y", "git.corp"),
    ):
        assert git.knows([line], host)
    for line in ("git.corp.org x y", "[git.corp]:2222 x y", "@revoked git.corp x y"):
        assert not git.knows([line], "git.corp")


def test_the_built_in_keys_are_the_published_ones() -> None:
    """Each key has the SHA-256 fingerprint that its host publishes."""
    published = {
        "github.com": "+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
        "gitlab.com": "eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",
        "bitbucket.org": "ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",
    }
    for line in git.KNOWN_HOSTS:
        host, _, key = line.split()
        digest = hashlib.sha256(base64.b64decode(key)).digest()
        assert base64.b64encode(digest).decode().rstrip("=") == published.pop(host)
        assert re.fullmatch(git.KNOWN_HOST, line)
    assert not published


def test_the_work_order_says_what_of_a_repository_is_cloned() -> None:
    """The agent always gets a reference type."""
    urls: list[dict[str, Any]] = [
        {"url": "https://h/a"},
        {"url": "https://h/b", "depth": 3, "lfs": False},
        {"url": "https://h/c", "depth": "full", "reference": "v1", "reference_type": "tag"},
        {"url": "https://h/d", "reference": "ab" * 20},
    ]
    shown = order(git_repositories=urls).repositories
    assert [(each.depth, each.lfs, each.reference_type) for each in shown] == [
        ("", True, "branch"),
        ("3", False, "branch"),
        ("full", True, "tag"),
        ("", True, "commit"),
    ]


def test_more_machines_than_may_be_alive_are_refused() -> None:
    """Such a run would wait for ever."""
    assert "max_machines of the settings allows 3" in refused(RecipeDefaults(max_machines=3), scale=4)["scale"]
    assert not refused(RecipeDefaults(max_machines=4), scale=4)
    assert not refused(RecipeDefaults(), scale=1000)
