"""A private registry's credential, as Docker's command line is given it."""

import base64
import json
from pathlib import Path

import pytest

from provisioner.agent.container import ContainerEngine
from provisioner.agent.ending import Halt
from provisioner.agent.image import pull, registry_of
from provisioner.agent.outside import Outside
from provisioner.core.work import Step
from tests.agent.conftest import Site

DOCKER = """#!/bin/sh
case $1 in
    version) echo 1 ;;
    *) cat "${{1#--config=}}/config.json" >{told} ;;
esac
"""


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("ubuntu", "https://index.docker.io/v1/"),
        ("me/image:1", "https://index.docker.io/v1/"),
        ("docker.io/me/image", "https://index.docker.io/v1/"),
        ("localhost/x", "localhost"),
        ("host:5000/x/y@sha256:0", "host:5000"),
        ("1.dkr.ecr.us-east-1.amazonaws.com/x:1", "1.dkr.ecr.us-east-1.amazonaws.com"),
    ],
)
def test_an_images_registry_is_named_as_docker_does(image: str, registry: str) -> None:
    """The credential is filed under it, and under nothing else."""
    assert registry_of(image) == registry


def test_a_login_is_for_one_registry_and_gone_after_the_pull(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own, that no other pull reads."""
    told, programs, credentials = tmp_path / "told", tmp_path / "bin", tmp_path / "credentials"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER.format(told=told))
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    made = ContainerEngine(site.order(":", image="host:5000/x"), "i-1", tmp_path, tmp_path, credentials, lambda _: None)
    made.pull(Outside(Step.PULL, Halt(), 2.0**40, "the limit", lambda _: None), b"me:secret")
    assert json.loads(told.read_text()) == {"auths": {"host:5000": {"auth": base64.b64encode(b"me:secret").decode()}}}
    assert list(credentials.iterdir()) == []


PRESENT = """#!/bin/sh
echo "$*" >>{told}
[ "$1" != pull ] || touch {told}.pulled
"""


@pytest.mark.parametrize(("image", "pulled"), [("x@sha256:1", False), ("x:1", True)])
def test_what_a_digest_names_is_not_pulled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, pulled: bool
) -> None:
    """It is what it is; a tag may mean something else by now, and is asked for."""
    (tmp_path / "docker").write_text(PRESENT.format(told=tmp_path / "told"))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    pull(image, Outside(Step.PULL, Halt(), 2.0**40, "the limit", said.append), None, tmp_path / "credentials")
    assert (tmp_path / "told.pulled").exists() is pulled
    assert any("not pulled" in line for line in said) is not pulled
