"""Masking: no form of a secret gets through, wherever its stream is cut, and no other byte changes."""

import base64
import io
import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import TextIO, cast
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.logs.encodings import encoded, plain, ways
from provisioner.agent.logs.mask import Mask, Masked, Stream
from provisioner.agent.logs.pipe_journal import PipeJournal
from provisioner.agent.logs.pump import Pump
from provisioner.agent.logs.spool import Spool
from provisioner.agent.node import Log

#: Few letters, so that values overlap. No asterisk, since the mask consists of asterisks.
LETTERS = st.sampled_from(
    [b"a", b"b", b"?", b"/", b">", b"\n", b"\r\n", b" ", b'"', b"\\", "é".encode(), b"\xff", b"\0"]
)
SECRETS = st.lists(st.lists(LETTERS, min_size=7, max_size=90).map(b"".join), min_size=1, max_size=3)


def wrap(data: bytes, width: int) -> bytes:
    return b"\n".join(data[at : at + width] for at in range(0, len(data), width))


def forms(value: bytes) -> dict[str, bytes]:
    """Return the value in the forms in which tools print it; written independently of the code under test."""
    text = value.decode(errors="surrogateescape")
    made = {
        "literal": value,
        "newline": base64.b64encode(value + b"\n"),
        "base64": base64.b64encode(value),
        "unpadded": base64.b64encode(value).rstrip(b"="),
        "urlsafe": base64.urlsafe_b64encode(value),
        "quote": quote(value, safe="").encode(),
        "path": quote(value).encode(),
        "plus": quote_plus(value).encode(),
        "json": json.dumps(text).encode(),
        "raw": json.dumps(text, ensure_ascii=False).encode(errors="surrogateescape"),
        "slash": json.dumps(text).replace("/", "\\/").encode(),
    }
    lower = quote(value, safe="")
    for at in range(len(lower)):
        if lower[at] == "%":
            lower = lower[:at] + lower[at : at + 3].lower() + lower[at + 3 :]
    made["lower"] = lower.encode()
    for before, after in ((b"x", b""), (b"xy", b"z"), (b"user:", b"\nmore")):
        made[f"in {before!r}"] = base64.b64encode(before + value + after)
    for width in (64, 76):
        made[f"columns {width}"] = wrap(base64.b64encode(value), width)
        made[f"amid columns {width}"] = wrap(base64.b64encode(b"some user" * 5 + value + b"and more" * 9), width)
    return made


def cores(value: bytes) -> list[bytes]:
    """Return the part of the value's base64 that depends only on the value, at each of the three alignments."""
    found = []
    for before in range(3):
        one, other = (base64.b64encode(fill * before + value + fill * 3) for fill in (b"\0", b"\xff"))
        same = [at for at in range(len(one)) if one[at] == other[at]]
        found.append(one[same[0] : same[-1] + 1])
    return found


