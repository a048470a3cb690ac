"""The store's file is moved away while a control plane acts, and put back."""

import contextlib
from pathlib import Path

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.service.agents import Script
from tests.service.world import World


def test_control_plane_stops_acting_while_its_store_is_away_and_goes_on_afterwards(tmp_path: Path) -> None:
    """The control plane keeps running, logs one line, makes no new store, and ends no machine because of the outage."""
    path, away = tmp_path / "store.db", tmp_path / "away.db"
    with contextlib.closing(SqlStore(path, CountingIds())) as store:
        world = World(scripts=lambda _: Script(command=100.0), busy=1.0, store=store)
        run = world.start(limits={"silence": "3m"})
        world.plan(30.0, lambda: path.rename(away))
        seen = list[tuple[int, bool]]()
        world.plan(60.0, lambda: seen.append((len(world.calls), path.exists())))
        world.plan(90.0, lambda: seen.append((len(world.calls), path.exists())))
        world.plan(90.0, lambda: away.rename(path))
        _, service = world.incarnate()
        service.operator.drive(lambda: world.now() > world.began + 250, world.told.extend, schedules=True)
        found = store.run(run.id)
        assert found
        assert found.verdict
        assert (found.verdict.outcome, found.attempt) == (Outcome.SUCCEEDED, 1)
    (begins, _), (ends, _) = seen
    # The reaper uses the cloud's clock and needs no store.
    acts = {call.method for call in world.calls[begins:ends] if call.port in ("cloud", "bucket")} - {"machines"}
    assert (acts, [exists for _, exists in seen]) == (set(), [False, False])
    told = [line["error"] for line in world.journal.told if str(path) in str(line.get("error", ""))]
    assert len(told) == 1
