"""Lists while calls fail: each command ends once, and begins once in each generation."""

import pytest

from provisioner.core.protocol.words import Outcome
from tests.service.listed import Aim, Listed
from tests.service.trouble import Fate

#: The calls of a pass that concern lists, in the order of the steps: port, method, and a part of the subject.
CALLS = [
    ("bucket", "get", "/records/"),
    ("bucket", "put", "/records/"),
    ("store", "save", "RecordChunk"),
    ("bucket", "delete", ""),
    ("store", "save", "Block"),
    ("bucket", "put", "/chunks/"),
    ("store", "save", "Batch"),
    ("bucket", "put", "/orders"),
    ("store", "save", "CommandList"),
]


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.HANG])
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_each_command_ends_once_wherever_a_process_is_killed_or_hangs(
    call: tuple[str, str, str], fate: Fate, nth: int
) -> None:
    """The first machine is lost while two commands run."""
    aim = Aim(fate, *call, nth)
    listed = Listed(fates=aim)
    begun = listed.play()
    assert not aim.left
    assert max(begun.values()) == 1
    assert {index for index, _ in begun} == set(range(10))
    assert {index for index, generation in begun if generation == 2} <= set(range(2, 10))
    commands = listed.commands
    assert (commands.succeeded, commands.open, commands.sealed_at is not None) == (10, 0, True)
    assert listed.run.verdict
    assert listed.run.verdict.outcome is Outcome.SUCCEEDED
    assert not [text for text in listed.world.told if "internal error" in text]


@pytest.mark.parametrize("fate", [Fate.REFUSE, Fate.LOSE, Fate.TWICE])
@pytest.mark.parametrize("call", [each for each in CALLS if each[0] == "bucket"], ids=" ".join)
def test_an_error_of_the_bucket_only_delays_the_list(call: tuple[str, str, str], fate: Fate) -> None:
    aim = Aim(fate, *call, 2)
    listed = Listed(fates=aim)
    assert max(listed.play().values()) == 1
    assert (listed.commands.succeeded, aim.left) == (10, 0)
