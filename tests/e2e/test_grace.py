"""A job that is told to stop has its whole grace, in every form in which users start it, whatever ends it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.run.records import Run
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.rig import Rig, rig
from tests.engine import engine, python_tree
from tests.grace import ENDERS, FORMS, Form, Reports, check, played

Ended = tuple[Rig, Reports, dict[tuple[str, str], Run]]


@pytest.fixture(scope="module", params=["light", pytest.param("container", marks=pytest.mark.docker)])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Every form with every ender, all at once on one installation."""
    folder = tmp_path_factory.mktemp("grace")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        reports = stack.enter_context(Reports())
        places: dict[str, Any] = {}
        spec: dict[str, Any] = {}
        if request.param == "container":
            made = stack.enter_context(engine())
            patch.setenv("DOCKER_HOST", made.host)
            spec = {"image": made.publish("python", python_tree(folder / "tree"), "ENV PATH=/bin")}
            host = LightHost(folder / "machines", docker=True, environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "1"})
            places = {"host": host, "rehearsal": {"engine": "container"}}
        whole = stack.enter_context(rig(folder / "rig", patch, **places))
        # The limit is as long as thirty machines need on a busy computer until their trainers are up.
        runs = played(whole, reports, FORMS, runtime="12s", notice=30, host="127.0.0.1", **spec)
        yield whole, reports, runs


@pytest.mark.parametrize("ender", ENDERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_job_that_gets_sigterm_saves_and_keeps_its_exit_code(ended: Ended, form: Form, ender: str) -> None:
    """Each trainer saves once, undisturbed; its last lines are in the log; no SIGKILL comes before it has ended."""
    whole, reports, runs = ended
    check(whole, reports, runs[form.name, ender], form, ender)


def test_no_machine_is_left(ended: Ended) -> None:
    """When all are done, no machine is alive."""
    whole, _, _ = ended
    assert whole.double.alive() == []
