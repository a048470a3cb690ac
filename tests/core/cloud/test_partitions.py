"""Partitions of AWS, compared with botocore's description of them."""

import re

import botocore.session
import pytest

from provisioner.core.cloud.partitions import partition

KNOWN = botocore.session.get_session().get_component("data_loader").load_data("partitions")["partitions"]


@pytest.mark.parametrize("described", KNOWN, ids=lambda one: str(one["id"]))
def test_every_region_has_its_partition_and_domain(described: dict[str, object]) -> None:
    regions = [name for name in described["regions"] if re.fullmatch(str(described["regionRegex"]), name)]  # type: ignore[attr-defined]
    outputs = described["outputs"]
    assert regions
    assert {(partition(name).name, partition(name).domain) for name in regions} == {
        (described["id"], outputs["dnsSuffix"])  # type: ignore[index]
    }
