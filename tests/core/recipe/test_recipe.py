import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.offers import Market
from provisioner.core.errors import Invalid
from provisioner.core.recipe.attachments import Packages
from provisioner.core.recipe.jobs import Catchup, Concurrency, Schedule
from provisioner.core.recipe.recipe import (
    Limits,
    Recipe,
    Retry,
    Spec,
    json_schema,
    parse_recipe,
    planned,
    with_overrides,
)
from tests.support.recipes import REQUIRED, SCHEMA, problem, problems, recipe

JOBS = Path(__file__).parents[3] / "config/jobs"

SEED = """\
schema_version: 2025.10.01
type: job
spec:
  name: gpu-inference
  image: saturncloud/saturn:2025.06.01
  instance_type: g5.xlarge
  command: python run_inference.py
  working_directory: /home/jovyan/workspace
  git_repositories:
    - url: git@github.com:your-org/your-repo.git
      reference: main
  scale: 1
  use_spot_instance: false
"""

BRANCH = {"reference_type": "branch"}


def test_the_page_s_own_example_is_a_recipe() -> None:
    """The product page's example is valid with an EC2 type."""
    spec = parse_recipe(SEED, "f").spec
    assert spec.name == "gpu-inference"
    assert spec.image_uri == "saturncloud/saturn:2025.06.01"
    assert spec.instance_types == ("g5.xlarge",)
    assert spec.markets == (Market.ON_DEMAND,)
    (repository,) = spec.git_repositories
    assert (repository.url, repository.reference) == ("git@github.com:your-org/your-repo.git", "main")
    assert spec.checkouts == ("/home/jovyan/workspace",)


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_recipes(path: Path) -> None:
    """The examples are valid for the parser and for the schema that editors use."""
    parse_recipe(path.read_bytes(), path.name)
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


def test_every_problem_is_told_at_once_with_its_line() -> None:
    """One error has a line for each problem: the place, the value found, and a valid value."""
    text = SEED.replace("g5.xlarge", "nebius-gpu-h200").replace("false", "maybe").replace("  name:", "  nmae:")
    assert problems(text) == [
        "f:3: spec.name: missing",
        "f:4: spec.nmae: unknown field; did you mean name?",
        "f:6: spec.instance_type: found 'nebius-gpu-h200'; write an EC2 instance type, such as g5.xlarge",
        "f:13: spec.use_spot_instance: found 'maybe'; write true or false",
    ]


def test_a_field_at_the_wrong_level_is_sent_to_its_own() -> None:
    """Wrong indentation is the most common mistake."""
    found = problems(SEED + "limits:\n  runtime: 1h\n")
    assert found == ["f:14: limits: unknown field; limits belongs in spec"]
    assert problem(runtime="1h") == "runtime: unknown field; runtime belongs in spec.limits"
    assert problem(instance_types=[]).endswith("instance_types belongs in spec.placement")
    assert problem(spot_falback=True).endswith("did you mean spec.placement.spot_fallback?")
    assert problem(git_repositories=[{"url": "https://h/a", "refrence": "b"}]).endswith("did you mean reference?")
    assert problem(wholly="else") == "wholly: unknown field"
    assert problem(timeout="1h") == "timeout: unknown field; did you mean spec.limits.runtime?"
    assert problem(placement={"region": "x"}) == "placement.region: unknown field"


def test_lost_indentation_is_explained() -> None:
    """A recipe copied from a page may lose its indentation; the error says which fields belong where."""
    found = problems("type: job\nspec:\nname: a\nimage: busybox\n")
    assert found[0] == "f:2: spec: found nothing; write a mapping (name: value)"
    assert found[1] == "f:3: name: unknown field; name belongs in spec"


@pytest.mark.parametrize("text", ["", "hello", "- type: job", "3", "null", "{}", "root:\n  $6$hash:1"])
def test_document_that_is_not_a_mapping_is_refused(text: str) -> None:
    """The error says how a recipe begins."""
    assert problems(text) == ["f: not a recipe: it should begin with 'type: job' and 'spec:'"]


