"""An image's tables of users and groups; the image is not trusted."""

import io
import tarfile

import pytest

from provisioner.agent.job.container import first_file


def packed(content: bytes, kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("passwd")
        member.type, member.size, member.linkname = kind, len(content), "elsewhere"
        archive.addfile(member, io.BytesIO(content))
    data = made.getvalue()
    return data if size is None else member_with(size) + data[512:]


def member_with(size: int) -> bytes:
    member = tarfile.TarInfo("passwd")
    member.size = size
    return member.tobuf()


def test_table_of_an_image_is_read() -> None:
    """The table maps user names to numbers."""
    assert first_file(packed(b"root:x:0:0::/root:/bin/sh\n")) == "root:x:0:0::/root:/bin/sh\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 2000, packed(b"", tarfile.SYMTYPE), packed(b"", tarfile.FIFOTYPE), packed(b"root", size=1 << 40)],
    ids=["no tar", "damaged", "link", "pipe", "cut off"],
)
def test_table_that_cannot_be_read_is_empty(data: bytes) -> None:
    """With an empty table the job runs as the image's numeric user, or as root; the agent does not crash."""
    assert first_file(data) == ""
