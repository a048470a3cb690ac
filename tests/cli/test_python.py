"""The Python API against the double."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import provisioner
from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.receipt import Receipt
from provisioner.faces.python import Client, LogIncomplete, connect
from tests.cli.conftest import HERE
from tests.e2e.rig import Rig

pytestmark = pytest.mark.usefixtures("whole")

RECIPE = {"name": "good", "image": "any", "instance_type": "g5.xlarge", "command": "true", "use_spot_instance": True}


@pytest.fixture
def client() -> Iterator[Client]:
    """Yield a client of the installation itself, or of its server, as the environment says."""
    with connect() as client:
        yield client


def test_from_start_to_receipt(client: Client) -> None:
    """Without a daemon the client's calls drive the run."""
    job = client.apply({"type": "job", "spec": RECIPE})
    assert (job.owner, job.name) in {(each.owner, each.name) for each in client.jobs()}
    # Numbers and booleans are accepted, as in a recipe.
    run = client.start("good", env={"EPOCHS": 3, "LR": 0.1, "RESUME": True})
    assert len(b"".join(run.logs(follow=True))) == 100
    assert run.wait() is Outcome.SUCCEEDED
    assert (run.outcome, run.exit_code, run.process_exit_code) == ("succeeded", 0, 0)
    assert run.job == "tester/good"
    assert b"".join(run.logs()) == b"".join(run.logs(stream="output", attempt=1))
    assert b"".join(run.logs(stream="setup")) == b""
    receipt = run.receipt
    assert isinstance(receipt, Receipt)
    assert receipt.dollars_at_most is not None
    assert client.run(run.id[:12]).id == run.id
    assert run.id in [each.id for each in client.runs("good")]


@HERE
def test_start_launches(client: Client) -> None:
    """Without a daemon `start` makes one pass itself."""
    client.apply({"type": "job", "spec": RECIPE})
    run = client.start("good")
    assert run.state in (State.BOOTING, State.PREPARING, State.RUNNING)
    assert (run.outcome, run.exit_code, run.process_exit_code) == (None, None, None)
    run.wait()


def test_wait_gives_up_and_stop_ends_it(whole: Rig, client: Client) -> None:
    """A timeout raises and changes nothing. `stop` ends the run, and a second `stop` is no error."""
    client.apply({"type": "job", "spec": {**RECIPE, "name": "dry", "instance_type": "g6.xlarge"}})
    run = client.start("dry")
    with pytest.raises(TimeoutError):
        run.wait(timeout=0)
    whole.until(lambda: bool(run.reason))
    assert run.state is State.QUEUED
    run.stop()
    assert run.wait() is Outcome.CANCELLED
    run.stop()
    assert run.outcome is Outcome.CANCELLED
    client.delete("dry")
    with pytest.raises(NotFound):
        client.start("dry")


def test_path_text_and_mapping_give_the_same_recipe(client: Client, tmp_path: Path) -> None:
    """A path, text and a mapping give the same recipe; a wrong one raises an error with every problem."""
    text = "type: job\nspec: {name: same, image: any, instance_type: g5.xlarge, command: 'true'}\n"
    path = tmp_path / "same.yaml"
    path.write_text(text)
    mapping = {"type": "job", "spec": {**RECIPE, "name": "same", "use_spot_instance": False}}
    assert {client.apply(each).revision for each in (path, str(path), text, mapping)} == {1}
    with pytest.raises(Invalid, match=r"(?s)imagee.*nam"):
        client.apply({"type": "job", "spec": {"nam": "x", "imagee": "y"}})
    with pytest.raises(FileNotFoundError):
        client.apply(tmp_path / "none.yaml")


def test_a_key_is_one_run(client: Client) -> None:
    """The same key gives the same run; other inputs with it raise Conflict."""
    other = {"instance_type": "g5g.xlarge", "placement": {"gpu": "none"}}
    client.apply({"type": "job", "spec": {**RECIPE, "name": "keyed", **other}})
    first, again = (client.start("keyed", idempotency_key="k") for _ in range(2))
    assert first.id == again.id
    with pytest.raises(Conflict):
        client.start("keyed", command="false", idempotency_key="k")


@HERE
def test_connect_is_at_the_top_and_reads_the_environment(whole: Rig) -> None:
    """`provisioner.connect()` takes a settings file, or reads the environment."""
    with provisioner.connect() as one, provisioner.connect(Path(os.environ["PROVISION_SETTINGS"])) as two:
        assert one.jobs() == two.jobs() == whole.service.jobs.all()
    with pytest.raises(AttributeError, match="disconnect"):
        provisioner.disconnect  # type: ignore[attr-defined]  # noqa: B018


@HERE
def test_following_leaves_the_lease(client: Client, whole: Rig) -> None:
    """After a log was followed, another process can acquire the lease at once."""
    client.apply({"type": "job", "spec": RECIPE})
    run = client.start("good")
    for _ in run.logs(follow=True):
        pass
    lease = whole.service.installation.store.lease()
    assert lease is None or not lease.holder


def test_missing_log_bytes_raise_a_warning(client: Client, whole: Rig) -> None:
    """Missing bytes raise the warning LogIncomplete, which says where they are missing."""
    client.apply({"type": "job", "spec": RECIPE})
    run = client.start("good")
    run.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = b"".join(run.logs())
    manifest = next(key for key in _keys(whole) if key.startswith(f"runs/{run.id}/") and key.endswith("/manifest"))
    broken = _get(whole, manifest).replace(b'"missing_from": null', b'"missing_from": 100')
    whole.service.installation.bucket.put(manifest, broken)
    with pytest.warns(LogIncomplete, match="from byte 100"):
        assert b"".join(run.logs()) == data


@HERE
def test_errors_of_a_pass_are_logged(
    client: Client, whole: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of a pass are logged and retried, never raised to the caller."""
    client.apply({"type": "job", "spec": RECIPE})
    monkeypatch.setattr(whole.service.installation.cloud.__class__, "machines", _broken)
    with caplog.at_level(logging.WARNING, "provisioner"):
        run = client.start("good")
    assert "made up" in caplog.text
    monkeypatch.undo()
    with connect(whole.settings) as other:
        assert other.run(run.id).wait() is Outcome.SUCCEEDED


def _broken(_: object) -> None:
    raise Invalid("made up")


def _keys(whole: Rig) -> list[str]:
    return list(whole.double.account.objects(whole.double.bucket))


def _get(whole: Rig, key: str) -> bytes:
    return whole.double.account.objects(whole.double.bucket)[key]