@pytest.mark.parametrize("kind", ["deployment", "workspace", "image"])
def test_other_types_are_refused_without_reading_on(kind: str) -> None:
    """Fields of other types are not reported as mistakes."""
    assert problems(f"type: {kind}\nspec: {{routes: []}}") == [
        f"f:1: type: found {kind!r}; not in this version: only jobs"
    ]


LATER: list[tuple[str, Any]] = [
    ("scale", 2),
    ("nprocs", 4),
    ("shared_folders", [{"name": "a"}]),
    ("token_scope", "job"),
    ("start_dind", True),
    ("dask_cluster", {"num_workers": 3}),
    ("status", "running"),
    ("command", ["a", "b"]),
    ("command", '["a", "b"]'),
    ("extra_packages.conda", {"install": "numpy"}),
    ("extra_packages.cran", "dplyr"),
    ("extra_packages.remotes", ["a/b"]),
    ("extra_packages.bioconductor", "limma"),
]

#: A job's fields in Saturn Cloud's OpenAPI document of 2026.02.01.
SATURN = {
    *("name", "owner", "description", "tags", "image", "instance_type", "command", "working_directory", "scale"),
    *("environment_variables", "start_script", "extra_packages", "config_files", "git_repositories", "secrets"),
    *("shared_folders", "use_spot_instance", "schedule", "concurrency_policy", "retries", "token_scope", "start_dind"),
    *("dask_cluster", "status"),
}  # fmt: skip
SATURN_PACKAGES = {"pip", "conda", "apt", "cran", "remotes", "bioconductor"}


def test_every_field_of_saturns_is_known() -> None:
    """Each field is supported, or refused by name. A refused field must be in LATER, whose fields another test uses."""
    assert set(Spec.model_fields) >= SATURN
    assert set(Packages.model_fields) == SATURN_PACKAGES
    for at, model in (("", Spec), ("extra_packages.", Packages)):
        refused = {f"{at}{name}" for name, info in model.model_fields.items() if info.annotation is type(None)}
        # Fields that another server fills in are ignored.
        assert refused - {"subdomain"} <= {name for name, _ in LATER}


def test_other_schema_versions_are_refused_at_apply_only() -> None:
    """Stored recipes with another version still load."""
    document = {"schema_version": "2024.01.01", "type": "job", "spec": REQUIRED}
    with pytest.raises(Invalid, match=r"f:1: schema_version: found '2024\.01\.01'; did you mean 2025\.10\.01\?"):
        parse_recipe(json.dumps(document), "f")
    stored = parse_recipe(json.dumps({**document, "schema_version": "2025.10.01"}), "f").dump()
    assert Recipe.load(stored.replace("2025.10.01", "2024.01.01")).schema_version == "2024.01.01"


@pytest.mark.parametrize(("field", "value"), LATER)
def test_field_of_a_later_version_is_refused_by_name(field: str, value: Any) -> None:
    """The field is known, and the error gives the reason."""
    group, _, inner = field.rpartition(".")
    text = problem(**({group: {inner: value}} if group else {field: value}))
    assert text.startswith(f"{field}: found ")
    _, _, reason = text.partition("not in this version: ")
    assert reason


@pytest.mark.parametrize("group", ["conda", "cran", "remotes", "bioconductor"])
@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            "",
            {},
            [],
            {"install": "", "use_mamba": True},
            {"use_mamba": False},
            {"install": [], "use_mamba": "no"},
        ),
        {"install": " ", "environment_yml": None},
    ],
)
def test_group_of_packages_that_installs_nothing_is_accepted(group: str, value: Any) -> None:
    """Saturn's recipes contain such groups."""
    document = {"type": "job", "spec": {**REQUIRED, "extra_packages": {group: value}}}
    assert parse_recipe(json.dumps(document), "f").spec.extra_packages == Packages()
    jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("value", [{"install": ["numpy"]}, {"environment_yml": "name: x"}, {"channels": []}, 3])
def test_group_of_packages_that_installs_something_is_refused(value: Any) -> None:
    """A job without its packages would fail on a paid machine."""
    assert "not in this version" in problem(extra_packages={"conda": value})


