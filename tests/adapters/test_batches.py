"""Batched calls: one bad machine or one broken zone does not fail the other machines."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.adapters.ec2.batches import BATCH, each
from provisioner.core.errors import CloudError, Misconfigured, NeedsOperator, Throttled, Transient

ids = st.sets(st.integers(0, 400).map(lambda number: f"i-{number:017x}"), max_size=250)


def nowhere(_: str) -> str:
    """Return no zone, as for a machine that was never listed."""
    return ""


class Cloud:
    """A cloud that rejects a batch if it has a bad id or touches a broken zone."""

    def __init__(self, bad: set[str], broken: set[str] = frozenset(), *, names_them: bool = True) -> None:  # type: ignore[assignment]
        self.bad, self.broken, self.names_them = bad, broken, names_them
        self.done: list[str] = []
        self.calls = 0

    def zone(self, instance_id: str) -> str:
        return "abc"[int(instance_id[2:], 16) % 3]

    def accept(self, batch: list[str]) -> None:
        self.calls += 1
        assert 0 < len(batch) <= BATCH
        if self.broken & {self.zone(one) for one in batch}:
            raise Transient("a zone is broken", "InternalError")
        if bad := self.bad & set(batch):
            who = ", ".join(sorted(bad)) if self.names_them else "?"
            raise Misconfigured(f"The instance IDs '{who}' do not exist", "InvalidInstanceID.NotFound")
        self.done += batch


@given(ids, ids, st.booleans())
def test_bad_ids_are_refused_and_good_ids_done(good: set[str], bad: set[str], named: bool) -> None:
    """Each good id is done once and each bad id is reported, even if the error does not name the bad ids."""
    cloud = Cloud(bad, names_them=named)
    _, refused = each(cloud.accept, good | bad, cloud.zone)
    assert sorted(cloud.done) == sorted(good - bad)
    assert refused.keys() == bad


@given(ids)
def test_machines_of_healthy_zones_are_done_while_one_zone_fails(asked: set[str]) -> None:
    """Machines of healthy zones are done; machines of the broken zone have its error."""
    cloud = Cloud(set(), {"b"})
    _, refused = each(cloud.accept, asked, cloud.zone)
    assert refused.keys() == {one for one in asked if cloud.zone(one) == "b"}
    assert sorted(cloud.done) == sorted(asked - refused.keys())


def test_named_bad_ids_cost_one_more_call() -> None:
    """A call for 100 machines with two unknown ids takes two requests, not a hundred."""
    everyone = {f"i-{number:017x}" for number in range(100)}
    cloud = Cloud({f"i-{7:017x}", f"i-{70:017x}"})
    each(cloud.accept, everyone, nowhere)
    assert cloud.calls == 2


def test_throttling_and_missing_rights_are_not_retried_per_machine() -> None:
    """Throttling and missing rights concern the whole call, so the machines are not tried one by one."""
    for error in (Throttled("slow down"), Misconfigured("You are not authorized", "UnauthorizedOperation")):
        calls: list[list[str]] = []

        def refuse(batch: list[str], error: CloudError = error, calls: list[list[str]] = calls) -> None:
            calls.append(batch)
            raise error

        _, refused = each(refuse, ["i-1", "i-2"], nowhere)
        assert len(calls) == 1
        assert refused == {"i-1": error, "i-2": error}


def test_id_that_is_a_prefix_of_a_bad_id_is_not_refused() -> None:
    """An id that is a prefix of another id is not mistaken for it."""

    def refuse(batch: list[str]) -> None:
        if "i-12" in batch:
            raise Misconfigured('Invalid id: "i-12"', "InvalidInstanceID.Malformed")

    _, refused = each(refuse, ["i-1", "i-12", "i-123"], nowhere)
    assert refused.keys() == {"i-12"}


def test_batch_is_not_split_without_credentials() -> None:
    """The calls for the single zones would fail in the same way."""
    made: list[list[str]] = []

    def refuse(batch: list[str]) -> None:
        made.append(batch)
        raise NeedsOperator("log in", "ExpiredToken")

    ids = [f"i-{number:017x}" for number in range(3)]
    answers, refused = each(refuse, ids, lambda one: one[-1])
    assert (answers, sorted(refused), made) == ([], ids, [ids])
