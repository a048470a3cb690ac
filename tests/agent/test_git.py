"""Repositories, cloned by the agent on a light machine from a real git server."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.core.work import Outcome, Repository, Step
from tests.agent.conftest import Site
from tests.polling import until

FOLDER = "/home/jovyan/workspace"


def git(folder: Path, *args: str) -> str:
    author = {f"GIT_{who}_{what}": "x@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *args], env={**os.environ, **author}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class Upstream:
    """A repository with three commits: the first tagged, the second on no branch's end, the third on a branch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        git(folder, "init", "--quiet", "--initial-branch=main")
        self.commits = {}
        for name in ("first", "second", "third"):
            (folder / "file").write_text(name)
            git(folder, "add", "file")
            git(folder, "commit", "--quiet", "-m", name)
            self.commits[name] = git(folder, "rev-parse", "HEAD")
            if name == "first":
                git(folder, "tag", "-a", "v1", "-m", "v1")
        git(folder, "branch", "feature/x")
        git(folder, "reset", "--quiet", "--hard", self.commits["second"])


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "it's a repo")


@pytest.fixture
def daemon(tmp_path: Path, upstream: Upstream) -> Iterator[str]:
    """The URL of a git server on this computer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={tmp_path}"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listening, "the git daemon")
        yield f"git://127.0.0.1:{port}/{upstream.folder.name}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def test_every_kind_of_reference_is_checked_out(site: Site, upstream: Upstream, daemon: str) -> None:
    """Branch, tag, whole and shortened commit, and the default branch, over both transports."""
    second = upstream.commits["second"]
    wanted = [
        (f"file://{upstream.folder}", "feature/x", "branch", "third"),
        (daemon, "feature/x", "branch", "third"),
        (daemon, "v1", "tag", "first"),
        (daemon, upstream.commits["first"], "commit", "first"),
        (daemon, second[:10], "commit", "second"),
        (daemon, "", "branch", "second"),
    ]
    repositories = tuple(
        Repository(url, f"{FOLDER}/{number}", reference, kind)
        for number, (url, reference, kind, _) in enumerate(wanted)
    )
    machine = site.run(site.order("cat */file", repositories=repositories))
    assert site.result(machine).outcome is Outcome.SUCCEEDED, site.result(machine).reason
    assert site.log(machine).decode() == "".join(content for *_, content in wanted)


def test_a_repository_can_be_the_working_directory(site: Site, upstream: Upstream) -> None:
    """Start script and command find its files where they stand."""
    repository = Repository(f"file://{upstream.folder}", FOLDER, "feature/x")
    machine = site.run(site.order("cat file made", start_script="cp file made", repositories=(repository,)))
    assert site.log(machine) == b"thirdthird", site.result(machine).reason


@pytest.mark.parametrize(
    ("url", "reference", "kind"),
    [
        ("file://{}", "no-such-branch", "branch"),
        ("file://{}", "v9", "tag"),
        ("file://{}", "0" * 40, "commit"),
        ("file://{}", "--upload-pack=touch x", "commit"),
        ("file://{}", "--upload-pack=touch x", "branch"),
        ("file://{}/missing", "", "branch"),
        ("ext::sh -c 'touch /tmp/x'", "", "branch"),
        ("--upload-pack=touch x", "", "branch"),
    ],
)
def test_what_is_not_there_is_refused_verbatim(
    site: Site, upstream: Upstream, url: str, reference: str, kind: str
) -> None:
    """A wrong reference or address stays wrong: no second attempt, and git's own words."""
    repository = Repository(url.format(upstream.folder), FOLDER, reference, kind)
    result = site.result(site.run(site.order(":", repositories=(repository,))))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.REFUSED, Step.CLONE, None), result.reason


def test_a_server_that_does_not_answer_loses_the_run(site: Site) -> None:
    """The network may be better on another machine."""
    repository = Repository("git://127.0.0.1:1/x", FOLDER)
    result = site.result(site.run(site.order(":", repositories=(repository,))))
    assert (result.outcome, result.step) == (Outcome.LOST, Step.CLONE)
    assert "onnect" in result.reason