def test_recipe_from_a_saturn_server_can_be_applied() -> None:
    """`get` and `apply` form a round trip: defaults and read-only fields are accepted."""
    spec: dict[str, Any] = {
        **REQUIRED, "owner": {"name": "org/me"}, "image": {"uri": "busybox:1", "enforce_trusted": True}, "tags": None,
        "extra_packages": {}, "config_files": None, "secrets": [], "shared_folders": [], "scale": 1, "schedule": None,
        "concurrency_policy": "Allow", "retries": 0, "token_scope": None, "start_dind": False, "start_script": "",
        "dask_cluster": None, "status": None, "subdomain": "gpu", "environment_variables": {}, "git_repositories": [],
    }  # fmt: skip
    text = yaml.safe_dump({"type": "job", "spec": spec, "state": {"id": "3", "status": "stopped", "routes": []}})
    found = parse_recipe(text, "f")
    assert (found.spec.owner, found.spec.image_uri) == ("org/me", "busybox:1")
    jsonschema.validate(yaml.safe_load(text), SCHEMA)


def test_a_schedule_is_saturns_and_two_fields_of_ours() -> None:
    """The default zone is UTC; wrong values are refused with valid ones."""
    plain = parse_recipe(json.dumps({"type": "job", "spec": {**REQUIRED, "schedule": " 0  2 * * * "}}), "f")
    assert plain.spec.plan == Schedule("0 2 * * *", "UTC", Concurrency.ALLOW, Catchup.LAST)
    own = {"timezone": "Europe/Berlin", "concurrency_policy": "Forbid", "schedule_catchup": "all"}
    changed = planned(plain, own)
    assert changed == Schedule("0 2 * * *", "Europe/Berlin", Concurrency.FORBID, Catchup.ALL)
    for nothing in (None, "", " "):
        assert planned(plain, {"schedule": nothing}) is None  # type: ignore[dict-item]
    assert problem(schedule="* * *").startswith("schedule: found '* * *'; write five fields")
    assert problem(concurrency_policy="Queue").endswith("write 'Allow', 'Forbid' or 'Replace'")
    assert problem(schedule_catchup="some").endswith("write 'none', 'last' or 'all'")


def test_variables_keep_their_written_text() -> None:
    """Numbers and booleans stay the text that was written; null is not an empty text."""
    text = SEED + "  environment_variables: {A: 010, B: 1.50, C: yes, D: true, E: '', F: 2025-10-01, G: \"a\\n'$b\"}\n"
    expected = {"A": "010", "B": "1.50", "C": "yes", "D": "true", "E": "", "F": "2025-10-01", "G": "a\n'$b"}
    assert parse_recipe(text, "f").spec.environment_variables == expected
    assert problem(environment_variables={"A": None}).endswith('found nothing; write "" for an empty value')


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É", "A\n", "LD;reboot"])
def test_a_variable_s_name_is_one_for_every_shell(name: str) -> None:
    """Names that a shell cannot use are refused."""
    assert "letters, digits and _" in problem(environment_variables={name: "x"})


def test_a_variable_s_value_is_never_told() -> None:
    """Errors name the variable and omit its value, which may be a secret."""
    for value in ("hunter2\0", "hunter2" * 20_000, ["hunter2"]):
        text = problem(environment_variables={"PASSWORD": value})
        assert text.startswith("environment_variables.PASSWORD: ")
        assert "hunter2" not in text


def test_command_longer_than_128_kib_is_refused() -> None:
    """A command too long for one argument is refused before a machine is bought."""
    assert "128 KiB" in problem(command=f"echo {'x' * 140_000}")
    assert recipe(start_script="#" * 200_000)


@pytest.mark.parametrize("image", ["--privileged", "a b", "a/B", "busybox:", "busybox;reboot", "", "a//b", "-v", "b@c"])
def test_an_image_is_a_reference_and_no_option(image: str) -> None:
    """No option or other text reaches Docker in place of an image."""
    assert "docker pull" in problem(image=image)


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "127.0.0.1:5000/job",
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-gpu-py311",
        "nvcr.io/nvidia/pytorch:24.10-py3",
        f"ghcr.io/a/b__c@sha256:{'0' * 64}",
    ],
)
def test_images_of_every_registry_are_taken(image: str) -> None:
    """A reference may have host, port, version and digest."""
    assert recipe(image=image).spec.image_uri == image


