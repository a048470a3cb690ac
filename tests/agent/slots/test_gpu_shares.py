import pytest

from provisioner.agent.slots.gpu_shares import shares


@pytest.mark.parametrize(
    ("gpus", "slots", "expected"),
    [
        ("abcd", 1, ["abcd"]),
        ("abcd", 2, ["ab", "cd"]),
        ("abcd", 3, ["a", "b", "c"]),
        ("abcd", 4, ["a", "b", "c", "d"]),
        ("ab", 5, ["a", "b", "a", "b", "a"]),
        ("", 2, ["", ""]),
    ],
)
def test_slots_have_equal_numbers_of_gpus_of_their_own_or_share_by_turns(
    gpus: str, slots: int, expected: list[str]
) -> None:
    assert ["".join(share) for share in shares(list(gpus), slots)] == expected
