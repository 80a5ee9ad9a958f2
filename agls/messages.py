"""Every record that crosses a boundary: between stages, over MQTT, into a file.

Records are frozen. Those that travel are `msgspec` structs: one definition gives strict decoding, fast
encoding and the JSON Schema in ``schemas/``. Inside, a time is an integer of nanoseconds since the Unix
epoch in UTC (`UtcNs`); on the wire it is an RFC 3339 text with nine decimals and ``Z``, because JavaScript
loses integers past 2^53. Angles and positions are degrees and metres on the wire and inside alike.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from agls.errors import MessageError

MAX_MESSAGE_BYTES = 65_536
NS_PER_S = 1_000_000_000

T = TypeVar("T")


class UtcNs(int):
    """A moment: whole nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted."""


# What a schema can say of such a time; that the day exists in its month is beyond it.
_UTC_PATTERN = (
    r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z(?!\n)$"
)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


def format_utc(moment_ns: int) -> str:
    """Write a moment as RFC 3339 text with nine decimals.

    Parameters
    ----------
    moment_ns : int
        Nanoseconds since the Unix epoch, years 1 to 9999.

    Returns
    -------
    str
        Such as ``2018-12-19T00:49:27.467000000Z``.
    """
    seconds, nanos = divmod(moment_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%dT%H:%M:%S').zfill(19)}.{nanos:09d}Z"


def parse_utc(text: str) -> UtcNs:
    """Read RFC 3339 text in UTC, with up to nine decimals, exactly.

    Parameters
    ----------
    text : str
        Such as ``2018-12-19T00:49:27.467Z``; the offset must be ``Z``.

    Returns
    -------
    UtcNs
        Nanoseconds since the Unix epoch.

    Raises
    ------
    ValueError
        If the text is not such a time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a UTC time like 2018-12-19T00:49:27.467000000Z")
    whole = int(datetime.fromisoformat(match[1] + "+00:00").timestamp())
    return UtcNs(whole * NS_PER_S + int((match[2] or "").ljust(9, "0")))


# ---------------------------------------------------------------------------------------------- on the node


@dataclass(frozen=True, slots=True)
class Block:
    """A run of consecutive samples from one microphone.

    Attributes
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        Full scale is 1.0.
    first_index : int
        Index of the first sample since the source started its epoch.
    sample_rate_hz : float
        Nominal sampling rate.
    lost : bool
        True where samples were lost just before this block: what went before is another epoch.
    """

    samples: NDArray[np.float32]
    first_index: int
    sample_rate_hz: float
    lost: bool = False


Wave: TypeAlias = Literal["muzzle", "shock", "unknown"]


@dataclass(frozen=True, slots=True)
class Onset:
    """The beginning of one impulsive sound at one microphone, with the audio it was judged by.

    Attributes
    ----------
    index : float
        Sample index of the first arrival, to a fraction of a sample.
    sigma_s : float
        One standard deviation of the picking error [s]; the clock's is added later.
    level_db : float
        Peak level [dB SPL where the microphone is calibrated, else dB re full scale].
    snr_db : float
        Peak over the root mean square of the noise before it [dB].
    clipped : bool
        Whether the pulse reached full scale.
    wave : Wave
        Muzzle blast, shockwave, or not told apart.
    snippet : numpy.ndarray, shape (frames,), float32
        The audio around the onset.
    snippet_onset : float
        Index of the onset within the snippet.
    sample_rate_hz : float
        Nominal sampling rate of the snippet.
    """

    index: float
    sigma_s: float
    level_db: float
    snr_db: float
    clipped: bool
    wave: Wave
    snippet: NDArray[np.float32]
    snippet_onset: float
    sample_rate_hz: float


# ------------------------------------------------------------------------------------------------- on the wire

# A topic level and a file name are made of identifiers, so they hold nothing that either could read otherwise
# (and `$` alone would let a line break through at the end).
Identifier: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-]?(?!\n)$",
        max_length=64,
        title="a name of at most 64 letters, digits, dots, dashes and underscores that begins with a letter or digit",
    ),
]
Label: TypeAlias = Literal["gunshot", "firework", "backfire", "tool", "pop", "thunder", "vehicle", "other", "unknown"]
Sigma: TypeAlias = Annotated[float, Meta(gt=0, le=10)]
Decibel: TypeAlias = Annotated[float, Meta(ge=-200, le=250)]
Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
LogRatio: TypeAlias = Annotated[float, Meta(ge=-50, le=50)]
Counter: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Latitude: TypeAlias = Annotated[float, Meta(ge=-90, le=90)]
Longitude: TypeAlias = Annotated[float, Meta(ge=-180, le=180)]
Metres: TypeAlias = Annotated[float, Meta(ge=-1e7, le=1e7)]
Length: TypeAlias = Annotated[float, Meta(ge=0, le=1e7)]
Text: TypeAlias = Annotated[str, Meta(max_length=500)]
Sign: TypeAlias = Literal["deaf", "level_drop", "moved", "other_node", "throttled", "disk_full"]
ClockMode: TypeAlias = Literal["pps_audio", "pps_chrony", "ntp", "free", "file", "simulated"]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """What every travelling record has in common: frozen, named fields, nothing unknown accepted."""


