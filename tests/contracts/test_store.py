"""The contract of `ports/store.py`, for SQLite and for the in-memory store of the simulated worlds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.access.owner_limits import OwnerLimits
from provisioner.core.errors import Conflict, LeaseLost, LimitReached
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Catchup, Concurrency, Schedule
from provisioner.core.run.records import (
    Drought,
    Event,
    KnownMachine,
    Record,
    TemplateHealth,
    Verdict,
)
from provisioner.core.run.states import State
from provisioner.ports.store import RunFilter, Store
from tests.support.stored import OFFER, audit, job, launch, node, run, token


def test_what_is_saved_is_read_back(store: Store) -> None:
    """Every kind of record is read back as it was saved, with its version raised by one."""
    records: list[Record] = [
        job(),
        run(),
        node(),
        KnownMachine("i-r1", "l1", OFFER, 1.0),
        launch(),
        Drought("spot", "g5.xlarge", "", 9.0, 2, "X"),
        TemplateHealth("t", 2, "mute", 3.0),
        Event("e1", "r1", 1.0, "it begins", "train", "ann", 2, "i-r1", "l1"),
        token(),
        audit(),
    ]
    saved = store.save(records)
    assert list(saved) == [replace(each, version=1) for each in records]
    live = store.live()
    found: list[Record] = [*live.runs, *live.nodes, *live.machines, *live.launches, *live.droughts, *live.templates]
    found += [*store.jobs(), *store.events("r1"), *store.tokens(), *store.audit(9)]
    assert {each.id: each for each in found} == {each.id: each for each in saved}
    assert (store.run("r1"), store.launch("l1")) == (saved[1], saved[4])
    assert (store.nodes("r1"), store.machines(["i-r1", "i-no"])) == ((saved[2],), (saved[3],))


def test_a_stale_record_is_a_conflict_and_nothing_is_written(store: Store) -> None:
    """A save is atomic, and only the version last read may be replaced."""
    (first,) = store.save([run()])
    store.save([replace(first, state=State.LAUNCHING)])
    several: list[Record] = [job(), replace(first, state=State.STOPPING), run("r2")]
    with pytest.raises(Conflict):
        store.save(several)
    assert store.jobs() == ()
    assert store.run("r2") is None
    kept = store.run("r1")
    assert kept
    assert (kept.state, kept.version) == (State.LAUNCHING, 2)


def test_new_record_with_an_existing_id_is_a_conflict(store: Store) -> None:
    """Version 0 means a new record: an existing id is a conflict."""
    store.save([run()])
    with pytest.raises(Conflict):
        store.save([run(at=2.0)])


def test_only_one_holds_the_lease(store: Store) -> None:
    """A held lease cannot be acquired until it is released or expires."""
    first = store.acquire("a", "daemon", now=100, seconds=60)
    assert first
    assert store.lease() == first
    assert store.renew(first, now=110, seconds=60).expires_at == 170
    store.release(first)
    second = store.acquire("b", "command", now=111, seconds=60)
    assert second
    assert second.epoch > first.epoch
    with pytest.raises(LeaseLost):
        store.renew(first, now=112, seconds=60)
    # A late release does not affect the present holder.
    store.release(first)
    assert store.renew(second, now=113, seconds=60).holder == "b"


def test_an_expired_lease_is_anybodys_and_the_old_holder_writes_nothing(store: Store) -> None:
    """A holder that hung has an old epoch: every write with it is refused completely."""
    old = store.acquire("hung", "daemon", now=100, seconds=60)
    new = store.acquire("fresh", "daemon", now=161, seconds=60)
    assert old
    assert new
    with pytest.raises(LeaseLost):
        store.save([run()], epoch=old.epoch)
    assert store.run("r1") is None
    assert store.save([run()], epoch=new.epoch)
    # Users' writes need no lease.
    assert store.save([run("r2")])


def test_a_released_lease_allows_no_writes(store: Store) -> None:
    """The former holder must not write, even if no other process took the lease."""
    lease = store.acquire("a", "command", now=100, seconds=60)
    assert lease
    store.release(lease)
    with pytest.raises(LeaseLost):
        store.save([run()], epoch=lease.epoch)


def test_live_omits_finished_records(store: Store) -> None:
    """live() omits done runs with their nodes, closed launches and ended machines."""
    several: list[Record] = [run("r1"), run("r2", at=0.5), node("r1"), node("r2"), launch("l1"), launch("l2")]
    store.save(several)
    store.save([KnownMachine("i-1", "l1", OFFER, 1.0), KnownMachine("i-2", "l2", OFFER, 1.0, ended_at=2.0)])
    done, closed = store.run("r1"), store.launch("l1")
    assert done
    assert closed
    several = [replace(done, done_at=3.0), replace(closed, closed_at=3.0)]
    store.save(several)
    live = store.live()
    over: tuple[Record, ...] = (*live.runs, *live.nodes, *live.launches, *live.machines)
    assert [each.id for each in over] == ["r2", "r2.1.0", "l2", "i-1"]
    # They can still be read by id.
    assert store.launch("l1")
    assert store.run("r1")
    assert store.nodes("r1")
    assert store.machines(["i-2"])


def test_a_deleted_job_gives_its_name_free(store: Store) -> None:
    """A name belongs to one job at a time; a deleted job is not found."""
    (first,) = store.save([job()])
    with pytest.raises(Conflict):
        store.save([job("j2")])
    store.save([replace(first, deleted_at=5.0)])
    assert store.job("ann", "train") is None
    assert store.job("ann", "train (deleted j1)") is None
    (second,) = store.save([job("j2")])
    assert store.job("ann", "train") == second
    assert store.jobs() == (second,)


def test_jobs_by_owner_and_name(store: Store) -> None:
    """Jobs are sorted by owner, then name; owners may use equal names."""
    store.save([job("1", "b", "bob"), job("2", "a", "bob"), job("3", "b", "ann")])
    assert [each.id for each in store.jobs()] == ["3", "2", "1"]


def test_jobs_of_some_owners(store: Store) -> None:
    """Only these owners' jobs are returned, scheduled or not; no owners give no jobs."""
    plan = Schedule("@daily")
    several = [job("1", "a", "bob"), replace(job("2", "b", "bob"), schedule=plan), job("3", "a", "ann")]
    store.save([*several, replace(job("4", "b", "ann"), schedule=plan)])
    assert [each.id for each in store.jobs(("bob", "nobody"))] == ["1", "2"]
    assert [each.id for each in store.scheduled(("ann",))] == ["4"]
    assert store.jobs(()) == store.scheduled(()) == ()