@pytest.mark.parametrize("image", [{"name": "a", "version": "1"}, {"tag_id": "3"}, {"uri": "a", "owner": "b"}, []])
def test_images_of_a_catalogue_come_later(image: Any) -> None:
    """Forms that name a catalogue entry are known and refused."""
    assert problem(image=image).startswith("image: found a ")


@pytest.mark.parametrize(
    "path", ["workspace", "/", "//", "/a/../..", "", "/proc/1", "/dev", "/a:b", "/a\nb", "~/a", "/a,b"]
)
def test_a_working_directory_is_a_folder_of_the_job_s_own(path: str) -> None:
    """The path is absolute and does not replace a folder that the container needs."""
    assert problem(working_directory=path).startswith("working_directory: found ")


def test_paths_are_normalized() -> None:
    """Different spellings of one folder are equal."""
    assert recipe(working_directory="//a/./b//").spec.working_directory == "/a/b"


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


def test_names_and_owners_are_plain() -> None:
    """Names and owners are used in tags, keys and URLs."""
    for name in ("a_b", "-a", "a-", "a/b", "", "a" * 64, "a;b", "é"):
        assert "letters, digits and inner hyphens" in problem(name=name)
    for owner in ("Me", "a/b/c", "/a", "a b", "", {"id": "3"}, {"name": "A"}, {"user_id": "1", "org_id": "2"}):
        assert problem(owner=owner).startswith("owner: found ")
    assert recipe(owner="my-org/me").spec.owner == "my-org/me"


def test_machines_are_tried_in_the_order_given() -> None:
    """The recipe's own type comes first, without duplicates. Spot comes first, on-demand only with spot_fallback."""
    placement = {"instance_types": ["g5.2xlarge", "g5.xlarge"], "spot_fallback": True, "zones": ["us-west-2-lax-1a"]}
    spec = recipe(placement=placement, use_spot_instance=True).spec
    assert spec.instance_types == ("g5.xlarge", "g5.2xlarge")
    assert spec.markets == (Market.SPOT, Market.ON_DEMAND)
    assert spec.placement.zones == ("us-west-2-lax-1a",)
    assert recipe(use_spot_instance="yes").spec.markets == (Market.SPOT,)
    assert recipe(placement=placement).spec.markets == (Market.ON_DEMAND,)


def test_limits_add_up_to_a_lifetime() -> None:
    """The lifetime is the sum of all limits and ten minutes."""
    assert Limits().lifetime == 600 + 3600 + 3600 + 86400 + 30 + 600
    limits = recipe(limits={"runtime": "1h", "queue_time": "5m", "boot": "20m", "stop_grace": "90s"}).spec.limits
    assert (limits.runtime, limits.queue_time, limits.lifetime) == (3600, 300, 1200 + 3600 + 3600 + 3600 + 90 + 600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtime", 0),
        ("runtime", -1),
        ("runtime", "1.5"),
        ("runtime", True),
        ("runtime", "999999999999h"),
        ("runtime", "never"),
        ("boot", "21m"),
        ("runtime", "31d"),
        ("setup", None),
        ("queue_time", "0s"),
        ("silence", "1m"),
    ],
)
def test_limit_that_is_no_duration_is_refused(name: str, value: Any) -> None:
    """`never` is allowed only for limits of time that costs nothing."""
    assert problem(limits={name: value}).startswith(f"limits.{name}: found ")


@pytest.mark.parametrize("value", ["1h30m", "1.5h", 5400, "5400", "1h 30m"])
def test_limit_is_read_in_every_writing_of_a_duration(value: Any) -> None:
    """Every field with a duration accepts all forms."""
    found = recipe(limits={"runtime": value, "queue_time": value, "silence": value}, retry={"backoff": value}).spec
    assert (found.limits.runtime, found.limits.queue_time, found.limits.silence) == (5400, 5400, 5400)
    assert found.retry.backoff == 5400
    assert recipe(retry={"backoff": 0}).spec.retry.backoff == 0


