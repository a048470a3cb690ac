"""Private repositories: a credential is sent to its own host only, and is removed before the job starts."""

import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.agent.fetch.git_credentials import access
from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.messages import Repository, Result
from provisioner.core.protocol.words import Outcome, Step
from tests.agent.conftest import Site, sited
from tests.agent.private_git import (
    HttpsServer,
    SshServer,
    certificate,
    check_out_here,
    https_server,
    ssh_server,
)
from tests.support.repositories import FOLDER, TOKEN, git, repository, submodule

BASIC = f"Basic {b64encode(f'x-access-token:{TOKEN}'.encode()).decode()}"


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(tmp_path)


@pytest.fixture
def trusting(tmp_path: Path, aws_url: str, pem: Path) -> Iterator[Site]:
    """Yield a site whose machines trust this computer's certificate."""
    with sited(tmp_path, aws_url, GIT_SSL_CAINFO=str(pem)) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path, pem: Path) -> Iterator[HttpsServer]:
    repository(tmp_path / "repos/outer")
    with https_server(tmp_path / "repos", pem, f"x-access-token:{TOKEN}") as made:
        yield made


@pytest.fixture
def other(tmp_path: Path, pem: Path) -> Iterator[HttpsServer]:
    """Yield a server on another host name, with other repositories."""
    repository(tmp_path / "others/inner")
    with https_server(tmp_path / "others", pem, host="localhost") as made:
        yield made


READ = "cat file; [ ! -f inner/file ] || cat inner/file"


def clone(site: Site, url: str, value: str, command: str = READ, **changes: object) -> str:
    """Run a machine that clones `url` with this credential; return the machine's id."""
    repositories = (Repository(url, FOLDER, credential=site.parameter("credential", value)),)
    return site.run(site.order(command, repositories=repositories, **changes))


def looking_for(value: str) -> str:
    """Return a command that reads the file, then searches the whole machine for the value.

    The pattern is written so that the command does not match itself.
    """
    pattern = f"[{value[0]}]{value[1:]}"
    return f'cat file; cd "$HOME/../.."; grep -rl "{pattern}" . || ls run/provision-credentials/* || echo nothing'


def refused(site: Site, machine: str) -> Result:
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.REFUSED, Step.CLONE, None), result.reason
    return result


@pytest.mark.parametrize("value", [TOKEN, f"x-access-token:{TOKEN}\n"])
@pytest.mark.ssh
def test_token_clones_its_repository_and_leaves_no_trace(trusting: Site, server: HttpsServer, value: str) -> None:
    """Before the job starts, the token is gone from the checkout, git's configuration, the machine and the log."""
    machine = clone(trusting, f"{server.url}/outer", value, looking_for(TOKEN))
    words = trusting.log(machine).decode()
    assert (words[:5], words[-8:]) == ("outer", "nothing\n"), trusting.result(machine).reason
    assert server.seen == {BASIC}
    said = trusting.everything_said(machine)
    assert TOKEN.encode() not in said
    assert BASIC.encode() not in said


@pytest.mark.ssh
def test_a_token_that_does_not_open_it_is_refused(trusting: Site, server: HttpsServer) -> None:
    """A wrong token stays wrong, so there is no retry."""
    reason = refused(trusting, clone(trusting, f"{server.url}/outer", "wrong-wrong")).reason
    assert "uthentication failed" in reason
    assert "wrong-wrong" not in reason


@pytest.mark.ssh
def test_another_host_never_sees_the_token(
    trusting: Site, server: HttpsServer, other: HttpsServer, tmp_path: Path
) -> None:
    """The token goes neither to a submodule's host nor to a redirect's target, even if these ask for a password."""
    submodule(tmp_path / "repos/outer", f"{other.url}/inner", tmp_path / "others/inner")
    credential = trusting.parameter("credential", TOKEN)
    order = trusting.order(READ, repositories=(Repository(f"{server.url}/outer", FOLDER, credential=credential),))
    machine = trusting.run(order)
    assert trusting.log(machine) == b"outerinner", trusting.result(machine).reason
    other.login = "someone:else"
    refused(trusting, trusting.run(order))
    server.moved_to = other.url
    refused(trusting, trusting.run(order))
    assert other.seen == set()


