"""Values of a launch: template names, disk prices, and tags of machines."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.launches import Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.machines import Machine, MachineState
from provisioner.core.cloud.offers import Price
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.tags import LAUNCH_TAG, LIFETIME_TAG
from tests.support.samples import NOW, SPOT_A, site

TEMPLATE = site().template


@pytest.mark.parametrize(
    "other",
    [
        replace(TEMPLATE, image=Image("ami-2", "/dev/sda1", "x86_64")),
        replace(TEMPLATE, image=Image("ami-1", "/dev/xvda", "x86_64")),
        replace(TEMPLATE, profile_arn="other"),
        replace(TEMPLATE, security_groups=("sg-1",)),
        replace(TEMPLATE, disk_gib=101),
        replace(TEMPLATE, disk_throughput=125),
        replace(TEMPLATE, user_data="#!/bin/sh\n\n"),
        replace(TEMPLATE, capacity_reservation="open"),
        replace(TEMPLATE, role_id="AROA"),
        replace(TEMPLATE, installation="another"),
    ],
)
def test_two_contents_never_share_a_name(other: Template) -> None:
    """The name is made from the content, so a template that already exists under this name has this content."""
    assert other.name != TEMPLATE.name
    assert (
        replace(other, **{each.name: getattr(TEMPLATE, each.name) for each in fields(Template)}).name == TEMPLATE.name
    )


def test_a_disk_costs_its_size_and_what_it_has_beyond_the_included() -> None:
    """A GiB's price includes 3,000 IOPS and 125 MiB/s; 1,000 MiB/s need 1,000 more IOPS."""
    known = PriceList({}, *(Price(dollars, "list", NOW) for dollars in (0.08, 0.005, 0.04)))
    for throughput, dollars in ((None, 8.0), (125, 8.0), (750, 8.0 + 625 * 0.04), (1000, 8.0 + 5.0 + 875 * 0.04)):
        price = known.disk(replace(TEMPLATE, disk_gib=100, disk_throughput=throughput))
        assert price is not None
        assert round(price.dollars, 9) == dollars


def test_disk_with_an_unpriced_part_has_no_price() -> None:
    """An unknown part makes the price unknown; a part that the disk does not have needs no price."""
    known = PriceList({}, gib=Price(0.08, "list", NOW))
    assert known.disk(TEMPLATE) == Price(8.0, "list", NOW)
    assert known.disk(replace(TEMPLATE, disk_throughput=500)) is None
    assert PriceList({}).disk(TEMPLATE) is None


def test_a_name_fits_where_names_go() -> None:
    """EC2 accepts 3 to 128 letters, digits and a few marks as a template's name."""
    assert TEMPLATE.name.replace("-", "").isalnum()
    assert len(TEMPLATE.name) <= 128


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("", None), ("-5", None), ("1e9", None), ("٣", None)])
def test_a_lifetime_is_read_only_where_it_is_a_number(text: str, seconds: float | None) -> None:
    """Users who may change tags can write any text into them, and the reaper must not crash on it."""
    machine = Machine("i-1", MachineState.RUNNING, SPOT_A, NOW, {LIFETIME_TAG: text, LAUNCH_TAG: "l"})
    assert (machine.lifetime, machine.launch) == (seconds, "l")
    assert replace(machine, tags={}).lifetime is None


@given(st.text(max_size=20))
def test_no_tag_breaks_the_lifetime(text: str) -> None:
    """Any text is read as a lifetime of 0 s or more, or as no lifetime."""
    lifetime = Machine("i-1", MachineState.RUNNING, SPOT_A, NOW, {LIFETIME_TAG: text}).lifetime
    assert lifetime is None or lifetime >= 0
