"""Real torchrun on four light machines: an interrupted training continues, and gives the same numbers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from tests.e2e.rig import Rig, rig

ROOT = Path(__file__).parents[2]
TRAINER = ROOT / "config/jobs/distributed/train_torch.py"
TORCHRUN = ROOT / ".venv/torch/bin/torchrun"
SCALE, STEPS = 4, 60

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("torch")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = {"checkpoint_url": "s3://states/runs/"}
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(tmp_path_factory.mktemp("torch"), patch, settings=settings, buckets={"states": {}}) as made,
    ):
        made.pace = 1.0
        yield made


def train(whole: Rig, name: str, pause: float) -> Run:
    return whole.start(
        f"{TORCHRUN} {TRAINER} {STEPS}",
        name=name,
        scale=SCALE,
        checkpoint=True,
        use_spot_instance=True,
        instance_type="g4dn.xlarge",
        environment_variables={"PAUSE": str(pause), "OMP_NUM_THREADS": "1"},
    )


def losses(whole: Rig, run: Run) -> dict[int, float]:
    """Return the loss of each step; a step that was repeated must have had the same loss."""
    found: dict[int, float] = {}
    for step, loss in re.findall(rb"step (\d+): loss (\S+)", whole.log(run, rank=0)):
        assert found.setdefault(int(step), float(loss)) == pytest.approx(float(loss), abs=1e-9)
    return found


def test_interrupted_training_continues_with_the_same_numbers(whole: Rig) -> None:
    plain = train(whole, "plain", 0.0)
    [plain] = whole.done(plain)
    assert plain.verdict
    assert plain.verdict.outcome is Outcome.SUCCEEDED, plain.verdict

    cut = train(whole, "cut", 0.2)
    whole.until(lambda: b"step 10:" in whole.log(cut, rank=0))
    whole.double.interrupt(whole.service.installation.store.nodes(cut.id)[2].instance_id, notice=60)
    [cut] = whole.done(cut)
    assert cut.verdict
    assert (cut.verdict.outcome, cut.attempt, cut.retries_used) == (Outcome.SUCCEEDED, 2, 0), cut.verdict
    begun = re.findall(rb"begins at step (\d+) with (\d+) ranks", whole.log(cut, rank=0))
    assert [int(ranks) for _, ranks in begun] == [SCALE, SCALE]
    assert int(begun[1][0]) >= 10, "the second attempt continues"

    expected = losses(whole, plain)
    assert expected.keys() == set(range(1, STEPS + 1))
    assert losses(whole, cut) == pytest.approx(expected, abs=1e-6)
    assert expected[STEPS] < expected[1] / 2, "it learns"

    receipt = whole.service.runs.receipt(cut.id)
    assert len({bill.instance_id for bill in receipt.machines}) == len(receipt.machines) == SCALE + 1
    assert {phase.rank for phase in receipt.phases if phase.name == Step.BARRIER} == set(range(SCALE))