def test_queue_time_accepts_never() -> None:
    """`never` is the default of queue_time and may be written."""
    assert recipe(limits={"queue_time": "never"}).spec.limits.queue_time is None


def test_retry_depends_on_exit_code_pause_and_rerun() -> None:
    """Retries may depend on the exit code, have a pause, and exclude commands that must not begin twice."""
    retry = recipe(retry={"on": [1, "137"], "backoff": "5m", "rerun": "before_start"}).spec.retry
    assert (retry.on, retry.backoff, retry.rerun) == ((1, 137), 300, "before_start")
    assert (Retry().on, Retry().backoff, Retry().rerun) == ((), 0, "always")
    for name, value in (("on", [0]), ("on", [256]), ("on", 1), ("backoff", -5), ("backoff", "never"), ("rerun", "no")):
        assert problem(retry={name: value}).startswith(f"retry.{name}")


def test_exit_codes_that_requeue_a_run() -> None:
    """Only codes of failures are allowed. A code that is also in `on` is refused: its effect would be unclear."""
    retry = recipe(retry={"on": [1], "requeue_on": [75, "99"]}).spec.retry
    assert (retry.requeue_on, Retry().requeue_on) == ((75, 99), ())
    for value in ([0], [256], [-1], ["x"], [None], [True], 75, "75"):
        assert problem(retry={"requeue_on": value}).startswith("retry.requeue_on")
    assert problem(retry={"on": [1, 75], "requeue_on": [99, 75]}).startswith("retry.requeue_on[1]")
    assert recipe(retry={"requeue_on": [75]}).dump() == Recipe.load(recipe(retry={"requeue_on": [75]}).dump()).dump()


def test_disks_and_shared_memory_have_sizes_with_their_unit() -> None:
    """Sizes are in powers of two, as for EC2 and Docker, within EBS's limits."""
    spec = recipe(shm_size="16Gi", placement={"disk_size": "2Ti", "disk_throughput": 500}).spec
    assert (spec.shm_size, spec.placement.disk_size, spec.placement.disk_throughput) == (16 << 30, 2 << 40, 500)
    wrong: list[Any] = ["16", "16GB", "0Gi", "7Gi", "17Ti", 200, []]
    for size in wrong:
        assert problem(placement={"disk_size": size}).startswith("placement.disk_size: found ")
    for throughput in (124, 1001, "fast"):
        assert "125 to 1000" in problem(placement={"disk_throughput": throughput})


def test_a_time_zone_is_one_that_exists() -> None:
    """A wrong name would silently mean UTC."""
    assert recipe(timezone="Europe/Berlin").spec.timezone == "Europe/Berlin"
    for name in ("Europe/Berln", "../etc/passwd", "Europe", "", "+1"):
        assert "IANA" in problem(timezone=name)


def test_whole_numbers_are_whole() -> None:
    """The number of retries is an integer."""
    assert recipe(retries="3").spec.retries == 3
    wrong: list[Any] = [-1, 1.5, "many", True, [], None]
    for value in wrong:
        assert problem(retries=value).startswith("retries: found ")


def test_stored_recipe_round_trips() -> None:
    """Equal recipes give equal text; the text is a valid recipe and includes defaults."""
    for path in JOBS.glob("*.yaml"):
        first = parse_recipe(path.read_bytes(), path.name)
        assert Recipe.load(first.dump()) == first == parse_recipe(first.dump(), "f")
        assert first.dump() == Recipe.load(first.dump()).dump()
        assert json.loads(first.dump())["spec"]["limits"]["pull"]
        jsonschema.validate(json.loads(first.dump()), SCHEMA)


def test_stored_recipe_with_an_unknown_field_is_invalid() -> None:
    """A recipe stored by a newer version raises Invalid with a readable message."""
    stored = json.loads(parse_recipe(SEED, "f").dump())
    stored["spec"]["gpus"] = 3
    with pytest.raises(Invalid, match=r"the stored recipe: spec\.gpus: unknown field"):
        Recipe.load(json.dumps(stored))


