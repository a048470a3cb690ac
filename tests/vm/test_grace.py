"""The grace of a job in a container on a virtual machine, for every cause of its end."""

from collections.abc import Mapping
from typing import Any

import pytest

from provisioner.rehearsal.machines.virtual.qemu import GATEWAY
from tests.e2e.rig import Rig
from tests.grace import ENDERS, FORMS, Reports, check, played
from tests.vm.conftest import SMALL

pytestmark = pytest.mark.vm

FORM = {form.name: form for form in FORMS}["bash"]

#: Times for an emulated machine, which may share its processor: the limit, and seconds from notice to end.
RUNTIME, NOTICE = "2m", 120.0


@pytest.mark.vm(boots=3)
def test_a_job_on_a_machine_saves_and_keeps_its_exit_code(whole: Rig, python_image: str) -> None:
    """After a limit, `stop` and a notice, the trainer saves, its last lines arrive, and its exit code is kept."""
    spec: Mapping[str, Any] = {"image": python_image, **SMALL}
    with Reports() as reports:
        runs = played(whole, reports, [FORM], runtime=RUNTIME, notice=NOTICE, host=GATEWAY, **spec)
        for ender in ENDERS:
            check(whole, reports, runs[FORM.name, ender], FORM, ender)
    assert whole.double.alive() == []