def masked(mask: Mask, pieces: list[bytes]) -> bytes:
    stream = Stream(mask)
    return b"".join([*map(stream.feed, pieces), stream.finish()])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[bytes], bytes, list[bytes]]:
    """Draw secrets, a text with some of their forms, and the same text in pieces."""
    secrets = draw(SECRETS)
    shapes = st.sampled_from([shape for secret in secrets for shape in forms(secret).values()])
    text = b"\n".join(draw(st.lists(st.one_of(shapes, st.lists(LETTERS).map(b"".join)), max_size=6)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return secrets, text, [text[first:last] for first, last in pairwise([0, *cuts, len(text)])]


@given(cases())
def test_no_form_of_a_secret_gets_through(case: tuple[list[bytes], bytes, list[bytes]]) -> None:
    """No secret gets through in any text with any cuts, and the cuts do not change the output."""
    secrets, text, pieces = case
    mask = Mask()
    mask.add(secrets)
    out = masked(mask, pieces)
    assert out == masked(mask, [text])
    for secret in secrets:
        for name, form in forms(secret).items():
            assert form not in out, name
        joined = out.replace(b"\n", b"")
        assert not [core for core in cores(secret) if core in joined]
        assert not [line for line in secret.splitlines() if len(line.strip()) > 6 and line in out]


def reference(values: list[bytes], text: bytes) -> bytes:
    """Mask slowly: look for every form at every place of the whole text."""
    whole = {way for value in values for way in ways(value)}
    spans = {
        (at, at + len(form))
        for form in {form for way in whole for form in plain(way)}
        for at in range(len(text))
        if text.startswith(form, at)
    }
    for form in {form for way in whole for form in encoded(way)}:
        spans.update((at, end) for at in range(len(text)) if (end := broken(form, text, at)))
    out, done = b"", 0
    for first, last in sorted(spans):
        if not done or first >= done:
            out += text[done:first] + b"***"
        done = max(done, last)
    return out + text[done:]


def broken(form: bytes, text: bytes, at: int) -> int:
    """Return the end of this form if it begins at `at`, possibly broken into lines as encoders do; else 0."""
    for count, letter in enumerate(form):
        begin = at
        while count and text[at : at + 1] in (b"\r", b"\n"):
            at += 1
        if at > begin:
            column = len(re.split(b"[\r\n]", text[:begin])[-1])
            if at - begin > 4 or (count < 8 and column < 60):
                return 0
        if at == len(text) or text[at] != letter:
            return 0
        at += 1
    return at


@st.composite
def broken_cases(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Draw similar secrets, and pieces of a text made of parts of their forms, with line breaks anywhere."""
    letters = st.sampled_from([b"a", b"ab", b"/", b"\n", b"\xff"])
    values = st.one_of(st.lists(letters, min_size=7, max_size=40).map(b"".join), st.just(b"a" * 9), st.just(b"\0" * 50))
    secrets = draw(st.lists(values, min_size=1, max_size=3))
    shapes = [shape for secret in secrets for shape in forms(secret).values()]
    parts = []
    for shape in draw(st.lists(st.sampled_from(shapes), max_size=5)):
        first, last = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        width, gap = draw(st.integers(1, 80)), draw(st.sampled_from([b"\n", b"\r\n", b"\n" * 4, b"\n" * 5, b" "]))
        part = shape[first : len(shape) - last]
        if draw(st.booleans()):
            part = gap.join(part[at : at + width] for at in range(0, len(part), width))
        parts += [b" " * draw(st.sampled_from([0, 1, 59, 60])), part, draw(st.sampled_from([b"", b"\n", b"x"]))]
    text = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))
    return secrets, [text[first:last] for first, last in pairwise([0, *cuts, len(text)])]


@given(broken_cases())
def test_masking_equals_the_reference_implementation(case: tuple[list[bytes], list[bytes]]) -> None:
    """The outputs are equal for any cuts, even between all bytes."""
    secrets, pieces = case
    mask, text = Mask(), b"".join(pieces)
    mask.add(secrets)
    expected = reference(secrets, text)
    assert masked(mask, pieces) == expected
    assert masked(mask, [text[at : at + 1] for at in range(len(text))]) == expected


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_text_without_secrets_is_not_touched(text: bytes, cuts: list[int]) -> None:
    """The output is equal, even if pieces end like the beginning of a secret."""
    mask = Mask()
    mask.add([b"\0\1\2\3\4\5\6\7", b"abcdefghi\njklmnopqrst", b"short", b""])
    if b"\0\1\2\3\4\5\6\7" in text:
        return
    where = sorted(min(cut, len(text)) for cut in cuts)
    assert masked(mask, [text[first:last] for first, last in pairwise([0, *where, len(text)])]) == text


@pytest.mark.parametrize("name", forms(b"").keys())
def test_encoded_secret_is_masked_completely(name: str) -> None:
    """An encoded secret alone becomes three asterisks; within other encoded text, some of that text may remain."""
    value = b'tok<en?/>with "all"\\ \xc3\xa9 of+it=' * 3
    mask = Mask()
    mask.add([value])
    out = masked(mask, [b"before [", forms(value)[name], b"] after"])
    assert out.startswith(b"before [")
    assert out.endswith(b"] after")
    if " b" not in name and "amid" not in name:
        assert out.strip(b'"') in (b"before [***] after", b'before ["***"] after')


def test_each_line_of_a_value_is_hidden() -> None:
    """Each line of a key is secret, with either line ending; short lines are masked only as part of the whole."""
    mask = Mask()
    mask.add([b"-----BEGIN KEY-----\r\nc2VjcmV0\r\nshort\r\n-----END KEY-----\r\n"])
    assert mask.text("a c2VjcmV0 b short") == "a *** b short"
    assert mask.text("-----BEGIN KEY-----\nc2VjcmV0\nshort\n-----END KEY-----\n") == "***"


def test_lines_are_not_held_back() -> None:
    """A complete line is passed on at once, unless a secret could continue after it."""
    mask, secret = Mask(), b"hunter2-hunter2"
    mask.add([secret])
    stream = Stream(mask)
    for letter in base64.b64encode(secret)[:1] + b"xyzh":
        line = b"ends in " + bytes([letter]) + b"\n"
        assert stream.feed(line) == line
    assert stream.feed(b"and hunter2-") == b"and "
    assert stream.feed(b"x") == b"hunter2-x"


def test_a_value_added_later_is_hidden_from_then_on() -> None:
    """Streams that have already begun hide the value too."""
    mask = Mask()
    stream = Stream(mask)
    assert stream.feed(b"a later-secret ") == b"a later-secret "
    mask.add([b"later-secret"])
    assert stream.feed(b"a later-secret ") == b"a *** "


def test_buffer_of_the_mask_is_bounded() -> None:
    """A stream that consists only of a secret's bytes is masked while it is written, and little of it is held back."""
    mask = Mask()
    mask.add([b"\0" * 7])
    stream = Stream(mask)
    out = b"".join(stream.feed(b"\0" * 4096) for _ in range(4))
    assert out == b"***"
    assert stream.held < 4096
    assert stream.finish() == b""


def test_empty_lines_are_not_held_back() -> None:
    """An encoder never adds more than a few empty lines, so further ones are passed on."""
    mask, secret = Mask(), b"hunter2-hunter2"
    mask.add([secret])
    stream = Stream(mask)
    text = base64.b64encode(secret)[:12] + b"\n"
    assert stream.feed(text) == b""
    assert b"".join(stream.feed(b"\n") for _ in range(10)) == text + b"\n" * 10


def test_partly_masked_form_stays_masked() -> None:
    """A masked part stays masked while the stream waits for the rest of a longer form."""
    mask = Mask()
    mask.add([b"a" * 9])
    text = base64.b64encode(b"a" * 18 + b"\n")
    assert masked(mask, [text[at : at + 1] for at in range(len(text))]) == b"***"


def test_spool_counts_masked_bytes(tmp_path: Path) -> None:
    """Lengths and checksums of the job's and the agent's streams are those of the masked bytes."""
    secret, spool, mask = b"hunter2-hunter2", Spool(tmp_path, 1 << 20), Mask()
    reader, writer = os.pipe()
    pump = Pump(reader, spool.stream("output"), mask, PipeJournal(tmp_path / "tape", 0))
    mask.add([secret])
    pump.start()
    os.write(writer, b"it is " + secret + b" and hunter2-")
    os.close(writer)
    pump.finish()
    os.close(reader)
    log = Log(spool, mask)
    log.say(f"git: {secret.decode()}")
    output, system = (spool.stream(name).next() for name in ("output", "system"))
    assert output is not None
    assert system is not None
    assert output.path.read_bytes() == b"it is *** and hunter2-"
    assert spool.stream("output").produced == len(b"it is *** and hunter2-")
    assert system.path.read_bytes().endswith(b"Z git: ***\n")


def test_the_console_is_masked() -> None:
    """The agent's own error output is masked too."""
    mask, console = Mask(), io.StringIO()
    mask.add([b"hunter2-hunter2"])
    print("token hunter2-hunter2 is refused", file=cast(TextIO, Masked(console, mask)), flush=True)
    assert console.getvalue() == "token *** is refused\n"
