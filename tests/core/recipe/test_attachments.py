"""Recipe fields for secrets, files and packages."""

from typing import Any

import jsonschema
import pytest

from provisioner.core.recipe.recipe import Recipe
from tests.support.recipes import SCHEMA, problem, recipe

SECRET = {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/team/token"}


@pytest.mark.parametrize(
    "name",
    [
        "ssm:/a",
        "ssm:hf-token",
        "ssm:/team/prod/hf.token_2",
        "secretsmanager:db",
        "secretsmanager:prod/db#password",
        "secretsmanager:arn:aws:secretsmanager:us-east-1:123456789012:secret:db-AbCdEf#user",
    ],
)
def test_a_secret_is_named_where_it_is_kept(name: str) -> None:
    """A secret's name is its path in Parameter Store, or its id in Secrets Manager with an optional key."""
    (secret,) = recipe(secrets=[SECRET | {"name": name}]).spec.secrets
    assert secret.name == name


@pytest.mark.parametrize(
    "name", ["hunter2", "ssm:", "ssm:a/b", "ssm:/a//b", "ssm:/a b", "secretsmanager:", "secretsmanager:a#", "vault:/a"]
)
def test_invalid_secret_name_is_not_repeated_in_the_error(name: str) -> None:
    """A user may have written the secret itself into the field, so the error must not repeat it."""
    for text in (problem(secrets=[SECRET | {"name": name}]), problem(git={"credential": name})):
        assert "found a value; write ssm:/path" in text
        assert "hunter2" not in text


def test_a_secret_is_a_variable_or_a_file() -> None:
    """The location of a variable is a name, and that of a file is a path; a relative path is below HOME."""
    spec = recipe(secrets=[SECRET, SECRET | {"attachment_type": "file", "location": ".ssh//id"}]).spec
    assert [each.location for each in spec.secrets] == ["TOKEN", ".ssh/id"]
    for kind, location in (
        ("environment_variable", "1A"),
        ("environment_variable", ".ssh/id"),
        ("file", "../x"),
        ("file", "~/x"),
        ("file", "/proc/x"),
        ("file", "."),
        ("file", "folder/"),
        ("file", ""),
    ):
        found = problem(secrets=[SECRET | {"attachment_type": kind, "location": location}])
        assert found.startswith("secrets[0].location: found a value; ")
    assert problem(secrets=[{"attachment_type": "file", "location": "a"}]) == "secrets[0].name: missing"
    assert "found 'env'; write 'environment_variable'" in problem(secrets=[SECRET | {"attachment_type": "env"}])


@pytest.mark.parametrize(
    ("group", "inner"),
    [("secrets", [SECRET | {"value": "x"}]), ("registry", {"password": "x"}), ("git", {"token": "x"})],
)
def test_a_secret_s_value_has_no_field(group: str, inner: Any) -> None:
    """The error for such a field explains how secrets are named."""
    text = problem(**{group: inner})
    assert text.endswith("a recipe must not contain a secret, only its name: ssm:/path or secretsmanager:id#key")


def test_type_is_the_old_name_of_attachment_type() -> None:
    """Recipes from before 2026.02 are accepted; a recipe with both names is not."""
    old = {"type": "file", "location": "a", "name": "ssm:/a"}
    assert recipe(secrets=[old]).spec.secrets[0].attachment_type == "file"
    assert problem(secrets=[SECRET | {"type": "file"}]).endswith("leave type out")


def test_two_attachments_with_one_location_are_refused() -> None:
    """The two may be a secret and a variable, a secret and a file, or two secrets."""
    assert problem(secrets=[SECRET], environment_variables={"TOKEN": "x"}) == (
        "secrets[0].location: TOKEN is taken by environment_variables.TOKEN; leave one of them out"
    )
    file = {"attachment_type": "file", "location": "/home/jovyan/.netrc", "name": "ssm:/a"}
    text = problem(secrets=[file], config_files={".netrc": {"content": "x"}})
    assert "taken by config_files..netrc" in text
    assert "secrets[1].location: .netrc is taken by secrets[0]" in problem(
        secrets=[file, file | {"location": ".netrc"}]
    )


def test_a_config_file_is_below_home() -> None:
    """The path is relative and stays below HOME; errors never show the content."""
    (item,) = recipe(config_files={"a//b": {"content": "hunter2", "mode": "600"}}).spec.config_files.items()
    assert (item[0], item[1].content, item[1].mode) == ("a/b", "hunter2", "0600")
    for path in ("/a", "../a", "~/a", ".", "", "a/"):
        assert problem(config_files={path: {"content": "x"}}).startswith(f"config_files[{path!r}]: found ")
    assert "found a value; " in problem(config_files={"a": {"content": "hunter2\0"}})
    for mode in ("999", "4755", "rw-r--r--"):
        assert f"found '{mode}'; write a mode" in problem(config_files={"a": {"content": "x", "mode": mode}})


def test_file_at_the_path_of_a_folder_is_refused() -> None:
    """A file's path must not be a folder of another file, a repository or the working directory.

    Two spellings of one path are refused.
    """
    file = {"content": "x"}
    secret = {"attachment_type": "file", "location": "/home/jovyan/a/b", "name": "ssm:/a"}
    for spec in (
        {"config_files": {"a": file, "a/b": file}},
        {"config_files": {"a": file}, "secrets": [secret]},
        {"config_files": {"workspace": file}},
        {"config_files": {"a": file}, "git_repositories": [{"url": "https://h/r", "path": "/home/jovyan/a/r"}]},
        {"secrets": [secret], "working_directory": "/home/jovyan/a/b/c"},
    ):
        assert "cannot be a file: " in problem(**spec)
    assert "'a' and './a' are one file" in problem(config_files={"a": file, "./a": file})
    assert recipe(config_files={"a": file, "ab": file, "workspace/a": file})


def test_packages_are_written_as_saturn_writes_them() -> None:
    """Packages may be text, a list, or either under `install`; a requirements.txt is kept."""
    for pip in (
        "numpy torch==2.1",
        ["numpy", "torch==2.1"],
        {"install": "numpy torch==2.1"},
        {"install": ["numpy", "torch==2.1"]},
    ):
        document = {"pip": pip, "apt": "ffmpeg"}
        packages = recipe(extra_packages=document).spec.extra_packages
        assert (packages.pip.install, packages.apt.install) == (("numpy", "torch==2.1"), ("ffmpeg",))
        jsonschema.validate(document, {"$defs": SCHEMA["$defs"], "$ref": "#/$defs/Packages"})
    text = "--no-binary :all:\nnumpy\n"
    assert recipe(extra_packages={"pip": {"requirements_txt": text}}).spec.extra_packages.pip.requirements_txt == text
    assert recipe(extra_packages={"pip": None, "apt": {"install": None}}).spec.extra_packages.apt.install == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'torch>=2,<3' numpy", ("torch>=2,<3", "numpy")),
        ("\"a; python_version < '3.9'\"", ("a; python_version < '3.9'",)),
        ("'a;python_version<\"3.9\" and (os_name == \"nt\" or \"win\" not in sys_platform)' b[c,d]", (
            'a;python_version<"3.9" and (os_name == "nt" or "win" not in sys_platform)', "b[c,d]",
        )),
        (["numpy >= 1.2, < 2", "'b>1'"], ("numpy >= 1.2, < 2", "b>1")),
        (["a @ https://h/a.whl ; extra == 'x'"], ("a @ https://h/a.whl ; extra == 'x'",)),
        ("a\n  b\n", ("a", "b")),
        (" a; python_version < '3' ", ("a; python_version < '3'",)),
    ],
)  # fmt: skip
def test_quotes_hold_a_requirement_and_its_marker_together(text: Any, words: tuple[str, ...]) -> None:
    """Quotes work as in the shell command that Saturn builds."""
    first = recipe(extra_packages={"pip": text})
    assert first.spec.extra_packages.pip.install == words
    assert Recipe.load(first.dump()) == first


