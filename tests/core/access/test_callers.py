"""Owners whose jobs and runs a caller may use."""

import pytest

from provisioner.core.access.callers import Caller


@pytest.mark.parametrize(
    ("owners", "owner", "allowed"),
    [
        (("bob",), "bob", True),
        (("bob",), "team/bob", False),
        (("team/bob",), "bob", False),
        (("team/bob",), "other/bob", False),
        (("bob",), "bo", False),
        (("bob",), "bobby", False),
        (("ann", "team/ann"), "team/ann", True),
    ],
)
def test_a_caller_may_touch_what_belongs_to_an_owner_of_the_very_same_name(
    owners: tuple[str, ...], owner: str, allowed: bool
) -> None:
    """`team/bob` and `bob` are different owners."""
    assert Caller("token", owners, admin=False, source="local").may(owner) is allowed
    assert Caller("token", owners, admin=True, source="local").may(owner)


def test_an_admin_sees_everything_and_a_user_what_its_owners_have() -> None:
    """`sees` is the filter of store queries; None means no filter and is for admins only."""
    assert Caller("token", ("ann",), admin=True, source="local").sees is None
    assert Caller("token", ("ann",), admin=False, source="local").sees == ("ann",)