@pytest.mark.ssh
def test_submodule_on_the_same_host_is_cloned_with_the_same_credential(
    trusting: Site, server: HttpsServer, tmp_path: Path
) -> None:
    """The submodule is fetched with the same credential, at a commit that is on no branch's tip."""
    inner = repository(tmp_path / "repos/inner")
    submodule(tmp_path / "repos/outer", "../inner", inner)
    (inner / "file").write_text("newer")
    git(inner, "commit", "--quiet", "-a", "-m", "newer")
    machine = clone(trusting, f"{server.url}/outer", TOKEN)
    assert trusting.log(machine) == b"outerinner", trusting.result(machine).reason


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "ssh") as made:
        yield made


@pytest.mark.ssh
def test_ssh_key_clones_its_repository_and_leaves_no_trace(site: Site, ssh: SshServer, tmp_path: Path) -> None:
    """The host's key is pinned. Afterwards neither key nor ssh-agent is left."""
    outer = repository(tmp_path / "outer")
    middle = ssh.key.splitlines()[2]
    value = ssh.key.strip().replace("\n", "\r\n")
    machine = clone(site, ssh.url(outer), value, looking_for(middle), known_hosts=ssh.known())
    words = site.log(machine).decode()
    assert (words[:5], words[-8:]) == ("outer", "nothing\n"), site.result(machine).reason
    assert middle.encode() not in site.everything_said(machine)


@pytest.mark.parametrize("pinned", ["", "[127.0.0.1]:{port} ssh-ed25519 {another}\n"])
@pytest.mark.ssh
def test_a_host_that_is_not_pinned_is_refused(site: Site, ssh: SshServer, tmp_path: Path, pinned: str) -> None:
    """For an unknown or a different host key, the reason names the field that pins hosts."""
    another = (tmp_path / "ssh/stranger.pub").read_text().split()[1]
    known = pinned.format(port=ssh.port, another=another)
    machine = clone(site, ssh.url(repository(tmp_path / "outer")), ssh.key, known_hosts=known)
    assert "git.known_hosts" in refused(site, machine).reason


@pytest.mark.ssh
def test_a_key_that_is_not_let_in_is_refused(site: Site, ssh: SshServer, tmp_path: Path) -> None:
    """The reason has ssh's message."""
    stranger = (tmp_path / "ssh/stranger").read_text()
    machine = clone(site, ssh.url(repository(tmp_path / "outer")), stranger, known_hosts=ssh.known())
    assert "Permission denied" in refused(site, machine).reason


@pytest.mark.ssh
def test_another_host_never_sees_the_key(site: Site, ssh: SshServer, tmp_path: Path) -> None:
    """A submodule on another host gets no key, though that host is known and would accept it."""
    inner, outer = repository(tmp_path / "inner"), repository(tmp_path / "outer")
    submodule(outer, ssh.url(inner, "localhost"), inner)
    known = ssh.known() + ssh.known("localhost")
    machine = clone(site, ssh.url(outer), ssh.key, known_hosts=known)
    assert "localhost needs an SSH key" in refused(site, machine).reason
    git(outer, "config", "--file", ".gitmodules", "submodule.inner.url", ssh.url(inner))
    git(outer, "commit", "--quiet", "-m", "own host", ".gitmodules")
    again = Repository(ssh.url(outer), FOLDER, credential=f"ssm:/{site.bucket}/credential")
    machine = site.run(site.order("cat file inner/file", repositories=(again,), known_hosts=known))
    assert site.log(machine) == b"outerinner", site.result(machine).reason


