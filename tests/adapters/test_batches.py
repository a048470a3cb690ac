"""Calls over many machines: one bad machine, or one broken zone, sinks nobody else."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.adapters.ec2.batches import BATCH, each
from provisioner.core.errors import CloudError, Misconfigured, Throttled, Transient

ids = st.sets(st.integers(0, 400).map(lambda number: f"i-{number:017x}"), max_size=250)


def nowhere(_: str) -> str:
    """The zone of a machine never listed."""
    return ""


class Cloud:
    """Accepts batches, but refuses one with a bad id or one that touches a broken zone."""

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
def test_a_bad_id_sinks_nobody(good: set[str], bad: set[str], named: bool) -> None:
    """All good ids are done once and all bad ones told, whether or not the error names them."""
    cloud = Cloud(bad, names_them=named)
    _, refused = each(cloud.accept, good | bad, cloud.zone)
    assert sorted(cloud.done) == sorted(good - bad)
    assert refused.keys() == bad


@given(ids)
def test_a_broken_zone_hides_no_other(asked: set[str]) -> None:
    """Machines of healthy zones are done; those of the broken one have its error."""
    cloud = Cloud(set(), {"b"})
    _, refused = each(cloud.accept, asked, cloud.zone)
    assert refused.keys() == {one for one in asked if cloud.zone(one) == "b"}
    assert sorted(cloud.done) == sorted(asked - refused.keys())


def test_named_bad_ids_cost_one_more_call() -> None:
    """A call for 100 machines of which two are unknown is made twice, not a hundred times."""
    everyone = {f"i-{number:017x}" for number in range(100)}
    cloud = Cloud({f"i-{7:017x}", f"i-{70:017x}"})
    each(cloud.accept, everyone, nowhere)
    assert cloud.calls == 2


def test_what_concerns_all_is_asked_once() -> None:
    """Throttling or missing rights are no reason to ask for every machine alone."""
    for error in (Throttled("slow down"), Misconfigured("You are not authorized", "UnauthorizedOperation")):
        calls: list[list[str]] = []

        def refuse(batch: list[str], error: CloudError = error, calls: list[list[str]] = calls) -> None:
            calls.append(batch)
            raise error

        _, refused = each(refuse, ["i-1", "i-2"], nowhere)
        assert len(calls) == 1
        assert refused == {"i-1": error, "i-2": error}


def test_an_id_is_named_whole() -> None:
    """An id that is the beginning of another one is not taken for it."""

    def refuse(batch: list[str]) -> None:
        if "i-12" in batch:
            raise Misconfigured('Invalid id: "i-12"', "InvalidInstanceID.Malformed")

    _, refused = each(refuse, ["i-1", "i-12", "i-123"], nowhere)
    assert refused.keys() == {"i-12"}
