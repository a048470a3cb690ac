"""The parts of an upload."""

from provisioner.core.commands.uploads import Upload, part_key, upload_of

UPLOAD = Upload("u1", "ann", 1.0, 12, 99, (0, 5, 7), "5e")


def test_commands_are_found_in_their_parts() -> None:
    assert list(UPLOAD.spread(0, 12)) == [(0, 0, 5), (1, 0, 2), (2, 0, 5)]
    assert list(UPLOAD.spread(4, 2)) == [(0, 4, 5), (1, 0, 1)]
    assert list(UPLOAD.spread(11, 1)) == [(2, 4, 5)]
    assert list(UPLOAD.spread(3, 0)) == []


def test_a_batch_has_at_most_the_commands_of_the_smallest_whole_part() -> None:
    """So the texts of commands that follow each other are those of two parts; the last part may have fewer commands."""
    assert UPLOAD.batch_most == 2
    assert Upload("u1", "ann", 1.0, 12, 99, (0,), "5e").batch_most == 12


def test_a_part_is_found_by_its_upload() -> None:
    assert part_key("u1", 7) == "uploads/u1/000007"
    assert upload_of(part_key("u1", 7)) == "u1"
