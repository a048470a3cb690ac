"""The protocol's encoding: messages are decoded unchanged; bytes of a hostile machine are Invalid or harmless."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.access.callers import Audit
from provisioner.core.cloud.launches import LaunchRequest, Profile
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Catalog
from provisioner.core.cost.receipt import Receipt
from provisioner.core.errors import Invalid
from provisioner.core.logs.archive import Manifest
from provisioner.core.protocol import messages
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import chunk_key, mailbox, orders_key, report_key, result_key, started_key, work_key
from provisioner.core.protocol.messages import Orders, Report, Result, Started, WorkOrder
from provisioner.core.protocol.words import STREAMS, Outcome, Step
from provisioner.core.recipe import jobs
from provisioner.core.run import records
from tests.support import samples
from tests.support.any_message import values

MESSAGES = (WorkOrder, Orders, Report, Result, Started, Manifest, Receipt, Image, Profile)
RECORDS = (
    jobs.Job,
    records.Run,
    records.Node,
    records.KnownMachine,
    records.Drought,
    records.TemplateHealth,
    records.Event,
    Audit,
)
#: Any JSON value, large numbers included.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.data())
def test_messages_and_records_round_trip(data: st.DataObject) -> None:
    """Every message and record with any values is decoded unchanged; equal messages give equal bytes."""
    kind: Any = data.draw(st.sampled_from(MESSAGES + RECORDS))
    message = data.draw(values(kind))
    assert decode(kind, encode(message)) == message
    assert encode(decode(kind, encode(message))) == encode(message)


def test_lists_are_encoded_whole() -> None:
    """A tuple of records is encoded as one value, even if it is empty."""
    for found in ((), (samples.run("1"), samples.run("2"))):
        assert decode(tuple[records.Run, ...], encode(found)) == found


def test_the_largest_records_too() -> None:
    """A launch holds its whole request, and a catalog all types of a site."""
    template = samples.site().template
    request = LaunchRequest("t", template, samples.SPOT_A.market, (samples.SPOT_A,), {"a": "s"}, 2, {"k": "v"})
    launch = records.Launch(request, ("r1", "r2"), 1.0)
    assert decode(records.Launch, encode(launch)) == launch
    assert decode(Catalog, encode(samples.site().catalog)) == samples.site().catalog


@given(st.sampled_from([*MESSAGES, *RECORDS]), st.binary(max_size=60))
@example(Report, b"[" * 100_000)
@example(Report, b'{"a":' * 100_000)
@example(Report, b"\xff\xfe{}")
@example(Orders, b"[]")
@example(Orders, b'"stop"')
@example(Orders, b"null")
@example(Report, b"9" * 5000)
def test_bytes_that_are_no_message_are_invalid(kind: Any, data: bytes) -> None:
    """No other error is raised. An object without known fields may decode to a message of defaults."""
    try:
        assert decode(kind, data) == kind()
    except Invalid:
        return
    assert json.loads(data) == {} or isinstance(json.loads(data), dict)


@given(st.sampled_from([Report, Result, WorkOrder, Orders]), st.data())
def test_a_message_with_one_field_replaced_is_invalid_or_storable(kind: Any, data: st.DataObject) -> None:
    """A machine's root user may send anything: a decoded message must be storable and readable again."""
    fields = json.loads(encode(data.draw(values(kind))))
    place = fields
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[name], dict) and place[name] and data.draw(st.booleans())):
            break
        place = place[name]
    place[name] = data.draw(JSON)
    try:
        message = decode(kind, json.dumps(fields).encode())
    except Invalid:
        return
    assert decode(kind, encode(message)) == message


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e300", "9" * 400, "true", '"1"']
)
def test_infinite_or_absurd_time_is_invalid(number: str) -> None:
    """An infinite or absurd time in the store would break every pass."""
    with pytest.raises(Invalid):
        decode(Started, f'{{"process": "p", "at": {number}}}'.encode())


@pytest.mark.parametrize("text", ['{"process": "p"}', '{"process": null, "at": 1}', '{"process": ["p"], "at": 1}'])
def test_a_missing_or_misshapen_field_is_invalid(text: str) -> None:
    """A field without a default must be present and of its type."""
    with pytest.raises(Invalid, match="not a Started"):
        decode(Started, text.encode())


def test_string_in_place_of_a_tuple_is_invalid() -> None:
    """A string is not accepted where a list of strings is expected."""
    stored = json.loads(
        encode(
            records.Launch(
                LaunchRequest("t", samples.site().template, samples.SPOT_A.market, (samples.SPOT_A,), {}, 1, {}),
                ("r",),
                1.0,
            )
        )
    )
    with pytest.raises(Invalid):
        decode(records.Launch, json.dumps(stored | {"runs": "rr"}).encode())


def test_fields_of_a_later_version_are_passed_over() -> None:
    """A newer agent may send fields that this version does not know."""
    assert decode(Started, b'{"process": "p", "at": 1, "mood": {"good": true}}') == Started("p", 1.0)


def test_every_key_of_a_machine_lies_under_its_own_name() -> None:
    """A machine may only use keys under its mailbox's name. A stream's keys sort in the order of its bytes."""
    box = mailbox("AROA", "i-1")
    keys = [work_key(box), orders_key(box), started_key(box), result_key(box)]
    keys += [chunk_key(box, stream, 0) for stream in STREAMS]
    assert box == "AROA:i-1"
    assert all(key.startswith(f"machines/{box}/") for key in keys)
    assert report_key(box, 3).startswith(f"inbox/{box}/")
    offsets = [0, 9, 10, 99, 2**31, 10**14]
    assert sorted(chunk_key(box, "output", each) for each in reversed(offsets)) == [
        chunk_key(box, "output", each) for each in offsets
    ]
    assert sorted(report_key(box, each) for each in (10, 9, 100)) == [report_key(box, each) for each in (9, 10, 100)]


def test_enums_print_as_their_values() -> None:
    """Enums print as their values."""
    assert f"{Outcome.TIMED_OUT} {Step.COMMAND}" == "timed_out command"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7200, "2 h"), (5400, "90 min"), (60, "1 min"), (90, "90 s"), (0.5, "0.5 s"), (86400, "24 h")],
)
def test_a_limit_is_told_as_a_person_writes_it(seconds: float, words: str) -> None:
    """The text uses the largest unit without a fraction."""
    assert messages.limit_of("pull", seconds) == f"limits.pull of {words}"
