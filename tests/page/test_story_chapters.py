"""Events of a run's story are folded into chapters."""

from provisioner.core.views.codec import Moment
from provisioner.core.views.run import Event
from provisioner.faces.page.run.story import chapters


def folded(*texts: str) -> list[tuple[str, list[str]]]:
    events = [Event(Moment(float(at)), text) for at, text in enumerate(texts)]
    return [(each.kind, [event.text for event in each.events]) for each in chapters(events)]


def test_a_long_wait_is_one_chapter() -> None:
    texts = ("queued: triggered", *("launching: a launch is stored", "no machine (capacity: none)") * 50)
    assert folded(*texts, "waits, quota: no") == [("waiting", [*texts, "waits, quota: no"])]


def test_each_attempt_has_chapters_of_its_own() -> None:
    assert folded(
        "queued: triggered",
        "attempt 1: i-1, spot g5.xlarge in a",
        "booting: a machine is bound",
        "preparing: the agent reports",
        "fetching the image",
        "running: the command executes",
        "spot interruption notice: EC2 will interrupt the machine",
        "stopping: interrupted, taken",
        "queued: next attempt",
        "attempt 2: i-2, spot g5.xlarge in b",
        "running: the command executes",
        "stopping: succeeded, the command exited 0",
        "done: all of its machines are terminated",
    ) == [
        ("waiting", ["queued: triggered"]),
        (
            "starting",
            [
                "attempt 1: i-1, spot g5.xlarge in a",
                "booting: a machine is bound",
                "preparing: the agent reports",
                "fetching the image",
            ],
        ),
        ("running", ["running: the command executes", "spot interruption notice: EC2 will interrupt the machine"]),
        ("ending", ["stopping: interrupted, taken"]),
        ("waiting", ["queued: next attempt"]),
        ("starting", ["attempt 2: i-2, spot g5.xlarge in b"]),
        ("running", ["running: the command executes"]),
        ("ending", ["stopping: succeeded, the command exited 0", "done: all of its machines are terminated"]),
    ]


def test_unknown_event_belongs_to_the_chapter_before_it() -> None:
    assert folded("something new", "queued: triggered") == [("waiting", ["something new", "queued: triggered"])]
    assert chapters(()) == ()


def test_chapter_lasts_until_the_next_one() -> None:
    events = [Event(Moment(at), text) for at, text in ((0.0, "queued: x"), (5.0, "no machine ("), (60.0, "running: x"))]
    assert [each.seconds for each in chapters(events)] == [60.0, None]
