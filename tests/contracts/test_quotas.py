"""The contract of `ports/cloud.py` for quotas, for the fake and for the EC2 adapter on the double over HTTP."""

import pytest

from provisioner.core.errors import CloudError
from provisioner.rehearsal.ec2.conditions import Quota, Where
from provisioner.rehearsal.ec2.quotas import UNLIMITED
from tests.contracts.stage import Raise


def test_quota_has_the_value_of_its_market_and_families(stage: Raise) -> None:
    cloud = stage(quotas=(Quota(8, Where("spot", "g*")),)).cloud
    assert cloud.quota("L-3819A6DF") == 8
    assert cloud.quota("L-DB2E81BA") == UNLIMITED


def test_unknown_quota_is_an_error(stage: Raise) -> None:
    with pytest.raises(CloudError):
        stage().cloud.quota("L-00000000")
