"""The repositories of a recipe: URLs, references, depths and folders."""

import json
from typing import Any

import pytest

from provisioner.core.recipe.recipe import (
    Recipe,
    parse_recipe,
)
from tests.support.recipes import SEED, problem, problems, recipe

BRANCH = {"reference_type": "branch"}


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:your-org/your-repo.git",
        "ssh://git@git.corp:2222/a/b",
        "ssh://h/a",
        "https://h/a",
        "git://h/a",
        "file:///a",
        "ssh://git@git_server/a",
        "git@git_server:a",
        "http://git_server/a",
        "ssh://git@[fd00::1]:22/a",
        "ssh://[fd00::1]/a",
        "git@[fd00::1]:a",
        "https://[fd00::1]:8443/a",
    ],
)
def test_a_repository_is_a_url_of_git_s(url: str) -> None:
    """SSH URLs are accepted in both forms."""
    assert recipe(git_repositories=[{"url": url}]).spec.git_repositories[0].url == url


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c reboot",
        "--upload-pack=reboot",
        "/srv/git/a",
        "ftp://h/a",
        "https://h",
        "https://h/",
        "https://h/..",
        "https://h/a b",
        "file://host/a",
        "https://h/a\nb",
        "",
        "git@-oProxyCommand=reboot:a",
        "ssh://-oProxyCommand=reboot/a",
        "-l@h:a",
        "git@h:-a",
        "host:repo.git",
        "ssh://git:hunter2@h/a",
        "git+ssh://h/a",
        "git+https://h/a",
        "ssh://git@[fd00::1/a",
        "ssh://git@fd00::1/a",
        "ssh://git@[-oProxyCommand=reboot]/a",
    ],
)
def test_a_repository_is_a_url_that_git_cannot_misread(url: str) -> None:
    """Options, helper programs and local paths are refused."""
    assert problem(git_repositories=[{"url": url}]).startswith("git_repositories[0].url: found ")


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@github.com/a/b", "https://hunter2@github.com/a/b", "ssh://git:hunter2@h/a"]
)
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    """Recipes are stored and shown, so passwords are refused; the error does not repeat them."""
    text = problem(git_repositories=[{"url": url}])
    assert "a recipe must not contain credentials" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("url", ["git+ssh://git@github.com/org/repo", "ssh://git@-oProxyCommand=reboot/a"])
def test_a_url_without_a_credential_is_not_refused_for_one(url: str) -> None:
    """The error names the real problem."""
    assert "credential" not in problem(git_repositories=[{"url": url}])


def test_a_url_for_pip_is_refused_with_the_one_for_git() -> None:
    """Such URLs come from a requirements.txt."""
    assert "write ssh://" in problem(git_repositories=[{"url": "git+ssh://git@github.com/org/repo"}])


@pytest.mark.parametrize("reference", ["-f", "--upload-pack=x", "a b", "a..b", "a~1", "x^{}", "a:b", "@{u}", ""])
def test_a_reference_is_a_name_and_no_option(reference: str) -> None:
    """No option or other text reaches git in place of a reference."""
    repository = {"url": "https://h/a", "reference": reference}
    assert "write a branch, a tag or a commit" in problem(git_repositories=[repository])


@pytest.mark.parametrize("reference", ["", " ", None])
def test_empty_reference_of_an_unset_template_variable_is_refused(reference: str | None) -> None:
    """An empty reference would silently select the default branch."""
    text = problem(git_repositories=[{"url": "https://h/a", "reference": reference}])
    assert text.startswith("git_repositories[0].reference: found ")
    assert problems("type: job\nspec:\n  git_repositories:\n  - {url: 'https://h/a', reference: }\n")[-1].startswith(
        "f:4: "
    )


def test_unset_reference_is_left_out_of_what_is_stored() -> None:
    """`show` prints the stored recipe, which can be applied again."""
    first = recipe(git_repositories=[{"url": "https://h/a"}, {"url": "https://h/b", "reference": "main"}])
    assert [set(each) & {"reference"} for each in first.plain()["spec"]["git_repositories"]] == [set(), {"reference"}]
    assert parse_recipe(first.dump(), "f") == first


def test_a_reference_is_of_its_type() -> None:
    """A tag or commit needs a reference, and a commit id is hexadecimal. Both are checked before the launch."""
    for kind in ("tag", "commit"):
        repository = {"url": "https://h/a", "reference_type": kind}
        assert f"reference must name the {kind}" in problem(git_repositories=[repository])
    repository = {"url": "https://h/a", "reference_type": "commit", "reference": "main"}
    assert "'main' is not a commit id" in problem(git_repositories=[repository])
    assert recipe(git_repositories=[repository | {"reference": "0a1B2c"}])


def repository(**fields: Any) -> Any:
    """Return the repository of a recipe with these fields."""
    return recipe(git_repositories=[{"url": "https://h/a", **fields}]).spec.git_repositories[0]


