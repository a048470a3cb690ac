"""Batches of commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.protocol.batches import BatchHead, decode_batch, encode_batch

HEAD = BatchHead("r1", 2, 0, 3, ((7, 1, 2), (10, 2, 1)))

texts = st.binary(min_size=1, max_size=20).map(lambda text: text.replace(b"\0", b"\n"))


@given(st.tuples(texts, texts, texts))
def test_a_batch_is_read_back(commands: tuple[bytes, ...]) -> None:
    """The texts may have any bytes but NUL, also line ends."""
    data = encode_batch(HEAD, b"".join(each + b"\0" for each in commands))
    assert decode_batch(data) == (HEAD, list(commands))
    assert HEAD.count == 3


@pytest.mark.parametrize("texts", [b"", b"a\0b\0", b"a\0b\0c", b"a\0b\0c\0d\0"])
def test_a_batch_with_another_number_of_commands_is_invalid(texts: bytes) -> None:
    """A batch that was cut, or whose head is of another batch, must not run."""
    with pytest.raises(Invalid):
        decode_batch(encode_batch(HEAD, texts))


@pytest.mark.parametrize("data", [b"", b"{}\n", b"a\0", b"\xff\n"])
def test_bytes_without_a_head_are_invalid(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_batch(data)
