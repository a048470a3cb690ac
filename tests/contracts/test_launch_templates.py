"""The contract of `ports/cloud.py` for launch templates."""

from tests.contracts.stage import Raise, ids


def test_templates_of_the_installation_are_listed_and_deleted(stage: Raise) -> None:
    """A deletion may be repeated. Machines stay, and the next launch makes the template again."""
    up = stage()
    request = up.request()
    [machine] = ids(up.cloud.launch(request))
    [template] = up.cloud.launch_templates()
    assert (template.name, template.created_at) == (request.template.name, up.clock.now())
    for _ in range(2):
        up.cloud.delete_launch_template(template.name)
        assert up.cloud.launch_templates() == ()
    assert up.find(machine).ending is None
    assert len(up.launch("launch-2")) == 1
    assert [each.name for each in up.cloud.launch_templates()] == [template.name]
