"""Uploaded lists of commands: they are stored, and runs execute them in place of their recipe's command."""

import csv
from collections.abc import Iterator
from dataclasses import replace

import pytest

from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import OwnerLimits
from provisioner.core.commands.uploads import PARTS, part_key, upload_of
from provisioner.core.errors import Conflict, Failed, Forbidden, Invalid, LimitReached, NotFound, Throttled
from provisioner.core.protocol.batches import decode_batch
from provisioner.core.run.lists import uploading
from provisioner.core.run.work_order import loaded
from provisioner.core.views.commands import CommandState
from provisioner.ports.control.lists import every
from provisioner.service.collectors import uploads as sweeping
from provisioner.service.control import OnBehalf
from provisioner.service.control_loop.lists.texts import Texts
from provisioner.service.control_loop.loop import Intervals
from tests.service.attacked import Counted
from tests.service.listed import Listed
from tests.service.trouble import Call, Crash, Fate, calm
from tests.service.world import World, parts

ANN = Caller("t1", ("ann",), admin=False, source="10.0.0.1")
LINES = [f"echo {number} é".encode() for number in range(10)]
TEXT = b"\n".join(LINES)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part have three commands at most."""
    monkeypatch.setattr(uploading, "PART_COMMANDS", 3)


@pytest.fixture
def world() -> World:
    made = World(limits=OwnerLimits(stored_bytes=20_000))
    made.jobs.apply(recipe("train", "ann"), "train.yaml")
    return made


def recipe(name: str, owner: str, **spec: object) -> str:
    import json

    whole = {"name": name, "owner": owner, "image": "i", "instance_type": "g5.xlarge", "command": "run {}", **spec}
    return json.dumps({"type": "job", "spec": whole})


def ann(world: World) -> OnBehalf:
    return OnBehalf(parts(world.installation, "users", Intervals()), ANN)


def stored(world: World) -> list[str]:
    return [key for key in world.bucket.objects if key.startswith(PARTS)]


def test_an_upload_is_stored_in_parts(world: World) -> None:
    made = ann(world).uploads.add([TEXT[:17], TEXT[17:]])
    assert (made.commands, made.bytes) == (10, len(TEXT) + 1)
    found = world.store.upload(made.id)
    assert found
    assert (found.owner, found.total, found.size, found.parts) == ("ann", 10, len(TEXT) + 1, (0, 3, 6, 9))
    keys = [part_key(made.id, number) for number in range(4)]
    assert stored(world) == keys
    assert b"".join(world.bucket.objects[key][0] for key in keys) == TEXT.replace(b"\n", b"\0") + b"\0"
    assert (world.store.audit(1)[0].what, world.store.audit(1)[0].target) == ("upload", made.id)


def test_nothing_is_stored_of_a_wrong_list(world: World) -> None:
    with pytest.raises(Invalid, match="line 11: it is blank"):
        ann(world).uploads.add([TEXT, b"\n\n"])
    assert (stored(world), world.store.unused_uploads(9e9, 9)) == ([], ())


def test_nothing_is_stored_after_an_error_of_the_bucket(world: World) -> None:
    """The parts whose answer was lost may exist: they are deleted, too."""
    world.bucket.lose_answer_of.append("put")
    with pytest.raises(Exception, match="the answer was lost"):
        ann(world).uploads.add([TEXT])
    assert (stored(world), world.store.unused_uploads(9e9, 9)) == ([], ())


def test_the_cause_is_raised_if_the_parts_cannot_be_deleted(world: World) -> None:
    def lines() -> Iterator[bytes]:
        yield TEXT + b"\n" * 5
        world.bucket.fail_next.append(Throttled("later"))

    with pytest.raises(Invalid, match="line 11: it is blank"):
        ann(world).uploads.add(lines())


def test_an_upload_is_for_an_owner_of_its_caller(world: World) -> None:
    with pytest.raises(Forbidden, match="you may not upload for bob; your token has the owners ann"):
        ann(world).uploads.add([TEXT], "bob")
    assert stored(world) == []
    assert world.users.uploads.add([TEXT], "bob").commands == 10


def test_an_upload_beyond_the_limit_ends_early_and_is_deleted(world: World) -> None:
    """Not all of it is read. What is already stored counts, too."""
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"echo " + b"x" * 1000 + b"\n"

    with pytest.raises(LimitReached, match=r"ann's jobs, unfinished runs and uploads would take 0.0 MiB"):
        ann(world).uploads.add(lines())
    assert (taken < 60, stored(world)) == (True, [])
    ann(world).uploads.add([b"x" * 12_000])
    kept = stored(world)
    with pytest.raises(LimitReached):
        ann(world).uploads.add([b"x" * 12_000])
    assert stored(world) == kept


def test_an_upload_that_takes_too_long_is_deleted(world: World) -> None:
    """Its parts would be deleted as those of an upload that was never stored."""

    def lines() -> Iterator[bytes]:
        yield TEXT
        world.advance(5 * 3600.0)
        yield b"\n" + TEXT

    with pytest.raises(Failed, match="took more than 4 h"):
        ann(world).uploads.add(lines())
    assert stored(world) == []


def test_a_run_executes_the_uploaded_commands(world: World) -> None:
    """Its recipe keeps the job's own command, and is that of a list: its machines do not work as a gang."""
    made = ann(world).uploads.add([TEXT])
    run = world.store.run(ann(world).runs.start("train", {"A": "1"}, scale=2, upload=made.id).id)
    assert run
    assert (run.commands, run.upload, run.together) == (10, made.id, 1)
    spec = loaded(run.recipe).spec
    assert (spec.commands, spec.together) == (("run {}",), 1)
    commands = world.store.command_list(run.id)
    assert commands
    assert (commands.total, commands.batch_most) == (10, (8 << 20) // len("echo 0 é\0".encode()))
    assert ann(world).jobs.record("train").recipe != run.recipe


@pytest.mark.parametrize("upload", ["0" * 32, "bob's"])
def test_a_run_needs_an_upload_of_the_jobs_owner(world: World, upload: str) -> None:
    """Another owner's upload is as unknown as one that does not exist, even for an admin."""
    if upload == "bob's":
        upload = world.users.uploads.add([TEXT], "bob").id
    for control, job in ((ann(world), "train"), (world.users, "ann/train")):
        with pytest.raises(NotFound, match=f"no upload '{upload}': an upload that no run uses is deleted after 24 h"):
            control.runs.start(job, {}, upload=upload)


def test_a_start_has_a_command_or_an_upload(world: World) -> None:
    made = ann(world).uploads.add([TEXT])
    with pytest.raises(Invalid, match="found a command and an upload"):
        ann(world).runs.start("train", {}, "echo", upload=made.id)


def test_a_start_with_an_upload_has_the_rules_of_a_list(world: World) -> None:
    world.jobs.apply(recipe("again", "ann", retry={"on": [7]}), "again.yaml")
    made = ann(world).uploads.add([TEXT])
    with pytest.raises(Invalid, match=r"spec\.retry\.on: retry\.on is for a single command"):
        ann(world).runs.start("again", {}, upload=made.id)


def test_a_key_means_the_same_lines_and_not_the_same_upload(world: World) -> None:
    """A client whose answer was lost uploads again, and gets the run that it has started."""
    first, second, other = (ann(world).uploads.add([text]) for text in (TEXT, TEXT + b"\n", b"echo"))
    run = ann(world).runs.start("train", {}, None, "key", upload=first.id)
    assert ann(world).runs.start("train", {}, None, "key", upload=second.id).id == run.id
    for command, upload in ((None, other.id), (None, ""), ("echo", "")):
        with pytest.raises(Conflict, match="with other inputs"):
            ann(world).runs.start("train", {}, command, "key", upload=upload)


def test_a_start_without_an_upload_has_the_digest_of_earlier_versions(world: World) -> None:
    """A key that was used before this version was installed finds its run."""
    run = world.store.run(ann(world).runs.start("train", {"A": "1"}, "echo").id)
    assert run
    assert run.inputs == "6e6845a241430d5283ea10d4fa126578315dc3116fc0fcb65208df24fc47ad50"


def test_machines_get_the_uploaded_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches that are not too large, also again after a machine was lost."""
    monkeypatch.setattr("provisioner.core.commands.uploads.BATCH_BYTES", 3 * len("echo 0\0"))
    listed = Listed(commands=10, slots=4, uploaded=True)
    machine = listed.machine()
    given = machine.given()
    assert [each.text.decode() for each in given] == listed.texts[: len(given)]
    assert [each.batch for each in given[:6]] == [1, 1, 1, 2, 2, 2]
    begun = listed.play(lost_after=2)
    assert sorted({index for index, _ in begun}) == list(range(10))
    for key, (data, _) in listed.bucket.objects.items():
        if "/chunks/" in key:
            head, texts = decode_batch(data)
            indices = [index for first, count, _ in head.ranges for index in range(first, first + count)]
            assert [text.decode() for text in texts] == [listed.texts[index] for index in indices]
    page = listed.service.commands.page(listed.run.id)
    assert [each.text for each in page.commands] == listed.texts


def test_reading_reads_only_the_parts_that_it_needs() -> None:
    """And keeps some of them; the commands of the recipe are not shown."""
    listed = Listed(commands=30, uploaded=True)
    machine = listed.machine()
    machine.end(machine.given()[:2], 3)
    listed.turn()
    listed.restart()
    read, commands = listed.bucket.gets, listed.service.commands
    assert commands.get(listed.run.id, 29).text == "echo 29"
    assert listed.bucket.gets == read + 1
    assert commands.get(listed.run.id, 28).text == "echo 28"
    assert listed.bucket.gets == read + 1
    rows = csv.DictReader(b"".join(commands.csv(listed.run.id)).decode().splitlines())
    assert [row["Command"] for row in rows] == ["echo 0", "echo 1"]


def test_a_missing_part_is_named(world: World) -> None:
    made = ann(world).uploads.add([TEXT])
    run = ann(world).runs.start("train", {}, upload=made.id)
    key = part_key(made.id, 1)
    data = world.bucket.objects.pop(key)[0]
    with pytest.raises(Failed, match=f"the part {key} of an uploaded list is missing in the bucket"):
        ann(world).commands.page(run.id)
    assert ann(world).commands.get(run.id, 0).text == LINES[0].decode()
    world.bucket.put(key, data + b"more\0")
    with pytest.raises(Failed, match=f"the part {key} of an uploaded list was changed in the bucket"):
        ann(world).commands.get(run.id, 3)
    world.bucket.put(key, data)
    assert ann(world).commands.get(run.id, 3).text == LINES[3].decode()


def test_few_parts_are_in_memory(world: World) -> None:
    """However many commands are read: only the last parts are not read again."""
    made = ann(world).uploads.add(b"echo\n" for _ in range(90))
    run = world.store.run(ann(world).runs.start("train", {}, upload=made.id).id)
    assert run
    bucket = Counted(world.now, objects=world.bucket.objects)
    texts = Texts(world.store, bucket)
    assert texts.texts_of(run, [(0, 90, 1)]) == b"echo\0" * 90
    assert bucket.gets == 30
    assert list(texts.texts(run, range(72, 90))) == ["echo"] * 18
    assert bucket.gets == 30
    assert list(texts.texts(run, [71])) == ["echo"]
    assert bucket.gets == 31


def test_commands_of_an_upload_are_repeated_by_an_upload() -> None:
    """The same key returns the same run, and the second upload is deleted."""
    listed = Listed(commands=7, slots=7, uploaded=True)
    _failed(listed, 4)
    again = listed.service.commands.rerun(listed.run.id, "key")
    run = listed.world.store.run(again.id)
    assert run
    assert (run.commands, run.upload != listed.run.upload, run.scale) == (4, True, listed.run.scale)
    assert [each.text for each in every(listed.service.commands, again.id)] == listed.texts[:4]
    before = stored(listed.world)
    assert listed.service.commands.rerun(listed.run.id, "key").id == again.id
    assert (stored(listed.world), listed.world.store.unused_uploads(9e9, 9)) == (before, ())


def _failed(listed: Listed, count: int) -> None:
    """End the run; its first commands fail."""
    machine = listed.machine()
    while listed.commands.open:
        given = [each for each in machine.given() if _state(listed, each.index) not in ("succeeded", "failed")]
        for each in given:
            machine.end([each], int(each.index < count))
        listed.turn()
    machine.finish()
    listed.end()


def _state(listed: Listed, index: int) -> CommandState:
    return listed.service.commands.get(listed.run.id, index).state


def test_runs_of_one_job_with_and_without_a_list_are_no_variant_of_each_other(world: World) -> None:
    made = ann(world).uploads.add([TEXT])
    for upload in ("", made.id):
        ann(world).runs.start("train", {}, upload=upload, scale=2)
    one, other = (replace(each, scale=1) for each in world.store.live().runs)
    assert one.variant != other.variant


def swept(world: World, hours: float) -> None:
    """Let time pass, and then let a new process make two passes."""
    world.advance(hours * 3600.0)
    _, service = world.incarnate()
    assert [*service.operator.step(), *service.operator.step()] == []


def test_an_upload_that_no_run_uses_is_deleted_after_a_day(world: World) -> None:
    """One that a run has used is kept with its run, whose commands are shown."""
    used, unused = (ann(world).uploads.add([TEXT]) for _ in range(2))
    run = ann(world).runs.start("train", {}, upload=used.id)
    ann(world).runs.stop(run.id)
    swept(world, 23.9)
    assert world.store.upload(unused.id)
    assert len(stored(world)) == 8
    swept(world, 1.1)
    assert (world.store.upload(unused.id), world.store.upload(used.id) is None) == (None, False)
    assert stored(world) == [part_key(used.id, number) for number in range(4)]
    assert [each.text for each in ann(world).commands.page(run.id).commands] == [line.decode() for line in LINES]
    with pytest.raises(NotFound):
        ann(world).runs.start("train", {}, upload=unused.id)


def test_parts_without_a_record_are_deleted_after_a_day(world: World) -> None:
    """A process was killed within its upload, or between the deletion of the record and of the parts."""
    kept = ann(world).uploads.add([TEXT])
    ann(world).runs.start("train", {}, upload=kept.id)
    world.bucket.put(part_key("dead", 0), b"a\0")
    swept(world, 23.0)
    world.bucket.put(part_key("young", 0), b"a\0")
    swept(world, 2.0)
    left = {upload_of(key) for key in stored(world)}
    assert left == {kept.id, "young"}
    swept(world, 23.0)
    assert {upload_of(key) for key in stored(world)} == {kept.id}


def test_a_sweep_that_ends_in_a_crash_is_repeated(world: World) -> None:
    """The record is deleted first, so that no run is started with an upload whose parts are gone."""
    made = ann(world).uploads.add([TEXT])
    world.advance(25 * 3600.0)

    def fate(call: Call) -> Fate:
        return Fate.CRASH_BEFORE if (call.method, call.about) == ("delete", "") else Fate.NONE

    world.fates = fate
    _, service = world.incarnate()
    with pytest.raises(Crash):
        service.operator.step()
    assert (world.store.upload(made.id), len(stored(world))) == (None, 4)
    world.fates = calm
    swept(world, 1.1)
    assert stored(world) == []


def test_sweeps_are_rare_and_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without uploads makes no call; another one lists a part of the parts each hour."""
    monkeypatch.setattr(sweeping, "LISTED_MOST", 6)

    def listings(hours: float) -> int:
        before = len(world.calls)
        swept(world, hours)
        return len([each for each in world.calls[before:] if (each.method, each.about) == ("list", PARTS)])

    assert listings(30.0) == 0
    made = ann(world).uploads.add([TEXT])
    ann(world).runs.stop(ann(world).runs.start("train", {}, upload=made.id).id)
    for number in range(6):
        world.bucket.put(part_key("zzz", number), b"a\0")
    assert [listings(hours) for hours in (0.5, 0.4, 0.2, 0.5, 0.6)] == [0, 0, 1, 0, 1]
    assert len(stored(world)) == 10
    assert listings(24.0) == 1
    assert len(stored(world)) == 8
    assert listings(1.1) == 1
    assert len(stored(world)) == 4


def test_few_uploads_are_deleted_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass is not delayed by one owner's uploads; the oldest are deleted first."""
    monkeypatch.setattr(sweeping, "DELETED_MOST", 5)
    made = [ann(world).uploads.add([TEXT]) for _ in range(4)]
    swept(world, 25.0)
    assert [world.store.upload(each.id) is None for each in made] == [True, True, False, False]
    swept(world, 1.1)
    assert [world.store.upload(each.id) is None for each in made] == [True] * 4
