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
from provisioner.core.recipe.recipe import (
    Recipe,
    json_schema,
    parse_recipe,
    with_overrides,
)
from tests.support.recipes import REQUIRED, SCHEMA, SEED, problem, problems, recipe

JOBS = Path(__file__).parents[3] / "config/jobs"


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


def test_other_schema_versions_are_refused_at_apply_only() -> None:
    """Stored recipes with another version still load."""
    document = {"schema_version": "2024.01.01", "type": "job", "spec": REQUIRED}
    with pytest.raises(Invalid, match=r"f:1: schema_version: found '2024\.01\.01'; did you mean 2025\.10\.01\?"):
        parse_recipe(json.dumps(document), "f")
    stored = parse_recipe(json.dumps({**document, "schema_version": "2025.10.01"}), "f").dump()
    assert Recipe.load(stored.replace("2025.10.01", "2024.01.01")).schema_version == "2024.01.01"


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
    for env, command in (({"A-B": "x"}, None), ({"A": "\0"}, None), ({}, " "), ({}, '["a", 1]')):
        with pytest.raises(Invalid, match=r"start: spec\."):
            with_overrides(first, env, command)


def test_run_may_have_several_machines() -> None:
    """Such a run has a limit for the wait of its machines for each other, which its lifetime includes."""
    limits = {"pull": "10m", "setup": "20m"}
    alone, four = recipe(limits=limits).spec, recipe(scale=4, limits=limits).spec
    assert (alone.scale, alone.bounds.gather) == (1, None)
    assert (four.scale, four.bounds.gather) == (4, 1800.0)
    assert four.bounds.lifetime - alone.bounds.lifetime == 1800.0
    assert recipe(scale=4, limits={"gather": "5m"}).spec.bounds.gather == 300.0
    assert Recipe.load(recipe(scale=4).dump()) == recipe(scale=4)
    assert with_overrides(recipe(), {}, None, scale=3).spec.bounds.gather == 7200.0
    assert (
        with_overrides(recipe(scale=4, limits={"gather": "5m"}), {}, None, scale=1).spec.bounds == recipe().spec.bounds
    )


@pytest.mark.parametrize("scale", [0, -1, 1001, 1.5, "two", None])
def test_number_of_machines_is_checked(scale: object) -> None:
    assert "write the number of machines of a run, 1 to 1000" in problem(scale=scale)


def test_only_a_leader_may_ignore_workers() -> None:
    assert recipe(gang={"success": "leader", "workers": "ignore"}, scale=2)
    assert "needs success: leader" in problem(gang={"workers": "ignore"}, scale=2)
    assert problem(gang={"success": "any"}).startswith("gang.success: found 'any'")


def test_placement_group_is_for_several_machines() -> None:
    """`apply` refuses the contradiction. A start cannot change the placement: for one machine it drops the group."""
    group = {"group": "cluster"}
    assert "a placement group is for several machines: set scale to 2 or more" in problem(placement=group)
    assert "found 'spread'" in problem(placement={"group": "spread"}, scale=4)
    assert "cannot be kept" in problem(placement=group, scale=4, gang={"survivors": "keep"})
    four = recipe(placement=group, scale=4)
    assert Recipe.load(four.dump()) == four
    assert with_overrides(four, {}, None, scale=2).spec.placement == four.spec.placement
    alone = with_overrides(four, {}, None, scale=1)
    assert (alone.spec.scale, alone.spec.placement.group) == (1, None)


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
    assert schema["$defs"]["ListOptions"]["properties"]["limit"]["default"] == "never"
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
