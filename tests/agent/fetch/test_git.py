"""Repositories, cloned by the agent on a light machine from a real git server."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.agent.outcomes import Ended, unresolved_host
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Outcome, Step
from tests.agent.conftest import Site
from tests.agent.private_git import check_out_here
from tests.polling import until
from tests.support.repositories import FOLDER, git


class Upstream:
    """A repository with three commits: one tagged, one on no branch's tip, one on a branch."""

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
    """Yield the URL of a git server on this computer."""
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
    """Checks a branch, a tag, a full and a shortened commit id, and the default branch, over both transports."""
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
    """Start script and command find the repository's files in the working directory."""
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
def test_missing_reference_or_repository_is_refused(
    site: Site, upstream: Upstream, url: str, reference: str, kind: str
) -> None:
    """A wrong reference or address stays wrong: there is no second attempt, and the reason has git's message."""
    repository = Repository(url.format(upstream.folder), FOLDER, reference, kind)
    result = site.result(site.run(site.order(":", repositories=(repository,))))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.REFUSED, Step.CLONE, None), result.reason


def test_a_server_that_does_not_answer_loses_the_run(site: Site) -> None:
    """The run is lost, not refused, because another machine may have a working network."""
    repository = Repository("git://127.0.0.1:1/x", FOLDER)
    result = site.result(site.run(site.order(":", repositories=(repository,))))
    assert (result.outcome, result.step) == (Outcome.LOST, Step.CLONE)
    assert "onnect" in result.reason


def checked_out(wanted: Repository, folder: Path) -> Path:
    """Check the repository out as the agent does, in this process; return the folder."""
    check_out_here(wanted, folder)
    return folder


def test_the_default_branch_is_checked_out_by_name_and_can_be_pulled(
    upstream: Upstream, daemon: str, tmp_path: Path
) -> None:
    """The branch has its upstream, as after `git clone`."""
    git(upstream.folder, "checkout", "--quiet", "-b", "trunk")
    for number, url in enumerate((f"file://{upstream.folder}", daemon)):
        made = checked_out(Repository(url, "/x"), tmp_path / str(number))
        assert git(made, "branch", "--show-current") == "trunk"
        assert git(made, "rev-parse", "--abbrev-ref", "@{upstream}") == "origin/trunk"
        git(made, "pull", "--quiet", "--ff-only")


def test_a_server_whose_head_is_detached_is_checked_out_detached(upstream: Upstream, tmp_path: Path) -> None:
    """A detached HEAD names no branch."""
    git(upstream.folder, "checkout", "--quiet", "--detach", upstream.commits["first"])
    made = checked_out(Repository(f"file://{upstream.folder}", "/x"), tmp_path / "made")
    assert (git(made, "branch", "--show-current"), git(made, "rev-parse", "HEAD")) == ("", upstream.commits["first"])


@pytest.mark.parametrize(
    ("depth", "reference", "kind", "commits", "described", "branches"),
    [
        ("", "", "branch", 2, True, {"origin/main"}),
        ("", "feature/x", "branch", 3, True, {"origin/feature/x"}),
        ("", "v2", "tag", 3, True, set()),
        ("", "third", "commit", 3, True, set()),
        ("1", "", "branch", 1, False, {"origin/main"}),
        ("1", "feature/x", "branch", 1, False, {"origin/feature/x"}),
        ("1", "second", "commit", 1, False, set()),
        ("2", "feature/x", "branch", 2, False, {"origin/feature/x"}),
        ("2", "third", "commit", 2, False, set()),
        ("9", "feature/x", "branch", 3, True, {"origin/feature/x"}),
        ("full", "", "branch", 2, True, {"origin/main", "origin/feature/x"}),
        ("full", "v1", "tag", 1, True, {"origin/main", "origin/feature/x"}),
        ("full", "second", "commit", 2, True, {"origin/main", "origin/feature/x"}),
    ],
)
@pytest.mark.parametrize("filters", [True, False])
def test_depth_limits_the_fetched_history(
    upstream: Upstream,
    tmp_path: Path,
    depth: str,
    reference: str,
    kind: str,
    commits: int,
    described: bool,
    branches: set[str],
    filters: bool,
) -> None:
    """By default all of the reference's commits and tags are fetched: packages take versions from `git describe`."""
    if reference == "v2":
        git(upstream.folder, "tag", "-a", "v2", "-m", "v2", "feature/x")
    git(upstream.folder, "config", "uploadpack.allowFilter", str(filters))
    wanted = Repository(
        f"file://{upstream.folder}", "/x", upstream.commits.get(reference, reference), kind, depth=depth
    )
    made = checked_out(wanted, tmp_path / "made")
    assert len(git(made, "log", "--format=%h").splitlines()) == commits
    assert (made / "file").read_text() == git(upstream.folder, "show", f"{git(made, 'rev-parse', 'HEAD')}:file")
    assert set(git(made, "branch", "--remotes", "--format=%(refname:short)").splitlines()) == branches
    assert git(made, "status", "--porcelain") == ""
    assert git(made, "describe", "--tags", "--always").startswith("v") == described