def test_crlf_in_a_script_from_json_becomes_lf() -> None:
    """`#!/bin/bash\\r` names no program. Values of variables, and files that are not scripts, are unchanged."""
    files = {"run": {"content": "#!/bin/sh\r\n:\r\n"}, "data.csv": {"content": "a\r\nb\r\n"}}
    windows = {"start_script": "#!/bin/bash\r\nset -e\r\n", "command": "a\r\nb\rc", "config_files": files}
    found = recipe(**windows, environment_variables={"A": "x\r\n"}).spec
    assert (found.start_script, found.command) == ("#!/bin/bash\nset -e\n", "a\nb\rc")
    assert [found.config_files[name].content for name in files] == ["#!/bin/sh\n:\n", "a\r\nb\r\n"]
    assert found.environment_variables == {"A": "x\r\n"}
    assert with_overrides(recipe(), {}, "x\r\ny").spec.command == "x\ny"


@pytest.mark.parametrize("command", ["-c true", "--epochs 3", " - x", "-"])
def test_command_that_begins_with_a_hyphen_is_refused(command: str) -> None:
    """`sh -c` would read it as an option."""
    assert problem(command=command).startswith("command: found ")


def test_a_start_can_have_its_own_variables_and_command() -> None:
    """A start's variables and command replace the recipe's for this run and are checked in the same way."""
    first = parse_recipe(SEED + "  environment_variables: {A: 1, B: 2}\n", "f")
    second = with_overrides(first, {"B": "x", "RUN_ID": "demo"}, "python other.py")
    assert second.spec.environment_variables == {"A": "1", "B": "x", "RUN_ID": "demo"}
    assert second.spec.command == "python other.py"
    assert with_overrides(first, {}, None) == first
    for env, command in (({"A-B": "x"}, None), ({"A": "\0"}, None), ({}, " "), ({}, '["a"]')):
        with pytest.raises(Invalid, match=r"start: spec\."):
            with_overrides(first, env, command)


def test_start_with_more_than_256_kib_is_refused() -> None:
    """The control plane keeps each unfinished run in memory as a whole."""
    first, part = parse_recipe(SEED, "f"), "x" * (120 << 10)
    assert with_overrides(first, {"A": part, "B": part}, None)
    with pytest.raises(Invalid, match="256 KiB"):
        with_overrides(first, {"A": part, "B": part}, part)


def test_a_recipe_does_not_change() -> None:
    """A checked recipe cannot be modified."""
    spec = parse_recipe(SEED, "f").spec
    with pytest.raises(ValueError, match="frozen"):
        spec.scale = 2


def test_the_schema_names_every_field_and_default() -> None:
    """For editors the schema has defaults as users write them, and reasons for fields of later versions."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$defs"]["Limits"]["properties"]["runtime"]["default"] == "24h"
    assert schema["$defs"]["Limits"]["properties"]["queue_time"]["default"] == "never"
    assert schema["$defs"]["Retry"]["properties"]["backoff"]["default"] == "now"
    assert "Not in this version" in schema["$defs"]["Spec"]["properties"]["token_scope"]["description"]


@given(
    st.dictionaries(
        st.sampled_from(sorted(SCHEMA["$defs"]["Spec"]["properties"])),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=9)
            | st.sampled_from(["main", "a/b", "1h", "ssm:/a", "file", "8Gi"]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "url",
                            "path",
                            "depth",
                            "reference",
                            "reference_type",
                            "uri",
                            "name",
                            "boot",
                            "zones",
                            "A",
                            "type",
                            "attachment_type",
                            "location",
                            "content",
                            "pip",
                            "apt",
                            "install",
                            "requirements_txt",
                            "credential",
                            "on",
                            "backoff",
                            "disk_size",
                        ]
                    ),
                    inner,
                    max_size=2,
                )
            ),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_any_document_is_a_recipe_or_invalid(spec: dict[str, Any]) -> None:
    """No input raises another error, and the schema accepts every document that the parser accepts."""
    document = {"type": "job", "spec": {**REQUIRED, **spec}}
    try:
        parsed = parse_recipe(json.dumps(document), "f")
    except Invalid:
        return
    assert Recipe.load(parsed.dump()) == parsed
    jsonschema.validate(document, SCHEMA)