class ClockState(Wire, frozen=True, kw_only=True):
    """How a node knows the time, and how well."""

    mode: ClockMode
    sigma_s: Sigma
    drift_ppm: Annotated[float, Meta(ge=-10_000, le=10_000)] | None = None


class Detection(Wire, frozen=True, kw_only=True, tag_field="type", tag="detection"):
    """One impulse that one sensor heard: when it arrived, and what it sounded like.

    Its identity is (sensor_id, boot_id, seq, stage).
    """

    sensor_id: Identifier
    boot_id: Identifier
    seq: Counter
    stage: Literal["preliminary", "final"] = "final"
    late: bool = False
    toa_ns: UtcNs = msgspec.field(name="toa")
    toa_sigma_s: Sigma
    wave: Literal["muzzle", "shock", "unknown"] = "unknown"
    level_db: Decibel | None = None
    snr_db: Decibel | None = None
    clipped: bool = False
    llr: Annotated[
        dict[Label, LogRatio],
        Meta(max_length=9, extra_json_schema={"propertyNames": {"enum": sorted(get_args(Label))}}),
    ] = {}
    model: Annotated[str, Meta(max_length=64)] = ""
    clock: ClockState


class Heartbeat(Wire, frozen=True, kw_only=True, tag_field="type", tag="heartbeat"):
    """A node's own account of its health, sent at intervals."""

    sensor_id: Identifier
    boot_id: Identifier
    sent_ns: UtcNs = msgspec.field(name="sent")
    uptime_s: Annotated[float, Meta(ge=0)]
    clock: ClockState
    level_db: Decibel
    noise_floor_db: Decibel
    next_seq: Counter
    oldest_seq: Counter
    queue_count: Counter
    counts: Annotated[dict[str, Counter], Meta(max_length=64)] = {}
    clip_share: Probability = 0.0
    overflow_count: Counter = 0
    gps_age_s: Annotated[float, Meta(ge=0)] | None = None
    pps_age_s: Annotated[float, Meta(ge=0)] | None = None
    temperature_c: Annotated[float, Meta(ge=-100, le=200)] | None = None
    disk_free_bytes: Counter | None = None
    model: Annotated[str, Meta(max_length=64)] = ""
    signs: Annotated[tuple[Sign, ...], Meta(max_length=8)] = ()


class Status(Wire, frozen=True, kw_only=True, tag_field="type", tag="status"):
    """Whether a node is there: retained at the broker, and its last will."""

    sensor_id: Identifier
    boot_id: Identifier
    state: Literal["online", "offline"]
    version: Annotated[str, Meta(max_length=64)] = ""
    model: Annotated[str, Meta(max_length=64)] = ""


class Ack(Wire, frozen=True, kw_only=True, tag_field="type", tag="ack"):
    """The hub's word to a node: it has every final detection below `next_seq` but those `missing`.

    A node forgets a detection on this word alone, and sends again what is missing.
    """

    sensor_id: Identifier
    boot_id: Identifier
    next_seq: Counter
    missing: Annotated[tuple[Counter, ...], Meta(max_length=1000)] = ()


class Ellipse(Wire, frozen=True, kw_only=True):
    """A 95 % error ellipse: semi-axes in metres, azimuth of the major one clockwise from north."""

    major_m: Length
    minor_m: Length
    azimuth_deg: Annotated[float, Meta(ge=0, lt=180)]


class Arrival(Wire, frozen=True, kw_only=True):
    """One detection's part in a shot: used with a residual, or refused with a reason."""

    sensor_id: Identifier
    boot_id: Identifier
    seq: Counter
    toa_ns: UtcNs = msgspec.field(name="toa")
    residual_s: float
    used: bool
    reason: Annotated[str, Meta(max_length=64)] = ""


