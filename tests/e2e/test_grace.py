"""A job has its whole grace after SIGTERM, in every form in which users start it and for every cause."""

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
    """Run every form of the trainer with every way to end it, all at once, on one installation."""
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
        # On a busy computer, thirty machines need up to twelve seconds until their trainers run.
        runs = played(whole, reports, FORMS, runtime="12s", notice=30, host="127.0.0.1", **spec)
        yield whole, reports, runs


@pytest.mark.parametrize("ender", ENDERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_job_that_gets_sigterm_saves_and_keeps_its_exit_code(ended: Ended, form: Form, ender: str) -> None:
    """Each trainer saves exactly once, its last lines are in the log, and no SIGKILL comes before its end."""
    whole, reports, runs = ended
    check(whole, reports, runs[form.name, ender], form, ender)


def test_no_machine_is_left(ended: Ended) -> None:
    """When all runs are done, no machine is alive."""
    whole, _, _ = ended
    assert whole.double.alive() == []
