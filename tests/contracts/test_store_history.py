"""The contract of `ports/store.py` for pages of jobs and for their past."""

from dataclasses import replace

from provisioner.core.history.runs import PastRun
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import KEPT_BYTES, KEPT_REVISIONS, Job, Revision
from provisioner.core.run.records import Record, Run, Verdict
from provisioner.core.run.states import State
from provisioner.ports.store import JobFilter, Store
from tests.support.stored import job, node, run


def ended(id: str, at: float) -> Run:
    verdict = Verdict(Outcome.FAILED, "the command exited 3", at + 60, 3)
    done = replace(run(id, at=at), state=State.DONE, verdict=verdict, ended_at=at + 60, done_at=at + 61)
    return replace(done, dollars_at_least=0.25, dollars_at_most=0.5, job_revision=7)


def test_past_runs_are_the_last_of_each_job_with_the_time_of_their_first_machine(store: Store) -> None:
    """A run's later attempts do not change when it began."""
    attempts = [replace(node("r2", attempt), bound_at=float(10 + attempt), id=f"n{attempt}") for attempt in (2, 1)]
    other = replace(run("r9", at=1.0), job_id="j2")
    records: list[Record] = [ended("r1", 1.0), ended("r2", 2.0), run("r3", at=3.0), other, *attempts]
    store.save(records)
    unbound = PastRun("r3", "j1", 1, State.QUEUED, None, 3.0, None, None, None, None)
    began = PastRun("r2", "j1", 7, State.DONE, Outcome.FAILED, 2.0, 11.0, 62.0, 0.25, 0.5)
    assert store.past_runs(["j1"], 2) == (unbound, began)
    found = store.past_runs(["j2", "j1", "unknown"], 3)
    assert [(each.job_id, each.id) for each in found] == [("j2", "r9"), ("j1", "r3"), ("j1", "r2"), ("j1", "r1")]


def test_pages_of_jobs_continue_after_the_last_job(store: Store) -> None:
    """Two owners may have jobs of the same name: the owner is part of a page's end."""
    names = [("ann", "b"), ("bob", "a"), ("ann", "a"), ("org/cat", "a")]
    store.save([job(f"j{at}", name, owner) for at, (owner, name) in enumerate(names)])
    first = store.jobs_page(JobFilter(limit=2))
    assert [(each.owner, each.name) for each in first] == [("ann", "a"), ("ann", "b")]
    rest = store.jobs_page(JobFilter(after=("ann", "b"), limit=9))
    assert [(each.owner, each.name) for each in rest] == [("bob", "a"), ("org/cat", "a")]


def test_jobs_are_searched_by_owner_and_name_within_the_callers_owners(store: Store) -> None:
    """`%` and `_` have no special meaning, and deleted jobs are not found."""
    deleted = replace(job("j4", "train-old"), deleted_at=2.0)
    store.save([job("j1", "Train"), job("j2", "eval_1"), job("j3", "train", "bob"), deleted])

    def named(search: str, owners: tuple[str, ...] | None = None) -> list[str]:
        return [each.id for each in store.jobs_page(JobFilter(owners, search))]

    assert named("TRAIN") == ["j1", "j3"]
    assert named("train", ("ann",)) == ["j1"]
    assert named("ann/ev") == ["j2"]
    assert named("l_") == ["j2"]
    assert named("n_") == named("%") == []


def revision(number: int, job: str = "j1", recipe: str = "{}") -> Revision:
    return Revision(f"{job}-{number}", job, number, recipe, float(number), "local:root", "ann")


def test_revisions_of_a_job_are_read_latest_first_in_pages(store: Store) -> None:
    """Another job's revisions have the same numbers."""
    store.save([*map(revision, (1, 2, 3)), revision(2, "j2")])
    assert [each.number for each in store.revisions("j1", None, 2)] == [3, 2]
    assert [each.number for each in store.revisions("j1", 2, 9)] == [1]
    assert store.revision("j1", 2) == replace(revision(2), version=1)
    assert store.revision("j2", 3) is None
    assert store.revision("j2", 1) is None


def test_only_the_latest_revisions_are_kept(store: Store) -> None:
    """A program that applies a job every minute must not fill the disk."""
    for number in range(1, KEPT_REVISIONS + 3):
        store.save([revision(number)])
    kept = [each.number for each in store.revisions("j1", None, 1000)]
    assert kept == list(range(KEPT_REVISIONS + 2, 2, -1))


def test_revisions_of_a_deleted_job_are_deleted(store: Store) -> None:
    records: list[Record] = [job(), revision(1), revision(1, "j2")]
    (stored, *_) = store.save(records)
    assert isinstance(stored, Job)
    store.save([replace(stored, deleted_at=2.0)])
    assert store.revisions("j1", None, 9) == ()
    assert len(store.revisions("j2", None, 9)) == 1


def test_oldest_revisions_of_an_owner_make_room_for_new_ones(store: Store) -> None:
    """The bytes of all revisions of an owner are bounded, and `apply` still works at this bound."""
    large = "x" * (KEPT_BYTES // 40)
    store.save([replace(revision(1, "j9"), owner="bob"), revision(1, "j1"), revision(1, "j2", large)])
    for number in range(2, 45):
        store.save([revision(number, "j2", large)])
    kept = store.revisions("j2", None, 100)
    assert (kept[0].number, store.revisions("j1", None, 9)) == (44, ())
    assert KEPT_BYTES * 0.7 < sum(len(each.recipe) for each in kept) < KEPT_BYTES
    assert len(store.revisions("j9", None, 9)) == 1
