"""What `apply` says about instance types and zones that the installation cannot launch."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.offers import Catalog, InstanceType
from provisioner.core.recipe.defaults import gpu_notes, unoffered
from tests.support.samples import recipe

ZONES = ("us-east-1a", "us-east-1b")
CATALOG = Catalog(
    {
        "g5.xlarge": InstanceType("g5.xlarge", "x86_64", 1, 4, 16384, ZONES, spot=True),
        "g6.xlarge": InstanceType("g6.xlarge", "x86_64", 1, 4, 16384, ("us-east-1b",), spot=True),
        "g6.metal": InstanceType("g6.metal", "x86_64", 1, 4, 16384, ZONES, spot=False),
        "m6i.large": InstanceType("m6i.large", "x86_64", 0, 2, 8192, ZONES, spot=True),
        "t9.gpu": InstanceType("t9.gpu", "x86_64", 1, 2, 8192, ZONES, spot=True, cluster=False),
    },
    {zone: f"subnet-{zone[-1]}" for zone in ZONES},
    {},
    0.0,
)


def problems(driven: tuple[str, ...] | None = None, **spec: Any) -> dict[str, str]:
    """Return the reason for each refused part, by its path."""
    found = unoffered(recipe(**spec).spec, CATALOG, lambda: ["g5.xlarge", "g6.xlarge", "p5.48xlarge"], driven)
    return {".".join(map(str, path[1:])): reason for path, reason in found}


def test_misspelt_type_is_refused_with_the_type_that_was_meant() -> None:
    """The message names the type as written, and a similar one."""
    assert problems(instance_type="g5.xlrge") == {
        "instance_type": "the region has no instance type g5.xlrge; did you mean g5.xlarge?"
    }
    assert problems(instance_type="zz9.plural") == {"instance_type": "the region has no instance type zz9.plural"}


def test_each_alternative_type_is_checked() -> None:
    """A misspelt alternative would otherwise be noticed only when the first choice has no capacity."""
    found = problems(placement={"instance_types": ["g6.xlarge", "g6.xlage", "m6i.large"]})
    assert list(found) == ["placement.instance_types.1", "placement.instance_types.2"]
    assert "g6.xlarge?" in found["placement.instance_types.1"]
    assert "no NVIDIA GPU" in found["placement.instance_types.2"]


def test_type_without_a_gpu_needs_consent() -> None:
    """With `gpu: none` both kinds of types are accepted."""
    assert problems(instance_type="m6i.large") == {
        "instance_type": "m6i.large has no NVIDIA GPU; choose another type, or set spec.placement.gpu to none"
    }
    for name in ("m6i.large", "g5.xlarge"):
        assert not problems(instance_type=name, placement={"gpu": "none"})


def test_type_that_the_ami_cannot_drive_is_refused() -> None:
    """A job without a GPU may have it, and an own AMI is not judged."""
    reason = (
        "g6.xlarge: the driver of the AMI supports only g4dn, g5; choose one of these families, or set `image` in the "
        "settings to an AMI with a driver for the type"
    )
    ours = ("g4dn", "g5")
    assert problems(ours, placement={"instance_types": ["g6.xlarge"]}) == {"placement.instance_types.0": reason}
    assert not problems(ours, instance_type="g6.xlarge", placement={"gpu": "none"})
    assert not problems(None, instance_type="g6.xlarge")


def test_zone_without_a_subnet_is_refused() -> None:
    """The message names the zones that can be chosen."""
    assert problems(placement={"zones": ["us-east-1a", "eu-west-1a"]}) == {
        "placement.zones.1": "the installation has no subnet in eu-west-1a; it has subnets in us-east-1a, us-east-1b"
    }


def test_type_that_no_chosen_zone_offers_is_refused() -> None:
    """The recipe's zones and its subnets both limit where it may run. One type that is offered there is enough."""
    refused = {"instance_type": "EC2 offers no g6.xlarge in us-east-1a, the zones that the recipe may use"}
    assert problems(instance_type="g6.xlarge", placement={"zones": ["us-east-1a"]}) == refused
    assert problems(instance_type="g6.xlarge", placement={"subnets": ["subnet-a"]}) == refused
    assert not problems(instance_type="g6.xlarge", placement={"zones": ["us-east-1a"], "instance_types": ["g5.xlarge"]})
    apart = {"zones": ["us-east-1a"], "subnets": ["subnet-b"]}
    assert problems(placement=apart) == {
        "placement.zones": "none of these zones has a subnet of spec.placement.subnets"
    }


def test_type_without_spot_is_refused_for_a_recipe_that_wants_only_spot() -> None:
    """With `spot_fallback`, it is launched on-demand."""
    reason = "EC2 has no spot g6.metal; choose another type, or set spec.placement.spot_fallback to true"
    assert problems(instance_type="g6.metal", use_spot_instance=True) == {"instance_type": reason}
    assert not problems(instance_type="g6.metal", use_spot_instance=True, placement={"spot_fallback": True})
    assert not problems(instance_type="g6.metal")


def test_type_that_cannot_be_in_a_placement_group_is_refused_with_one() -> None:
    found = problems(placement={"group": "cluster", "instance_types": ["t9.gpu"]}, scale=2)
    reason = "t9.gpu cannot be in a cluster placement group; choose another type, or leave placement.group out"
    assert found == {"placement.instance_types.0": reason}
    assert not problems(placement={"instance_types": ["t9.gpu"]}, scale=2)


@pytest.mark.parametrize(
    ("slots", "notes"),
    [
        (1, []),
        (2, ["2 commands share the 1 GPU of g5.xlarge by turns"]),
        (4, ["4 commands share the 1 GPU of g5.xlarge by turns"]),
        (
            3,
            [
                "3 commands share the 1 GPU of g5.xlarge by turns",
                "with nprocs 3, 1 of the 4 GPUs of g5.12xlarge are not used",
            ],
        ),
        (
            8,
            ["8 commands share the 1 GPU of g5.xlarge by turns", "8 commands share the 4 GPUs of g5.12xlarge by turns"],
        ),
    ],
)
def test_shared_and_unused_gpus_of_a_list_are_said(slots: int, notes: list[str]) -> None:
    four = InstanceType("g5.12xlarge", "x86_64", 4, 48, 196608, ZONES, spot=True)
    catalog = replace(CATALOG, types={**CATALOG.types, four.name: four})
    spec = {"command": ["a", "b"], "nprocs": slots, "placement": {"instance_types": [four.name, "m6i.large", "none.x"]}}
    assert list(gpu_notes(recipe(**spec).spec, catalog)) == notes


def test_notes_about_gpus_are_for_several_slots_and_required_gpus() -> None:
    assert list(gpu_notes(recipe().spec, CATALOG)) == []
    # `provision map` makes a list of it.
    assert list(gpu_notes(recipe(nprocs=2).spec, CATALOG)) == ["2 commands share the 1 GPU of g5.xlarge by turns"]
    without = {"command": ["a", "b"], "nprocs": 2, "placement": {"gpu": "none"}}
    assert list(gpu_notes(recipe(**without).spec, CATALOG)) == []