def test_the_default_history_comes_without_older_files(upstream: Upstream, tmp_path: Path) -> None:
    """A repository's history may hold gigabytes of files that no job reads."""
    git(upstream.folder, "config", "uploadpack.allowFilter", "true")
    made = checked_out(Repository(f"file://{upstream.folder}", "/x", "feature/x"), tmp_path / "made")
    git(upstream.folder, "config", "uploadpack.allowFilter", "false")
    objects = git(made, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").split()
    assert sorted(objects) == ["blob", "commit", "commit", "commit", "tag", "tree"]


def test_a_commit_by_a_part_of_its_id_has_its_history(upstream: Upstream, daemon: str, tmp_path: Path) -> None:
    """No server serves a shortened commit id, so the whole repository is fetched."""
    made = checked_out(Repository(daemon, "/x", upstream.commits["third"][:9], "commit"), tmp_path / "made")
    assert git(made, "describe", "--tags").startswith("v1-2-g")


def test_submodules_have_the_depth_of_their_repository(upstream: Upstream, tmp_path: Path) -> None:
    """A submodule has one commit if the recipe gives no depth."""
    outer = tmp_path / "outer"
    Upstream(outer)
    (outer / ".gitmodules").write_text(f'[submodule "inner"]\n\tpath = inner\n\turl = file://{upstream.folder}\n')
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{upstream.commits['second']},inner")
    git(outer, "add", ".gitmodules")
    git(outer, "commit", "--quiet", "-m", "submodule")
    for depth, commits in (("", 1), ("1", 1), ("2", 2), ("full", 2)):
        made = checked_out(Repository(f"file://{outer}", "/x", depth=depth), tmp_path / f"made-{depth}")
        assert len(git(made / "inner", "log", "--format=%h").splitlines()) == commits


def refusal(wanted: Repository, folder: Path) -> str:
    """Return the reason why the repository is refused."""
    with pytest.raises(Ended) as caught:
        check_out_here(wanted, folder)
    assert (caught.value.outcome, caught.value.step) == (Outcome.REFUSED, Step.CLONE), caught.value.reason
    return caught.value.reason


def test_a_branch_that_is_a_tag_is_refused_by_its_kind(upstream: Upstream, daemon: str, tmp_path: Path) -> None:
    """The reason names the correct reference_type. If there is no such name, the reason names the default branch."""
    for url in (f"file://{upstream.folder}", daemon):
        assert "reference_type: tag" in refusal(Repository(url, "/x", "v1"), tmp_path / "made")
        assert "reference_type: branch" in refusal(Repository(url, "/x", "feature/x", "tag"), tmp_path / "made")
        neither = refusal(Repository(url, "/x", "v"), tmp_path / "made")
        assert "default branch is main" in neither
        assert "reference_type: tag" not in neither


@pytest.mark.parametrize("commit", ["0" * 40, "0123456"])
def test_a_commit_that_is_not_there_is_refused(upstream: Upstream, tmp_path: Path, commit: str) -> None:
    """A full and a shortened commit id are refused."""
    wanted = Repository(f"file://{upstream.folder}", "/x", commit, "commit")
    assert commit in refusal(wanted, tmp_path / "made")


def test_an_empty_repository_is_refused(tmp_path: Path) -> None:
    """The repository is empty for every machine, so another attempt cannot help."""
    git(tmp_path, "init", "--quiet", "empty")
    assert "no default branch" in refusal(Repository(f"file://{tmp_path}/empty", "/x"), tmp_path / "made")


@pytest.mark.parametrize(
    ("words", "host"),
    [
        ("fatal: unable to access 'https://h.invalid/x/': Could not resolve host: h.invalid", "h.invalid"),
        ("ssh: Could not resolve hostname h.invalid: Name or service not known; fatal: Could not read", "h.invalid"),
        ("fatal: unable to look up h.invalid (port 9418) (Name or service not known)", "h.invalid"),
        ('Get "https://H.invalid/v2/": dial tcp: lookup H.invalid on 10.0.0.2:53: no such host', "h.invalid"),
        ('Get "https://h.invalid/v2/": dial tcp: lookup h.invalid: Temporary failure in name resolution', "h.invalid"),
        ("fatal: unable to connect to h.invalid: errno=Connection refused", ""),
        ("manifest for lookup h.invalid not found", ""),
    ],
)
def test_a_name_that_does_not_resolve_is_found_in_a_tool_s_words(words: str, host: str) -> None:
    """The messages are those of libcurl, ssh, git and Docker."""
    assert unresolved_host(words) == host


@pytest.mark.parametrize("url", ["https://nowhere.invalid/x/y", "git://nowhere.invalid/x"])
def test_a_git_host_that_does_not_resolve_is_named_in_the_result(site: Site, url: str) -> None:
    """The control plane compares this host with the unresolved host in the next machine's result."""
    result = site.result(site.run(site.order(":", repositories=(Repository(url, FOLDER),))))
    assert (result.outcome, result.step, result.unresolved_host) == (Outcome.LOST, Step.CLONE, "nowhere.invalid")


def test_clone_says_nothing_of_a_remote_that_does_not_exist_yet(upstream: Upstream, tmp_path: Path) -> None:
    """git's message "No such remote" would look like an error in the log of every run."""
    wanted = Repository(f"file://{upstream.folder}", str(tmp_path / "new"), "main", "branch")
    for _ in range(2):
        assert "No such remote" not in check_out_here(wanted, tmp_path / "new")
