"""What is known of AWS's machine images."""

import pytest

from provisioner.core.cloud.machine_images import Image, driven_families, raised_disk
from provisioner.core.cloud.offers import InstanceType
from provisioner.settings import DEFAULT_IMAGE

PATH = "aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04/latest/ami-id"


@pytest.mark.parametrize(
    "reference", [DEFAULT_IMAGE, f"ssm:/{PATH}", f"ssm:arn:aws-cn:ssm:cn-north-1::parameter/{PATH}"]
)
@pytest.mark.parametrize(
    ("name", "driven"),
    [
        ("g4dn.xlarge", True),
        ("g6f.large", True),
        ("p4d.24xlarge", True),
        ("p5en.48xlarge", True),
        ("p6-b300.48xlarge", True),
        ("p3.2xlarge", False),
        ("p2.xlarge", False),
        ("g3s.xlarge", False),
    ],
)
def test_aws_amis_drive_the_families_of_their_driver(reference: str, name: str, driven: bool) -> None:
    kind = InstanceType(name, "x86_64", 1, 4, 16384, (), spot=True)
    assert kind.is_driven(driven_families(reference)) is driven


def test_type_without_a_gpu_needs_no_driver() -> None:
    plain = InstanceType("m6i.large", "x86_64", 0, 2, 8192, (), spot=True)
    assert plain.is_driven(driven_families(DEFAULT_IMAGE))


@pytest.mark.parametrize("reference", ["ami-0123", "ssm:/ours/ami", f"ssm:/{PATH.replace('oss-', 'proprietary-')}"])
def test_other_amis_are_not_judged(reference: str) -> None:
    """Their driver is not known."""
    assert driven_families(reference) is None


@pytest.mark.parametrize(("asked", "gib"), [(None, 45), (45, 45), (60, 45), (20, 0)])
def test_disk_that_is_large_enough_needs_no_note(asked: int | None, gib: int) -> None:
    assert raised_disk(asked, Image("ami-1", "/dev/sda1", "x86_64", gib)) == ""


def test_note_names_both_sizes_of_a_disk() -> None:
    note = raised_disk(20, Image("ami-1", "/dev/sda1", "x86_64", 45))
    assert note == "the disk has 45 GiB: the AMI needs more than placement.disk_size of 20 GiB"
