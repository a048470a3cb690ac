"""Tokens: which are accepted or rejected, how long they live, and that a stolen store contains none."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.adapters.system import RandomIds
from provisioner.core.access.callers import Caller
from provisioner.core.access.throttle import FREE, LONGEST
from provisioner.core.errors import Denied, Forbidden, Invalid, NotFound, TooMany
from provisioner.core.views.token import NewToken
from provisioner.ports.store import Store
from provisioner.service.access.tokens import Gate, Tokens
from tests.service.world import TESTER, World

HERE, THERE = "192.0.2.1", "192.0.2.2"
HOUR = 3600.0


class Process:
    """A process that checks tokens by the clock of a world."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.world = World(store=store)
        self.access = Gate(store, self.world.installation.clock)
        self.tokens = self.tokens_of(TESTER)

    def tokens_of(self, caller: Caller) -> Tokens:
        here = self.world.installation
        return Tokens(here.store, here.recorder, here.clock, RandomIds(), self.access, caller)

    def token(self, *owners: str, admin: bool = False, expires_in: float | None = None) -> NewToken:
        return self.tokens.create(owners or ("ann",), admin=admin, expires_in=expires_in)

    def denied(self, token: str, source: str = HERE) -> str:
        with pytest.raises(Denied) as met:
            self.access.admit(token, source)
        return str(met.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def gate(path: Path) -> Iterator[Process]:
    store = SqlStore(path, RandomIds())
    yield Process(store)
    store.close()


def test_valid_token_gives_its_owners_role_and_source(gate: Process) -> None:
    """The caller has the token's owners and role and its source; each token is different."""
    user, admin = gate.token("ann", "team/ann"), gate.token("bob", admin=True)
    assert re.fullmatch(r"pvt_[0-9a-f]{12}_[\w-]{43}", user.token)
    assert gate.access.admit(user.token, HERE) == Caller(user.id, ("ann", "team/ann"), admin=False, source=HERE)
    assert gate.access.admit(admin.token, THERE) == Caller(admin.id, ("bob",), admin=True, source=THERE)
    assert {each.id for each in gate.tokens.all()} == {admin.id, user.id}


def test_a_token_is_not_shown_where_it_is_printed(gate: Process) -> None:
    """The object in a log line or traceback shows no secret."""
    made = gate.token()
    assert made.token not in f"{made!r} {made} {gate.access.admit(made.token, HERE)!r}"


@pytest.mark.parametrize(
    "change", ["{}x", "x{}", "{} ", "{}\n", "", "pvt__", "é", "\ud800", "pvt_" + "0" * 12 + "_" + "A" * 43]
)
def test_malformed_token_is_denied(gate: Process, change: str) -> None:
    """Text similar to a token is rejected without an error."""
    made = gate.token()
    assert "unknown" in gate.denied(change.format(made.token))
    assert "unknown" in gate.denied(change.format(made.token[:-1]))


def test_an_expired_token_says_so(gate: Process) -> None:
    """A token is rejected from its expiry on, also by a process that accepted it before; a wrong secret is unknown."""
    made = gate.token(expires_in=HOUR)
    gate.world.advance(HOUR - 1)
    assert gate.access.admit(made.token, HERE)
    gate.world.advance(1)
    assert "expired" in gate.denied(made.token)
    wrong = made.token[:-1] + ("A" if made.token[-1] != "A" else "B")
    assert "unknown" in gate.denied(wrong)


def test_a_revoked_token_is_denied_at_once(gate: Process, path: Path) -> None:
    """A revocation by another process takes effect within a tenth of a second."""
    mine, theirs = gate.token(), gate.token()
    other = Process(SqlStore(path, RandomIds()))
    assert gate.access.admit(mine.token, HERE)
    assert gate.access.admit(theirs.token, HERE)
    gate.tokens.revoke(mine.id)
    assert "revoked" in gate.denied(mine.token)
    revoked = other.tokens.revoke(theirs.id)
    gate.world.advance(0.2)
    assert "revoked" in gate.denied(theirs.token)
    assert other.tokens.revoke(theirs.id) == revoked
    with pytest.raises(NotFound, match="no token 'none'"):
        gate.tokens.revoke("none")
    other.store.close()


def test_a_source_that_is_denied_again_and_again_waits(gate: Process) -> None:
    """The error has the time to wait; other addresses, and tokens accepted before, are not throttled."""
    known, fresh = gate.token(), gate.token()
    assert gate.access.admit(known.token, HERE)
    for _ in range(FREE):
        gate.denied("pvt_wrong")
    with pytest.raises(TooMany, match="try again in 1 s") as met:
        gate.access.admit(fresh.token, HERE)
    assert met.value.retry_after == 1
    assert gate.access.admit(fresh.token, THERE)
    assert gate.access.admit(known.token, HERE)
    # After a write to the store, the token that was accepted before is still not throttled.
    gate.token()
    assert gate.access.admit(known.token, HERE)
    gate.world.advance(1)
    gate.denied("pvt_wrong")
    with pytest.raises(TooMany) as met:
        gate.access.admit("pvt_wrong", HERE)
    assert met.value.retry_after == 2
    gate.world.advance(LONGEST)
    assert gate.access.admit(gate.token().token, HERE)


def test_content_of_a_stolen_store_is_no_token(gate: Process, path: Path) -> None:
    """The store's files have no secret, and nothing in them works as a token."""
    made = gate.token("ann", admin=True)
    assert gate.access.admit(made.token, HERE)
    gate.store.close()
    data = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert made.id.encode() in data
    assert made.token[-43:].encode() not in data
    thief = Process(SqlStore(path, RandomIds()))
    stored = thief.store.token(made.id)
    assert stored
    words = {word.decode() for word in re.findall(rb"[\w-]{43}", data)} | {stored.sha256[:43]}
    assert words
    for number, word in enumerate(words):
        thief.denied(f"pvt_{made.id}_{word}", f"10.0.{number >> 8}.{number & 255}")
    thief.denied(f"pvt_{made.id}_{stored.sha256}", THERE)
    thief.store.close()


@pytest.mark.parametrize(
    ("owners", "fields", "why"),
    [
        ((), {}, "at least one --owner"),
        (("Ann",), {}, "invalid owner 'Ann'"),
        (("ann", "a/b/c"), {}, "invalid owner 'a/b/c'"),
        (("ann",), {"expires_in": 0.0}, "more than 0 s"),
        (("ann",), {"note": "two\nlines"}, "one line"),
        (("ann",), {"note": "x" * 201}, "one line"),
    ],
)
def test_token_with_invalid_fields_is_refused(
    gate: Process, owners: tuple[str, ...], fields: dict[str, Any], why: str
) -> None:
    """Neither a token nor an audit entry is stored."""
    with pytest.raises(Invalid, match=why):
        gate.tokens.create(owners, admin=False, **fields)
    assert not gate.tokens.all()
    assert not gate.tokens.audit().entries


def test_only_admins_have_to_do_with_tokens_and_the_audit(gate: Process) -> None:
    """A user is forbidden every operation on tokens and the audit."""
    made = gate.token()
    tokens = gate.tokens_of(gate.access.admit(made.token, HERE))
    deeds: tuple[Callable[[], object], ...] = (
        lambda: tokens.create(["ann"], admin=False),
        tokens.all,
        lambda: tokens.revoke(made.id),
        tokens.audit,
    )
    for deed in deeds:
        with pytest.raises(Forbidden, match="admin"):
            deed()


def test_tokens_are_in_the_audit(gate: Process) -> None:
    """The audit has creation and revocation, with caller and source; a second revocation adds nothing."""
    first = gate.token("root", admin=True)
    tokens = gate.tokens_of(gate.access.admit(first.token, THERE))
    gate.world.advance(1)
    made = tokens.create(["ann"], admin=False)
    for _ in range(2):
        gate.world.advance(1)
        tokens.revoke(made.id)
    told = [(each.who, each.source, each.what, each.owner, each.target) for each in gate.tokens.audit().entries]
    assert told == [
        (first.id, THERE, "revoke token", "ann", made.id),
        (first.id, THERE, "create token", "ann", made.id),
        ("local:tester", "local", "create token", "root", first.id),
    ]


def test_wrong_secrets_for_an_accepted_token_are_throttled_and_its_holder_is_not(gate: Process) -> None:
    """A token's id is in the audit, so others may guess its secret. Guesses are throttled, the holder is not."""
    made = gate.token()
    gate.access.admit(made.token, THERE)
    guess = made.token[:-43] + "A" * 43
    for _ in range(FREE):
        gate.denied(guess)
    with pytest.raises(TooMany):
        gate.access.admit(guess, HERE)
    for source in (HERE, THERE):
        assert gate.access.admit(made.token, source).name == made.id


def test_accepted_token_that_was_revoked_is_throttled_as_any_other(gate: Process) -> None:
    """Only a valid token is exempt from the throttle."""
    made = gate.token(expires_in=HOUR)
    gate.access.admit(made.token, HERE)
    gate.world.advance(HOUR + 1)
    for _ in range(FREE):
        gate.denied(made.token)
    with pytest.raises(TooMany):
        gate.access.admit(made.token, HERE)
