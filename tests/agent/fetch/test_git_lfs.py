"""Repositories with files in git LFS: the job finds the files or the run is refused; it never finds pointers."""

import os
import shutil
from base64 import b64encode
from pathlib import Path

import pytest

from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Outcome
from tests.agent.private_git import certificate, check_out_here, https_server, ssh_server
from tests.support.repositories import ATTRIBUTES, OID, POINTER, TOKEN, WEIGHTS, git, repository, submodule


def with_lfs(folder: Path, *, stored: bool = True) -> Path:
    """Make a repository with one file in LFS; with `stored`, the repository's LFS store has the file's content."""
    made = repository(folder, **{".gitattributes": ATTRIBUTES, "w.bin": POINTER})
    if stored:
        content = made / ".git/lfs/objects" / OID[:2] / OID[2:4] / OID
        content.parent.mkdir(parents=True)
        content.write_bytes(WEIGHTS)
    return made


@pytest.fixture
def no_git_lfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a PATH without git-lfs."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "sh", "env", "sed", "basename", "uname"):
        (programs / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(programs))


@pytest.mark.ssh
def test_lfs_files_are_fetched_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files come from the store in the repository. GIT_LFS_SKIP_SMUDGE on the machine does not prevent that."""
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    outer = with_lfs(tmp_path / "outer")
    check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert (tmp_path / "checkout/w.bin").read_bytes() == WEIGHTS


@pytest.mark.ssh
def test_lfs_files_are_fetched_over_https_with_the_repository_s_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout has no trace of the token."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    with_lfs(tmp_path / "repos/outer")
    with https_server(tmp_path / "repos", pem, f"x-access-token:{TOKEN}") as server:
        wanted = Repository(f"{server.url}/outer", "/x", credential="ssm:/x")
        check_out_here(wanted, tmp_path / "checkout", TOKEN.encode())
        assert server.sent == {OID}
    assert (tmp_path / "checkout/w.bin").read_bytes() == WEIGHTS
    said = (path for path in (tmp_path / "checkout/.git").rglob("*") if path.is_file())
    assert not [path for path in said if TOKEN.encode() in path.read_bytes()]


@pytest.mark.ssh
def test_lfs_files_are_fetched_over_ssh_with_the_repository_s_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host accepts the key, and gives git-lfs an address and a separate token."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    outer = with_lfs(tmp_path / "repos/outer")
    authorization = f"Basic {b64encode(b'lfs:from-ssh').decode()}"
    with (
        https_server(tmp_path / "repos", pem, "lfs:from-ssh") as server,
        ssh_server(tmp_path / "ssh") as ssh,
    ):
        ssh.serve_lfs(f"{server.url}/outer/info/lfs", authorization)
        wanted = Repository(ssh.url(outer), "/x", credential="ssm:/x")
        check_out_here(wanted, tmp_path / "checkout", ssh.key.encode(), ssh.known())
        assert (server.seen, server.sent) == ({authorization}, {OID})
    assert (tmp_path / "checkout/w.bin").read_bytes() == WEIGHTS


@pytest.mark.ssh
def test_lfs_files_of_a_submodule_are_fetched(tmp_path: Path) -> None:
    """git's LFS filter works for submodules as for the repository."""
    inner, outer = with_lfs(tmp_path / "inner"), repository(tmp_path / "outer")
    submodule(outer, f"file://{inner}", inner)
    check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert (tmp_path / "checkout/inner/w.bin").read_bytes() == WEIGHTS


@pytest.mark.ssh
def test_an_lfs_file_that_the_server_lost_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is missing for every machine, so another attempt cannot help."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    with_lfs(tmp_path / "repos/outer", stored=False)
    with https_server(tmp_path / "repos", pem) as server, pytest.raises(Ended) as caught:
        check_out_here(Repository(f"{server.url}/outer", "/x"), tmp_path / "checkout")
    assert caught.value.outcome is Outcome.REFUSED, caught.value.reason


@pytest.mark.usefixtures("no_git_lfs")
def test_a_machine_without_git_lfs_refuses_pointers(tmp_path: Path) -> None:
    """The reason names the file and the remedies."""
    outer = with_lfs(tmp_path / "outer")
    with pytest.raises(Ended) as caught:
        check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert caught.value.outcome is Outcome.REFUSED
    for word in ("w.bin", "git-lfs", "pointers instead", "lfs: false"):
        assert word in caught.value.reason


@pytest.mark.usefixtures("no_git_lfs")
def test_a_machine_without_git_lfs_refuses_pointers_of_a_nested_submodule(tmp_path: Path) -> None:
    """The reason has the file's path from the top repository."""
    inner, middle, outer = (
        with_lfs(tmp_path / "inner"),
        repository(tmp_path / "mid dle"),
        repository(tmp_path / "outer"),
    )
    submodule(middle, f"file://{inner}", inner)
    submodule(outer, f"file://{middle}", middle)
    with pytest.raises(Ended) as caught:
        check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert caught.value.outcome is Outcome.REFUSED
    assert "inner/inner/w.bin" in caught.value.reason


@pytest.mark.parametrize(
    ("files", "lfs"),
    [
        ({".gitattributes": ATTRIBUTES, "w.bin": POINTER}, False),
        # A file with only the attribute, or only a pointer's content, is not in LFS.
        ({".gitattributes": ATTRIBUTES, "w.bin": "a file from before LFS"}, True),
        ({".gitattributes": ATTRIBUTES, "example.txt": POINTER}, True),
        ({".gitattributes": ATTRIBUTES, "w.bin": POINTER + "x" * 1024}, True),
    ],
)
@pytest.mark.usefixtures("no_git_lfs")
def test_machine_without_git_lfs_checks_out_files_outside_lfs(tmp_path: Path, files: dict[str, str], lfs: bool) -> None:
    """Without LFS files, or with `lfs: false`, the checkout is the same as with plain git."""
    outer = repository(tmp_path / "outer", **files)
    check_out_here(Repository(f"file://{outer}", "/x", lfs=lfs), tmp_path / "checkout")
    assert {name: (tmp_path / "checkout" / name).read_text() for name in files} == files


@pytest.mark.usefixtures("no_git_lfs")
def test_lfs_file_with_undecodable_name_is_refused_with_a_text_reason(tmp_path: Path) -> None:
    """A file name may hold any bytes; the reason must still be valid text."""
    outer = with_lfs(tmp_path / "outer")
    name = os.fsdecode(b"caf\xe9 \n.bin")
    (outer / "w.bin").rename(outer / name)
    git(outer, "add", "--all")
    git(outer, "commit", "--quiet", "-m", "renamed")
    with pytest.raises(Ended) as caught:
        check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert caught.value.outcome is Outcome.REFUSED
    caught.value.reason.encode()


@pytest.mark.ssh
def test_lfs_files_that_the_recipe_does_not_want_stay_pointers(tmp_path: Path) -> None:
    """`lfs: false` keeps pointers even if git-lfs is installed."""
    outer = with_lfs(tmp_path / "outer")
    check_out_here(Repository(f"file://{outer}", "/x", lfs=False), tmp_path / "checkout")
    assert (tmp_path / "checkout/w.bin").read_text() == POINTER