class Spot(Wire, frozen=True, kw_only=True):
    """A place on the map."""

    x_m: Metres
    y_m: Metres
    latitude_deg: Latitude | None = None
    longitude_deg: Longitude | None = None


class Alternative(Wire, frozen=True, kw_only=True):
    """Another place a shot may have been fired from, with its odds against the one reported."""

    spot: Spot
    odds: Annotated[float, Meta(ge=0, le=1)]


class Reason(Wire, frozen=True, kw_only=True):
    """What speaks for gunfire or against it: of what kind, how much (a log-likelihood ratio), and in words.

    `count` is what the words count: sensors that call it gunfire (of `of_count`), sensors that heard a bullet, rounds
    or bangs; or the level at 1 m [dB], or the height above the sensors [m].
    """

    kind: Literal["nodes", "bullet", "level", "height", "cadence", "repetition"]
    nats: LogRatio
    words: Annotated[str, Meta(max_length=200)]
    count: Counter = 0
    of_count: Counter = 0


class Shot(Wire, frozen=True, kw_only=True, tag_field="type", tag="shot"):
    """One located shot, as one revision of what is known about it."""

    shot_id: Identifier
    incident: Identifier | None = None
    revision: Counter = 0
    state: Literal["located", "withdrawn"] = "located"
    late: bool = False
    origin_ns: UtcNs = msgspec.field(name="origin_time")
    origin_sigma_s: Annotated[float, Meta(ge=0)]
    x_m: Metres
    y_m: Metres
    z_m: Metres
    latitude_deg: Latitude | None = None
    longitude_deg: Longitude | None = None
    height_m: Metres | None = None
    ellipse: Ellipse
    alternatives: Annotated[tuple[Alternative, ...], Meta(max_length=8)] = ()
    region: Annotated[tuple[Spot, ...], Meta(max_length=128)] = ()
    p_gunshot: Probability
    sensor_count: Counter
    arrivals: tuple[Arrival, ...] = ()
    reasons: tuple[Reason, ...] = ()


class Motion(Wire, frozen=True, kw_only=True):
    """How a shooter moved while firing: speed with its 95 % interval, and heading clockwise from north."""

    speed_m_s: Annotated[float, Meta(ge=0)]
    speed_low_m_s: Annotated[float, Meta(ge=0)]
    speed_high_m_s: Annotated[float, Meta(ge=0)]
    heading_deg: Annotated[float, Meta(ge=0, lt=360)]


class Incident(Wire, frozen=True, kw_only=True, tag_field="type", tag="incident"):
    """Shots that belong together in place and time, as one revision."""

    incident: Identifier
    revision: Counter
    state: Literal["probable", "possible", "withdrawn"]
    first_shot_ns: UtcNs = msgspec.field(name="first_shot_time")
    last_shot_ns: UtcNs = msgspec.field(name="last_shot_time")
    round_count: Counter
    shooter_count: Counter = 0
    automatic: bool = False
    rate_per_s: Annotated[float, Meta(ge=0)] | None = None
    motion: Motion | None = None
    x_m: Metres
    y_m: Metres
    z_m: Metres
    latitude_deg: Latitude | None = None
    longitude_deg: Longitude | None = None
    height_m: Metres | None = None
    ellipse: Ellipse
    p_gunshot: Probability
    sensor_count: Counter
    shot_ids: tuple[Identifier, ...]
    reasons: tuple[Reason, ...] = ()


class CadEvent(Wire, frozen=True, kw_only=True, tag_field="type", tag="cad_event"):
    """What dispatch receives of an incident: a call that opens or updates itself."""

    cad_event_id: Identifier
    incident: Identifier
    revision: Counter
    status: Literal["open", "update", "cancel"]
    issued_ns: UtcNs = msgspec.field(name="issued")
    incident_type: Text
    headline: Text
    first_shot_ns: UtcNs = msgspec.field(name="first_shot_time")
    last_shot_ns: UtcNs = msgspec.field(name="last_shot_time")
    latitude_deg: Latitude | None
    longitude_deg: Longitude | None
    ellipse: Ellipse
    p_gunshot: Probability
    round_count: Counter
    sensor_count: Counter
    caution: Text


class SlewTarget(Wire, frozen=True, kw_only=True):
    """Where a camera is asked to look."""

    latitude_deg: Latitude
    longitude_deg: Longitude
    height_m: Metres
    ellipse: Ellipse