@pytest.mark.parametrize("text", ["'a", "a; ", "a '--pre'", "'a;reboot'"])
def test_text_that_is_no_requirements_is_refused(text: str) -> None:
    """An option in quotes must not reach pip."""
    assert "write a " in problem(extra_packages={"pip": text}).partition("; ")[2]


@pytest.mark.parametrize(
    "word",
    [
        "numpy",
        "torch[opt-einsum,cuda]>=2.1,<3",
        "a~=1.0",
        "a===1",
        "zope.interface",
        "git+https://github.com/a/b.git@v1#subdirectory=c",
        "pkg@https://h/a-1.0-py3-none-any.whl",
    ],
)
def test_pip_requirement_is_accepted(word: str) -> None:
    """Requirements and https URLs are accepted."""
    assert recipe(extra_packages={"pip": word}).spec.extra_packages.pip.install == (word,)


@pytest.mark.parametrize(
    "word",
    [
        "-r",
        "--pre",
        "a;reboot",
        "$(reboot)",
        "a b",
        "a`b`",
        "../a",
        "file:///a",
        "http://h/a",
        "a|b",
        "a==",
        "-e.",
    ],
)
def test_pip_option_shell_or_path_is_refused(word: str) -> None:
    """Options, shell syntax and paths are refused."""
    assert problem(extra_packages={"pip": [word]}).startswith("extra_packages.pip.install[0]: found ")


@pytest.mark.parametrize(
    "word", ["-y", "a b", "gcc-", "A", "a", "a;reboot", "./a.deb", "a/stable", "a=", "a=1;b", "https://h/a"]
)
def test_apt_option_or_file_is_refused(word: str) -> None:
    """Options and files are refused, and a trailing hyphen, which would remove the package."""
    assert problem(extra_packages={"apt": [word]}).startswith("extra_packages.apt.install[0]: found ")


def test_apt_package_is_accepted() -> None:
    """Debian's package names are accepted, with or without a version."""
    words = ("ffmpeg", "g++", "libstdc++6", "cuda-toolkit-12-4=12.4.1-1", "git=1:2.43.0-1ubuntu7~1")
    assert recipe(extra_packages={"apt": list(words)}).spec.extra_packages.apt.install == words


def test_no_credentials_among_packages() -> None:
    """Recipes are stored and shown, so credentials are refused; the error does not repeat them."""
    for pip in ({"install": ["git+https://me:hunter2@h/a"]}, {"requirements_txt": "-i https://hunter2@h/simple\na"}):
        text = problem(extra_packages={"pip": pip})
        assert "a recipe must not contain credentials" in text
        assert "hunter2" not in text


def test_requirements_may_name_a_variable() -> None:
    """pip substitutes the variable, whose value may be a secret."""
    text = "-i https://me:${TOKEN}@h/simple\na @ git+https://${TOKEN}@h/a\n"
    assert recipe(extra_packages={"pip": {"requirements_txt": text}}).spec.extra_packages.pip.requirements_txt == text
    for wrong in ("https://hunter2${TOKEN}@h/a", "https://${TOKEN}:hunter2@h/a", "https://$TOKEN@h/a", "a\0b"):
        assert "requirements_txt: found " in problem(extra_packages={"pip": {"requirements_txt": wrong}})