@pytest.mark.ssh
def test_a_submodule_over_another_transport_is_refused_with_the_credential_it_needs(
    tmp_path: Path, server: HttpsServer, ssh: SshServer, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository has one credential, for one host and transport. The reason names both in under 320 characters."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    outer, inner = tmp_path / "repos/outer", repository(tmp_path / "repos/inner")
    token, key = TOKEN.encode(), ssh.key.encode()
    over_https, over_ssh = f"{server.url}/outer", ssh.url(outer)
    for url, credential, inside, kinds in (
        (over_https, token, ssh.url(inner), ("127.0.0.1 needs an SSH key", "ssm:/x is a token for https://127.0.0.1")),
        (
            over_ssh,
            key,
            f"{server.url}/inner",
            (f"{server.url.removeprefix('https://')} needs a token", "ssm:/x is an SSH key for"),
        ),
        (over_ssh, key, f"file://{inner}", ("a file on the machine", ".gitmodules")),
    ):
        submodule(outer, inside, inner)
        wanted, known = Repository(url, "/x", credential="ssm:/x"), ssh.known()
        with pytest.raises(Ended) as caught:
            check_out_here(wanted, tmp_path / "checkout", credential, known)
        assert caught.value.outcome is Outcome.REFUSED
        assert len(caught.value.reason) < 320, caught.value.reason
        for words in kinds:
            assert words in caught.value.reason
        shutil.rmtree(tmp_path / "checkout")


@pytest.mark.ssh
def test_a_private_submodule_of_a_public_repository_is_refused_with_the_credential_it_needs(
    tmp_path: Path, server: HttpsServer, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason omits the password in the submodule's URL."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    outer = repository(tmp_path / "public")
    submodule(outer, server.url.replace("//", "//me:hunter2@") + "/outer", tmp_path / "repos/outer")
    with pytest.raises(Ended) as caught:
        check_out_here(Repository(f"file://{outer}", "/x"), tmp_path / "checkout")
    assert caught.value.outcome is Outcome.REFUSED
    assert "needs a token, and git.credential names none" in caught.value.reason
    assert "hunter2" not in caught.value.reason


@pytest.mark.ssh
def test_a_submodule_that_its_own_credential_does_not_open_is_refused_in_git_s_words(
    tmp_path: Path, server: HttpsServer, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other credential would help, so git's message is kept."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    outer = tmp_path / "repos/outer"
    submodule(outer, "../missing", outer)
    with pytest.raises(Ended) as caught:
        check_out_here(Repository(f"{server.url}/outer", "/x", credential="ssm:/x"), tmp_path / "made", TOKEN.encode())
    assert caught.value.outcome is Outcome.REFUSED
    assert f"'{server.url}/missing/' not found" in caught.value.reason


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nx"


@pytest.mark.parametrize(
    ("url", "credential"),
    [
        ("git@host:x", b"token"),
        ("http://host/x", b"token"),
        ("git://host/x", b"token"),
        ("https://ho*st/x", b"token"),
        ("https://[host/x", b"token"),
        ("ssh://git@*/x", KEY),
        ("git@[fd00::1", KEY),
        ("file:///x", KEY),
    ],
)
def test_credential_for_another_transport_is_refused(tmp_path: Path, url: str, credential: bytes) -> None:
    """A token is sent over https only, a key over ssh only, and the host must not be a pattern."""
    with pytest.raises(Ended) as caught, access(Repository(url, "/x", credential="ssm:/x"), credential, "", tmp_path):
        pass
    assert (caught.value.outcome, caught.value.step) == (Outcome.REFUSED, Step.CLONE)
    assert "ssm:/x" in caught.value.reason


def test_a_key_is_not_shown_to_an_https_host(tmp_path: Path) -> None:
    """With an SSH key as credential, a public https repository can still be cloned."""
    with access(Repository("https://host/x", "/x", credential="ssm:/x"), KEY, "", tmp_path / "git") as granted:
        assert not (tmp_path / "git").exists()
        assert "ssh" not in granted.environment["GIT_ALLOW_PROTOCOL"]


@pytest.mark.parametrize(
    "url",
    [
        "git@host:x/y.git",
        "ssh://git@host:22/x",
        "host:x",
        "ssh://git@git_server/x",
        "git@git_server:x",
        "ssh://git@[fd00::1]:22/x",
        "ssh://[fd00::1]/x",
        "git@[fd00::1]:x",
    ],
)
def test_every_form_of_an_ssh_address_is_known(tmp_path: Path, url: str) -> None:
    """The SSH configuration names the address's host. The credentials' folder is private and is removed afterwards."""
    folder = tmp_path / "git"
    with access(Repository(url, "/x", credential="ssm:/x"), KEY, "", folder) as granted:
        # git passes an IPv6 address to ssh without brackets.
        assert (folder / "config").read_text().partition("\n")[0] in ("Host host", "Host git_server", "Host fd00::1")
        assert {oct(path.stat().st_mode) for path in folder.iterdir()} == {"0o100600"}
        assert folder.stat().st_mode & 0o777 == 0o700
        assert KEY.decode() not in str(granted)
    assert not folder.exists()
