"""Messages: strict at the door, exact about time."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agls.errors import MessageError
from agls.messages import (
    MAX_MESSAGE_BYTES,
    Ack,
    ClockState,
    Detection,
    Heartbeat,
    Inbound,
    Status,
    UtcNs,
    decode,
    encode,
    format_utc,
    parse_utc,
    to_builtins,
)

HEARD = Detection(
    sensor_id="north-03",
    boot_id="b1",
    seq=7,
    toa_ns=UtcNs(1_545_180_567_467_000_001),
    toa_sigma_s=0.001,
    llr={"gunshot": 3.5},
    clock=ClockState(mode="pps_audio", sigma_s=1e-6),
)
AROUND_EPOCH = st.integers(-(2**62), 2**62)
ANY_YEAR = st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1)


@given(ANY_YEAR)
@example(0)
@example(-1)
@example(1_000_000_000_000_000_000)
def test_a_moment_survives_being_written_and_read(moment_ns: int) -> None:
    text = format_utc(moment_ns)
    assert parse_utc(text) == moment_ns
    assert len(text) == 30


@given(AROUND_EPOCH)
def test_a_moment_is_written_as_numpy_writes_it(moment_ns: int) -> None:
    assert format_utc(moment_ns) == f"{np.datetime64(moment_ns, 'ns')}Z"


@given(AROUND_EPOCH, st.integers(1, 9))
def test_fewer_decimals_mean_the_same_as_zeros(moment_ns: int, decimals: int) -> None:
    text = format_utc(moment_ns)
    shortened = text[: 20 + decimals]
    assert parse_utc(shortened + "Z") == np.datetime64(shortened.ljust(29, "0"), "ns").astype(np.int64)


@pytest.mark.parametrize(
    "text",
    ["2018-12-19T00:49:27", "2018-12-19T00:49:27+00:00", "2018-12-19 00:49:27Z", "2018-02-30T00:00:00Z", "", "now",
     "2018-12-19T00:49:27.1234567890Z", "2018-12-19T00:49:27Z\n", "2018-12-19T24:00:00Z", "２018-12-19T00:00:00Z"],
)  # fmt: skip
def test_what_is_not_a_time_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_utc(text)


def test_a_record_survives_the_wire() -> None:
    payload = encode(HEARD)
    assert decode(payload, Detection) == HEARD
    assert decode(payload, Inbound) == HEARD
    assert b'"toa":"2018-12-19T00:49:27.467000001Z"' in payload
    assert to_builtins(HEARD)["toa"] == "2018-12-19T00:49:27.467000001Z"


def test_a_record_says_its_type_and_needs_it() -> None:
    assert to_builtins(HEARD)["type"] == "detection"
    with pytest.raises(MessageError):
        decode(encode(HEARD), Status)
    for kind in (Detection, Inbound):
        with pytest.raises(MessageError):
            decode(encode(HEARD).replace(b'"type":"detection",', b""), kind)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"seq":7', b'"seq":-1', "not_valid"),
        (b'"seq":7', b'"seq":"7"', "not_valid"),
        (b'"seq":7', b'"seq":7,"extra":1', "not_valid"),
        (b'"toa_sigma_s":0.001', b'"toa_sigma_s":0', "not_valid"),
        (b'"toa_sigma_s":0.001', b'"toa_sigma_s":NaN', "not_json"),
        (b'"toa_sigma_s":0.001', b'"toa_sigma_s":1e999', "not_valid"),
        (b'"gunshot":3.5', b'"gunshot":51', "not_valid"),
        (b'"gunshot":3.5', b'"cannon":3.5', "not_valid"),
        (b'"north-03"', b'"north/03"', "not_valid"),
        (b'"north-03"', b'"north\\n"', "not_valid"),
        (b'"north-03"', b'"\xff"', "not_json"),
        (b"27.467000001Z", b"27.467000001", "not_valid"),
        (b"2018-12-19T", b"2018-02-30T", "not_valid"),
    ],
)
def test_a_broken_record_is_refused_by_name(old: bytes, new: bytes, reason: str) -> None:
    payload = encode(HEARD)
    assert old in payload
    with pytest.raises(MessageError) as refused:
        decode(payload.replace(old, new), Inbound)
    assert refused.value.reason == reason


def test_too_long_and_too_deep_payloads_are_refused() -> None:
    with pytest.raises(MessageError) as refused:
        decode(b" " * (MAX_MESSAGE_BYTES + 1), Inbound)
    assert refused.value.reason == "too_long"
    with pytest.raises(MessageError):
        decode(b"[" * MAX_MESSAGE_BYTES, Inbound)
    with pytest.raises(MessageError):
        decode(b'{"type":' * 5_000, Inbound)


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_a_record_or_a_message_error(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode(payload, Inbound)


@given(st.data())
def test_a_record_with_bytes_changed_decodes_or_is_refused(data: st.DataObject) -> None:
    payload = bytearray(encode(HEARD))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = decode(bytes(payload), Inbound)
    except MessageError as refused:
        assert refused.reason in {"not_json", "not_valid"}
    else:
        assert isinstance(record, Detection | Heartbeat | Status)
        assert decode(encode(record), Inbound) == record


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_level_is_finite_and_in_range_or_refused(level_db: float) -> None:
    payload = encode(HEARD).replace(b'"level_db":null', b'"level_db":' + repr(level_db).encode())
    if math.isfinite(level_db) and -200 <= level_db <= 250:
        assert decode(payload, Detection).level_db == level_db
    else:
        with pytest.raises(MessageError):
            decode(payload, Detection)


def test_an_acknowledgement_lists_at_most_a_thousand_gaps() -> None:
    ack = Ack(sensor_id="s", boot_id="b", next_seq=2000, missing=tuple(range(1001)))
    with pytest.raises(MessageError):
        decode(encode(ack), Ack)