@pytest.mark.parametrize("kind", [{}, {"reference_type": "branch"}, {"reference_type": "commit"}])
@pytest.mark.parametrize("length", [40, 64])
def test_a_whole_commit_id_is_a_commit(kind: dict[str, str], length: int) -> None:
    """git never mistakes a full commit id for a branch."""
    assert repository(reference="aB" * (length // 2), **kind).reference_type == "commit"


@pytest.mark.parametrize(
    ("reference", "right"),
    [
        ("HEAD", "leave reference out"),
        ("@", "leave reference out"),
        ("refs/heads/a/b", "write a/b"),
        ("origin/a/b", "write a/b"),
        ("refs/remotes/origin/a", "write a"),
        ("remotes/origin/a", "write a"),
        ("refs/tags/v1", "write v1, with reference_type: tag"),
        ("refs/pull/7/head", "reference_type: commit"),
    ],
)
@pytest.mark.parametrize("kind", [{}, {"reference_type": "branch"}, {"reference_type": "tag"}])
def test_a_name_that_only_a_clone_knows_is_refused(reference: str, right: str, kind: dict[str, str]) -> None:
    """The name is refused before a machine is bought, with the right name in the error."""
    text = problem(git_repositories=[{"url": "https://h/a", "reference": reference, **kind}])
    assert text.startswith(f"git_repositories[0].reference: found '{reference}'; ")
    assert right in text
    assert "reference_type" in text


@pytest.mark.parametrize("reference", ["abc1234", "1234567", "A" * 39])
def test_a_part_of_a_commit_id_is_refused_unless_its_type_is_said(reference: str) -> None:
    """A branch may have the same name."""
    found = problem(git_repositories=[{"url": "https://h/a", "reference": reference}])
    assert found.startswith("git_repositories[0].reference_type: ")
    for kind in ("branch", "tag", "commit"):
        assert repository(reference=reference, reference_type=kind).reference_type == kind


@pytest.mark.parametrize("reference", ["main", "abc123", "release", "2024.10", "a" * 41, "feature/origin/x", "origin"])
def test_other_names_are_branches(reference: str) -> None:
    """No other type is guessed from a name."""
    assert repository(reference=reference).reference_type is None


def test_a_depth_is_a_number_of_commits_or_full() -> None:
    """The depth is optional."""
    assert (repository().depth, repository(depth=None).depth) == (None, None)
    assert [repository(depth=depth).depth for depth in (1, "20", "full")] == ["1", "20", "full"]
    wrong: list[Any] = [0, "0", -1, "all", "", True, 1.5, [], "1" * 10]
    for depth in wrong:
        assert problem(git_repositories=[{"url": "https://h/a", "depth": depth}]).startswith(
            "git_repositories[0].depth: "
        )


@pytest.mark.parametrize("path", ["~", "~/code", "~me/code", "$HOME/code", "${HOME}/code"])
def test_a_path_that_only_a_shell_expands_is_refused(path: str) -> None:
    """No shell expands the path, so it would be a folder with that literal name."""
    secret = {"attachment_type": "file", "location": path, "name": "ssm:/a"}
    for fields in (
        {"git_repositories": [{"url": "https://h/a", "path": path}]},
        {"config_files": {path: {"content": ""}}},
        {"secrets": [secret]},
        {"working_directory": path},
    ):
        assert "/home/jovyan" in problem(**fields) or "below HOME" in problem(**fields)
    assert repository(path="a~/~b/$c").path == "a~/~b/$c"


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "HEAD"},
        {"reference": "refs/tags/v1"},
        {"reference": "abc1234"},
        {"path": "~/code"},
        {"path": "$A"},
    ],
)
def test_a_stored_repository_that_apply_would_refuse_is_loaded(fields: dict[str, str]) -> None:
    """An earlier version accepted the repository, and the clone may work, so only the machine may refuse it."""
    stored = json.loads(recipe(git_repositories=[{"url": "https://h/a"}]).dump())
    stored["spec"]["git_repositories"][0] |= fields
    (loaded,) = Recipe.load(json.dumps(stored)).spec.git_repositories
    assert fields.items() <= loaded.model_dump().items()
    assert problem(**stored["spec"])


def test_a_stored_repository_of_an_older_version_is_loaded() -> None:
    """The stored repository has no depth, and a type that an older version filled in."""
    stored = json.loads(recipe(git_repositories=[{"url": "https://h/a", "reference": "abc1234"} | BRANCH]).dump())
    for name in ("depth", "lfs"):
        del stored["spec"]["git_repositories"][0][name]
    (loaded,) = Recipe.load(json.dumps(stored)).spec.git_repositories
    assert (loaded.reference_type, loaded.depth, loaded.lfs) == ("branch", None, True)


def test_a_reference_may_look_like_a_number() -> None:
    """Unquoted, `reference: 2024.10` is still a branch name."""
    text = SEED.replace("reference: main", "reference: 2024.10")
    assert parse_recipe(text, "f").spec.git_repositories[0].reference == "2024.10"


def test_several_repositories_go_below_the_working_directory() -> None:
    """Each has a folder by its name or its path; a single repository without a path is the working directory itself."""
    urls = [
        {"url": "https://h/x/one.git"},
        {"url": "git://h/two/", "path": "lib/b"},
        {"url": "file:///c", "path": "/c"},
    ]
    spec = recipe(working_directory="/w", git_repositories=urls).spec
    assert spec.checkouts == ("/w/one", "/w/lib/b", "/c")
    assert recipe(working_directory="/w", git_repositories=urls[:1]).spec.checkouts == ("/w",)
    assert recipe(working_directory="/w", git_repositories=urls[1:2]).spec.checkouts == ("/w/lib/b",)
    over_ssh = [{"url": "git@h:one.git"}, {"url": "ssh://git@h/x/two"}]
    assert recipe(working_directory="/w", git_repositories=over_ssh).spec.checkouts == ("/w/one", "/w/two")


def test_two_repositories_with_one_path_are_refused() -> None:
    """The second repository with the same name is reported with its line."""
    text = SEED.replace("      reference: main\n", "    - url: https://elsewhere.org/your-repo\n")
    (found,) = problems(text)
    assert found.startswith("f:11: spec.git_repositories[1]: /home/jovyan/workspace/your-repo is taken by")


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/", "", "a:b"])
def test_a_repository_stays_in_its_place(path: str) -> None:
    """A path must not leave the working directory through `..`."""
    assert problem(git_repositories=[{"url": "https://h/a", "path": path}]).startswith(
        "git_repositories[0].path: found "
    )