class SlewRequest(Wire, frozen=True, kw_only=True, tag_field="type", tag="slew_request"):
    """A request to the RTCC that one camera look at one incident."""

    request_id: Identifier
    incident: Identifier
    revision: Counter
    camera_id: Identifier
    issued_ns: UtcNs = msgspec.field(name="issued")
    not_after_ns: UtcNs = msgspec.field(name="not_after")
    hold_s: Annotated[float, Meta(ge=0)]
    target: SlewTarget
    distance_m: Length
    pan_deg: Annotated[float, Meta(ge=-360, le=360)]
    tilt_deg: Annotated[float, Meta(ge=-90, le=90)]
    hfov_deg: Annotated[float, Meta(gt=0, le=180)]
    fits: bool
    reason: Text
    state: Literal["probable", "possible"] = "probable"
    p_in_view: Probability = 1.0
    clip_from_ns: UtcNs | None = msgspec.field(default=None, name="clip_from")


class Rejection(Wire, frozen=True, kw_only=True, tag_field="type", tag="rejection"):
    """A normal "no": what was refused, by which stage, and the name it is counted under."""

    stage: Literal["sensor", "hub", "intake", "associate", "solve", "incident", "camera", "cad"]
    reason: Annotated[str, Meta(max_length=64)]
    subject: Text
    detail: Text = ""


Inbound: TypeAlias = Detection | Heartbeat | Status
Outbound: TypeAlias = Shot | Incident | CadEvent | SlewRequest | Rejection

# Every record that travels, for schemas and the glossary.
WIRE_RECORDS: tuple[type[Wire], ...] = (
    Detection, Heartbeat, Status, Ack, Shot, Incident, CadEvent, SlewRequest, Rejection,
)  # fmt: skip


def _encode_hook(value: Any) -> Any:
    if isinstance(value, UtcNs):
        return format_utc(value)
    raise NotImplementedError(type(value).__name__)


def _decode_hook(kind: type, value: Any) -> Any:
    if kind is UtcNs and isinstance(value, str):
        return parse_utc(value)
    raise ValueError(f"{value!r} is not a {kind.__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_encode_hook)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(record: Wire) -> bytes:
    """Write a record as one line of JSON.

    Parameters
    ----------
    record : Wire
        Any record of this module that travels.

    Returns
    -------
    bytes
        UTF-8 JSON without a line break, fields in the order of their definition.
    """
    return _encoder.encode(record)


def to_builtins(record: Any) -> Any:
    """Turn a record into plain dictionaries, lists, texts and numbers, as JSON would hold them.

    Parameters
    ----------
    record : Any
        A record, or a container of records.

    Returns
    -------
    Any
        What `json.loads` would give for the encoded record.
    """
    return msgspec.to_builtins(record, enc_hook=_encode_hook)


def decode(payload: bytes, kind: type[T], *, max_bytes: int = MAX_MESSAGE_BYTES) -> T:
    """Read one record from the network, strictly.

    Parameters
    ----------
    payload : bytes
        What arrived.
    kind : type
        The record expected, or a union of records.
    max_bytes : int, optional
        Refuse more than this [bytes].

    Returns
    -------
    T
        The record.

    Raises
    ------
    MessageError
        If the bytes are too long, not JSON, not finite, or not such a record.
    """
    if len(payload) > max_bytes:
        raise MessageError("too_long", f"{len(payload)} bytes, at most {max_bytes}")
    decoder = _decoders.get(kind)
    if decoder is None:
        # Alone, msgspec would take a record that does not say its type.
        wanted = Union[WIRE_RECORDS] if kind in WIRE_RECORDS else kind  # noqa: UP007 (from a list)
        decoder = _decoders[kind] = msgspec.json.Decoder(wanted, dec_hook=_decode_hook)
    try:
        record: T = decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise MessageError("not_valid", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not_json", str(error)) from None
    if kind in WIRE_RECORDS and not isinstance(record, kind):
        raise MessageError("not_valid", f"a {type(record).__name__}, not a {kind.__name__}")
    return record


def json_schema(kind: type[Wire]) -> dict[str, Any]:
    """Describe a record as JSON Schema (draft 2020-12).

    Parameters
    ----------
    kind : type
        A record of `WIRE_RECORDS`.

    Returns
    -------
    dict
        The schema, as committed in ``schemas/``.
    """

    def _describe(other: type) -> dict[str, Any]:
        if other is UtcNs:
            return {"type": "string", "format": "date-time", "pattern": _UTC_PATTERN}
        raise NotImplementedError(other)

    return msgspec.json.schema(kind, schema_hook=_describe)
