"""Bare-metal machines, whose firmware checks the hardware before the kernel starts."""

from dataclasses import replace

import pytest

from provisioner.core.run import verdicts
from tests.support.samples import NOW, at_work, machine, node, recipe

LIMITS = recipe(limits={"boot": "300s"}).spec.limits


@pytest.mark.parametrize(
    ("name", "boot"),
    [("g4dn.xlarge", 300.0), ("g4dn.metal", 1500.0), ("c7i.metal-24xl", 1500.0), ("metal.xlarge", 300.0)],
)
def test_bare_metal_has_longer_to_boot(name: str, boot: float) -> None:
    """Its firmware checks the hardware for up to 20 minutes: three paid boots would hold the template for everybody."""
    bare = machine(offer=replace(machine().offer, instance_type=name))
    presumed = verdicts.presume(at_work(), node(), bare, LIMITS)
    assert presumed.at == NOW + boot
    assert f"limits.boot of {boot / 60:.0f} min" in presumed.verdict.reason
    assert verdicts.first_report_due(node(), bare, LIMITS) == NOW + boot
    patient = LIMITS.model_copy(update={"boot": 1600.0})
    assert verdicts.first_report_due(node(), bare, patient) == NOW + 1600


def test_machine_lifetime_covers_the_boot_of_the_slowest_type() -> None:
    plain, mixed = (recipe(placement={"instance_types": types}).spec for types in ([], ["g4dn.metal"]))
    assert mixed.machine_lifetime == mixed.lifetime == plain.lifetime + 900
    assert mixed.limits.boot == plain.limits.boot