def test_a_job_by_its_id(store: Store) -> None:
    """The job is found until it is deleted."""
    (made,) = store.save([job()])
    assert store.job_by_id("j1") == made
    store.save([replace(made, deleted_at=1.0)])
    assert store.job_by_id("j1") is None


def test_jobs_that_have_a_schedule(store: Store) -> None:
    """Sorted by owner and name, without deleted jobs and jobs whose schedule has ended."""
    plan = Schedule("@daily", "Asia/Tokyo", Concurrency.FORBID, Catchup.ALL)
    several = [replace(job(str(number), f"n{number}"), schedule=plan) for number in range(3)]
    first, second, third = store.save(several)
    store.save([job("4", "plain"), replace(second, deleted_at=1.0), replace(third, schedule=None)])
    assert store.scheduled() == (first,)
    assert first.schedule == plan


def test_the_newest_runs_first(store: Store) -> None:
    """The runs are those of all jobs or of one, up to the limit."""
    store.save([run("r1", at=1), run("r3", at=3), run("r2", at=2, name="other"), run("r4", at=4, owner="bob")])
    assert [each.id for each in store.runs()] == ["r4", "r3", "r2", "r1"]
    assert [each.id for each in store.runs(RunFilter(limit=2))] == ["r4", "r3"]
    assert [each.id for each in store.runs(RunFilter(job="train"))] == ["r4", "r3", "r1"]
    assert [each.id for each in store.runs(RunFilter(job="train", owners=("ann",)))] == ["r3", "r1"]


def test_runs_are_filtered_by_job_owner_state_and_outcome(store: Store) -> None:
    """Filters for job, owner, state and outcome combine; an outcome matches only runs that have ended."""
    tried = Verdict(Outcome.LOST, "gone", 2.0)
    ended: dict[str, Any] = {"state": State.DONE, "verdict": Verdict(Outcome.FAILED, "1", 2.0), "ended_at": 3.0}
    several = [
        run("r1", at=1),
        replace(run("r2", at=2), verdict=tried),
        replace(run("r3", at=3), **ended),
        replace(run("r4", at=4, owner="bob"), **ended),
        replace(run("r5", at=5, owner="cat", name="other"), job_id="j2", state=State.RUNNING),
    ]
    saved = store.save(several)

    def ids(**which: Any) -> str:
        return " ".join(each.id for each in store.runs(RunFilter(**which)))

    assert ids(job_id="j2") == ids(job="other") == ids(states=(State.RUNNING,)) == "r5"
    assert ids(owners=("bob", "cat")) == "r5 r4"
    assert ids(owners=()) == ids(owners=("nobody",)) == ids(job="train", job_id="j2") == ""
    assert ids(states=(State.QUEUED, State.RUNNING)) == "r5 r2 r1"
    assert ids(outcomes=(Outcome.LOST,)) == ""
    assert ids(outcomes=(Outcome.FAILED, Outcome.LOST)) == "r4 r3"
    assert ids(owners=("ann",), outcomes=(Outcome.FAILED,), states=(State.DONE,)) == "r3"
    # A changed run is found by its new state.
    store.save([replace(saved[0], state=State.DONE, verdict=tried, ended_at=9.0)])
    assert ids(outcomes=(Outcome.LOST,)) == "r1"
    assert ids(states=(State.QUEUED,)) == "r2"


