"""`provision token`, `provision audit`, and the filters of `provision runs`."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from provisioner.core import errors
from provisioner.faces.cli import exits
from tests.cli.conftest import Done, Provision

pytestmark = pytest.mark.usefixtures("whole")

TOKEN = {
    *("id", "owners", "role", "note", "state", "created_at", "created_by", "expires_at", "revoked_at"),
}
AUDIT = {"id", "at", "who", "source", "what", "owner", "target"}


def value(done: Done) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def caller() -> tuple[str, str]:
    """Return the beginning of the caller's name in the audit, and the source."""
    token = os.environ.get("PROVISION_TOKEN")
    return (token.split("_")[1], "127.0.0.1") if token else ("local:", "local")


def test_a_token_is_shown_once(provision: Provision) -> None:
    """Only `create` prints the token, alone on standard output."""
    done = provision(
        "token", "create", "--owner", "ann", "--owner", "team/ann", "--expires", "29d24h", "--note", "Ann's"
    )
    token = done.out.decode().strip()
    assert token.startswith("pvt_")
    id = token[4:16]
    assert f"provision token revoke {id}" in done.err
    assert token not in done.err
    listed = provision("token", "list")
    [row] = [line for line in listed.out.decode().splitlines() if line.startswith(id)]
    assert row.split()[:4] == [id, "user", "ann", "team/ann"]
    assert row.endswith("Ann's")
    everything = listed.out + provision("token", "list", "--json").out + provision("audit", "--json").out
    assert token[17:].encode() not in everything


def test_tokens_as_json(provision: Provision) -> None:
    """Covers the fields of a token, and its state after revocation."""
    made = value(provision("token", "create", "--owner", "bob", "--role", "admin", "--json"))
    assert made.keys() == {*TOKEN, "token"}
    assert (made["owners"], made["role"], made["state"], made["expires_at"]) == (["bob"], "admin", "valid", None)
    assert made["created_by"].startswith(caller()[0])
    [listed] = [each for each in value(provision("token", "list", "--json")) if each["id"] == made["id"]]
    assert listed.keys() == TOKEN
    assert provision("token", "revoke", made["id"]).out.decode() == f"token {made['id']} is revoked\n"
    again = value(provision("token", "revoke", made["id"], "--json"))
    assert again.keys() == TOKEN
    assert (again["state"], again["revoked_at"] is None) == ("revoked", False)


def test_the_audit_tells_who_changed_what(provision: Provision, recipe: Callable[..., str]) -> None:
    """The newest entries come first, at most `-n`."""
    provision("apply", recipe("audited"))
    provision("delete", "audited")
    newest, before = value(provision("audit", "-n", "2", "--json"))
    assert newest.keys() == AUDIT
    assert [(each["what"], each["owner"], each["target"]) for each in (newest, before)] == [
        ("delete", "tester", "audited"),
        ("apply", "tester", "audited"),
    ]
    who, source = caller()
    assert newest["who"].startswith(who)
    assert newest["source"] == source
    head, line = provision("audit", "-n", "1").out.decode().splitlines()
    assert head.split() == ["AT", "WHO", "FROM", "WHAT", "OWNER", "TARGET"]
    assert line.split()[-4:] == [source, "delete", "tester", "audited"]


def test_runs_are_filtered_by_state_outcome_and_owner(provision: Provision, recipe: Callable[..., str]) -> None:
    """Runs can be filtered by state, outcome and owner."""
    provision("apply", recipe("good"))
    provision("apply", recipe("bad"))
    good, bad = (value(provision("start", job, "--json", "--detach"))["id"] for job in ("good", "bad"))
    provision("wait", good, bad)

    def ids(*words: str) -> set[str]:
        return {each["id"] for each in value(provision("runs", "--json", *words))} & {good, bad}

    assert ids("--outcome", "failed") == {bad}
    assert ids("--outcome", "failed", "--outcome", "succeeded", "--owner", "tester") == {good, bad}
    assert ids("--state", "queued") == ids("--owner", "nobody") == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create",), "'--owner'"),
        (("create", "--owner", "Ann"), "invalid owner 'Ann'"),
        (("create", "--owner", "ann", "--role", "root"), "'root' is not a role"),
        (("create", "--owner", "ann", "--expires", "soon"), "'soon': write a duration"),
        (("create", "--owner", "ann", "--expires", "0"), "'0': "),
        (("create", "--owner", "ann", "--expires", "1.5"), "'1.5': "),
        (("create", "--owner", "ann", "--expires", "99999999999h"), "'99999999999h': write at most "),
    ],
)
def test_wrong_token_option_gives_a_hint(provision: Provision, words: tuple[str, ...], told: str) -> None:
    """Each mistake gives a line that says what to do."""
    done = provision("token", *words)
    assert (done.code, done.out) == (exits.INVALID, b"")
    assert told in done.err


def test_unknown_token_is_not_found(provision: Provision) -> None:
    """An unknown token is not found."""
    done = provision("token", "revoke", "none")
    assert (done.code, done.err) == (
        exits.NOT_FOUND,
        "provision: no token 'none'; `provision token list` lists the tokens\n",
    )


def test_denied_exits_77_and_throttled_75() -> None:
    """77 means that the command is not allowed, 75 that a retry may succeed."""
    for error in (errors.Denied("x"), errors.Forbidden("x"), errors.WrongStore("x")):
        assert exits.of_error(error) == 77
    assert exits.of_error(errors.TooMany("x", 2.0)) == 75
