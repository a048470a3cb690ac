"""The parts of an upload."""

from dataclasses import replace

from provisioner.agent.aws.http import LARGEST
from provisioner.core.commands.uploads import Upload, part_key, upload_of
from provisioner.core.recipe.fields import LONGEST_ARGUMENT

UPLOAD = Upload("u1", "ann", 1.0, 12, 99, (0, 5, 7), "5e", 20)


def test_commands_are_found_in_their_parts() -> None:
    assert list(UPLOAD.spread(0, 12)) == [(0, 0, 5), (1, 0, 2), (2, 0, 5)]
    assert list(UPLOAD.spread(4, 2)) == [(0, 4, 5), (1, 0, 1)]
    assert list(UPLOAD.spread(11, 1)) == [(2, 4, 5)]
    assert list(UPLOAD.spread(3, 0)) == []


def test_a_batch_is_no_larger_than_an_agent_can_read() -> None:
    """Even if it has only the longest commands of the list."""
    assert replace(UPLOAD, longest=(1 << 20) - 1).batch_most == 8
    for longest in (1, 4096, LONGEST_ARGUMENT):
        most = replace(UPLOAD, longest=longest).batch_most
        assert most > 60
        assert most * (longest + 1) <= LARGEST / 2


def test_a_part_is_found_by_its_upload() -> None:
    assert part_key("u1", 7) == "uploads/u1/000007"
    assert upload_of(part_key("u1", 7)) == "u1"
