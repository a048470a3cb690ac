"""Launch templates that nothing uses are deleted, and no others."""

from dataclasses import replace

import pytest

from provisioner.core.cloud.launch_templates import KEPT
from provisioner.core.errors import Misconfigured, Transient
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Launch
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Content
from provisioner.service.collectors.launch_templates import EVERY, TemplateCollector, note
from tests.service.alone import Alone
from tests.service.world import World

DAY = 86400.0


@pytest.fixture
def alone() -> Alone:
    return Alone()


def used(alone: Alone, id: str, *, closed: bool = True) -> Launch:
    """Store a launch with a template of its own, which exists; return the launch."""
    launch = alone.launched(id, closed=closed)
    template = replace(launch.request.template, user_data=id)
    alone.cloud.model.templates.create(template.name, Content("ami-1"), alone.clock.now())
    launch = replace(launch, request=replace(launch.request, template=template))
    note(alone.installation, [launch])
    return launch


def left(alone: Alone) -> set[str]:
    return {one.name for one in alone.cloud.model.templates.shown()}


def swept(alone: Alone) -> set[str]:
    """Collect in a new process; return the names of the templates that are left."""
    TemplateCollector(alone.installation).collect(alone.live)
    return left(alone)


def test_template_is_deleted_a_week_after_its_last_use(alone: Alone) -> None:
    """A template that launches use every few days stays, however old it is."""
    once, often = used(alone, "once"), used(alone, "often")
    names = {each.request.template.name for each in (once, often)}
    for _ in range(3):
        alone.clock.step(KEPT / 3)
        note(alone.installation, [often])
        assert swept(alone) == (names if alone.clock.now() < once.created_at + KEPT else left(alone))
    assert left(alone) == {often.request.template.name}
    alone.clock.step(KEPT + EVERY)
    assert swept(alone) == set()


def test_template_of_an_open_launch_is_kept(alone: Alone) -> None:
    """Its launch may be repeated: without the template, another request would be made with the same token."""
    launch = alone.launched("open", closed=False)
    name = launch.request.template.name
    alone.cloud.model.templates.create(name, Content("ami-1"), alone.clock.now())
    note(alone.installation, [launch])
    alone.clock.step(KEPT + EVERY)
    assert swept(alone) == {name}


def test_templates_are_listed_once_a_day_and_only_after_launches(alone: Alone) -> None:
    """A restart does not repeat the listing. An installation that launches nothing makes no call."""
    listings = 0
    listed = alone.cloud.launch_templates

    def count() -> tuple[object, ...]:
        nonlocal listings
        listings += 1
        return listed()

    alone.cloud.launch_templates = count  # type: ignore[method-assign, assignment]
    alone.clock.step(30 * DAY)
    swept(alone)
    assert listings == 0
    used(alone, "a")
    collector = TemplateCollector(alone.installation)
    for _ in range(5):
        collector.collect(alone.live)
        swept(alone)
        alone.clock.step(DAY / 2)
    assert listings == 2


def test_role_that_may_not_list_templates_is_no_error(alone: Alone) -> None:
    """Its policy is of an earlier version. Other errors are reported, and the next try follows a day later."""
    used(alone, "a")
    alone.clock.step(KEPT + EVERY)
    alone.cloud.fail_next = [Misconfigured("denied", "UnauthorizedOperation")]
    assert len(swept(alone)) == 1
    alone.clock.step(EVERY)
    alone.cloud.fail_next = [Transient("unavailable")]
    collector = TemplateCollector(alone.installation)
    with pytest.raises(Transient):
        collector.collect(alone.live)
    collector.collect(alone.live)
    assert len(left(alone)) == 1
    alone.clock.step(EVERY)
    collector.collect(alone.live)
    assert left(alone) == set()


def test_launch_after_the_deletion_of_its_template_makes_it_again() -> None:
    """The store of the last weeks may be lost, and with it the notes of uses."""
    world = World(conditions=Conditions())
    first = world.start()
    world.run()
    [template] = world.model.templates.shown()
    world.model.templates.delete(template.name)
    second = world.start()
    world.run()
    world.check()
    for run in (first, second):
        verdict = world.runs.record(run.id).verdict
        assert verdict is not None
        assert verdict.outcome is Outcome.SUCCEEDED
    assert [one.name for one in world.model.templates.shown()] == [template.name]