def test_page_after_page_is_every_run_once(store: Store) -> None:
    """The pages are complete for runs created at the same moment, and while new runs are added."""
    store.save([run(f"r{number}", at=number // 3) for number in range(10)])
    seen, after = list[str](), None
    while page := store.runs(RunFilter(after=after, limit=2)):
        seen += [each.id for each in page]
        after = page[-1].created_at, page[-1].id
        store.save([run(f"new{len(seen)}", at=99)])
    assert seen == [f"r{number}" for number in range(9, -1, -1)]


def test_runs_by_the_beginning_of_their_id(store: Store) -> None:
    """At most three runs are returned. A prefix is no pattern, and other owners' runs are omitted."""
    store.save([run(id) for id in ("aa1", "aa2", "aa3", "aa4", "ab1")])
    store.save([run("aa5", owner="bob")])
    assert [each.id for each in store.runs_like("aa", ("bob",))] == ["aa5"]
    assert store.runs_like("aa", ()) == store.runs_like("aa1", ("bob",)) == ()
    assert [each.id for each in store.runs_like("aa")] == ["aa1", "aa2", "aa3"]
    assert [each.id for each in store.runs_like("ab1")] == ["ab1"]
    assert store.runs_like("%") == store.runs_like("a_") == store.runs_like("*") == ()


def test_same_idempotency_key_gives_the_same_run(store: Store) -> None:
    """A key gives the same run until it is forgotten; without a key every trigger is a run."""
    first = store.add_run(run("r1", at=100, key="k"), since=0)
    assert store.add_run(run("r2", at=110, key="k"), since=50) == first
    assert store.add_run(run("r3", at=200, key="k"), since=150).id == "r3"
    other = replace(run("r4", at=110, key="k"), job_id="j2")
    assert store.add_run(other, since=50).id == "r4"
    assert [store.add_run(run(id), since=0).id for id in ("r5", "r6")] == ["r5", "r6"]


def test_run_and_its_extra_records_are_stored_atomically(store: Store) -> None:
    """Run and extra records are stored together: none if the key was used or one cannot be stored."""
    event = Event("e1", "r1", 1.0, "queued")
    store.add_run(run("r1", at=100, key="k"), 0, [event, audit()])
    assert [each.text for each in store.events("r1")] == ["queued"]
    assert [each.id for each in store.audit(9)] == ["a1"]
    store.add_run(run("r2", at=100, key="k"), 0, [audit("a2")])
    with pytest.raises(Conflict):
        store.add_run(run("r3", at=100), 0, [audit("a3"), audit()])
    assert [each.id for each in store.audit(9)] == ["a1"]
    assert [each.id for each in store.runs()] == ["r1"]
    assert [each.id for each in store.live().runs] == ["r1"]


def test_tokens_newest_first(store: Store) -> None:
    """All tokens are listed, and each is found by its id."""
    saved = store.save([token("t1", 1.0), token("t2", 2.0)])
    assert store.tokens() == saved[::-1]
    assert store.token("t1") == saved[0]
    assert store.token("t3") is None
    (changed,) = store.save([replace(saved[0], revoked_at=3.0)])
    assert store.token("t1") == changed


def test_the_newest_changes_first(store: Store) -> None:
    """Pages include all entries of the same moment."""
    store.save([audit(f"a{number}", number // 2) for number in range(5)])
    first = store.audit(2)
    assert [each.id for each in first] == ["a4", "a3"]
    assert [each.id for each in store.audit(9, (first[-1].at, first[-1].id))] == ["a2", "a1", "a0"]


def test_simultaneous_starts_with_one_key_give_one_run(store: Store) -> None:
    """Eight simultaneous triggers get the same run."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: store.add_run(run(f"r{n}", at=100, key="k"), since=0).id, range(8)))
    assert len(set(found)) == 1
    assert len(store.runs()) == 1


def test_a_story_is_told_in_order(store: Store) -> None:
    """Events are sorted by time, then by the order in which they were saved."""
    store.save([Event("e2", "r1", 2.0, "b"), Event("e9", "r1", 1.0, "a"), Event("e1", "r1", 2.0, "c")])
    store.save([Event("e3", "r2", 1.0, "other")])
    assert [each.text for each in store.events("r1")] == ["a", "b", "c"]


def test_remembered_values_are_replaced(store: Store) -> None:
    """The last value is returned with its time, or None if no value was stored."""
    assert store.remembered("k") is None
    store.remember("k", "1", 5.0)
    store.remember("k", "2", 6.0)
    assert store.remembered("k") == ("2", 6.0)


def test_a_choice_stands_until_it_is_taken_back(store: Store) -> None:
    """A choice is empty until it is made and after it is reset."""
    assert store.chosen("ami") == ""
    store.choose("ami", "ami-1")
    store.choose("other", "x")
    assert store.chosen("ami") == "ami-1"
    store.choose("ami", "")
    assert store.chosen("ami") == ""


def test_the_store_keeps_its_id(store: Store) -> None:
    """The id never changes."""
    assert store.id() == store.id() != ""


def test_start_beyond_an_owners_run_limit_is_refused_until_a_run_is_done(store: Store) -> None:
    """Finished runs and other owners' runs do not count, and a refused start stores nothing."""
    limits = OwnerLimits(unfinished_runs=2)
    store.save([replace(run(f"done-{number}"), done_at=9.0) for number in range(5)])
    store.save([run(f"bob-{number}", owner="bob") for number in range(5)])
    first, _ = (store.add_run(run(id), 0.0, limits=limits) for id in ("r1", "r2"))
    event = Event("e1", "r3", 1.0, "queued")
    with pytest.raises(LimitReached) as refused:
        store.add_run(run("r3"), 0.0, [event], limits)
    assert refused.value.limit == "limits.unfinished_runs"
    assert (store.run("r3"), store.events("r3")) == (None, ())
    assert store.add_run(run("r4"), 0.0).id == "r4"
    store.save([replace(each, done_at=9.0) for each in store.live().runs if each.id in ("r1", "r4")])
    assert store.add_run(run("r3"), 0.0, [event], limits).id == "r3"
    assert first.version == 1


def test_known_key_gives_its_run_to_an_owner_at_the_limit(store: Store) -> None:
    """A repeated start with a known key is not a new start."""
    limits = OwnerLimits(unfinished_runs=1)
    store.add_run(run("r1", key="k"), 0.0, limits=limits)
    assert store.add_run(run("r2", key="k"), 0.0, limits=limits).id == "r1"


def test_start_beyond_an_owners_byte_limit_is_refused(store: Store) -> None:
    """Jobs and unfinished runs count with their stored size, variables included."""
    limits = OwnerLimits(stored_bytes=10_000)
    store.save([replace(job(), recipe="x" * 4_000)], limits=limits)
    store.add_run(replace(run("r1"), recipe="x" * 4_000), 0.0, limits=limits)
    with pytest.raises(LimitReached) as refused:
        store.add_run(replace(run("r2"), recipe="x" * 4_000), 0.0, limits=limits)
    assert refused.value.limit == "limits.stored_mib"
    store.save([replace(store.live().runs[0], done_at=9.0)])
    assert store.add_run(replace(run("r2"), recipe="x" * 4_000), 0.0, limits=limits).id == "r2"


def test_job_beyond_an_owners_byte_limit_is_refused_and_a_smaller_one_is_stored(store: Store) -> None:
    """After the limit was lowered, an owner may still store a smaller version of a job."""
    (large,) = store.save([replace(job(), recipe="x" * 9_000)])
    limits = OwnerLimits(stored_bytes=5_000)
    with pytest.raises(LimitReached):
        store.save([replace(large, recipe="x" * 9_500)], limits=limits)
    assert store.job("ann", "train") == large
    (smaller,) = store.save([replace(large, recipe="x" * 8_000)], limits=limits)
    store.save([replace(smaller, deleted_at=9.0)], limits=limits)
    assert store.save([replace(job("j2"), recipe="x" * 4_000)], limits=limits)


def test_simultaneous_starts_stay_within_the_limit(store: Store) -> None:
    """A refused start does not undo an accepted one."""

    def start(number: int) -> bool:
        try:
            return bool(store.add_run(run(f"r{number}"), 0.0, limits=OwnerLimits(unfinished_runs=10)))
        except LimitReached:
            return False

    with ThreadPoolExecutor(20) as pool:
        started = list(pool.map(start, range(40)))
    assert (started.count(True), len(store.live().runs)) == (10, 10)
