"""What a simulated camera says of itself, as XML that ONVIF's schema accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from msgspec import Meta

from agls.config import Table
from agls.messages import Identifier, Latitude, Longitude
from firmware_sim.camera import spaces
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.head import HeadModel, Mount, Pose
from firmware_sim.camera.soap import DEVICE, MEDIA, PTZ

PATHS = {DEVICE: "/onvif/device_service", MEDIA: "/onvif/Media", PTZ: "/onvif/PTZ"}
NODE, CONFIGURATION = "ptz-node", "ptz"
PROFILES = ("main", "sub")
MAX_PRESETS = 400
VERSION = "<tt:Major>{}</tt:Major><tt:Minor>{}</tt:Minor>"


class Place(Table, frozen=True, kw_only=True):
    """Where the lens is."""

    latitude_deg: Latitude
    longitude_deg: Longitude
    height_m: Annotated[float, Meta(ge=-500, le=9_000, description="above the WGS 84 ellipsoid")] = 0.0


class Setup(Table, frozen=True, kw_only=True):
    """One simulated camera: a TOML file may hold it."""

    camera_id: Annotated[Identifier, Meta(description="name of the camera")] = "camera"
    username: Annotated[str, Meta(min_length=1, max_length=60, description="who may ask")] = "agls"
    seed: Annotated[int, Meta(ge=0, le=2**32, description="of jitter and drop-outs")] = 1
    degrees: Annotated[bool, Meta(description="it knows positions in degrees, not in generic space alone")] = True
    geo_move: Annotated[bool, Meta(description="it knows GeoMove; needs a place")] = False
    presets: Annotated[
        dict[str, tuple[float, float, float]], Meta(description="stored: name to pan [deg], tilt [deg], zoom 0 to 1")
    ] = {}  # noqa: RUF012 - msgspec copies it
    place: Place | None = None
    head: HeadModel = HeadModel()
    mount: Mount = Mount()
    faults: Faults = Faults()


@dataclass(frozen=True, slots=True)
class Preset:
    """A stored position.

    Attributes
    ----------
    name : str
        For people.
    pan_deg, tilt_deg, zoom : float
        Where.
    """

    name: str
    pan_deg: float
    tilt_deg: float
    zoom: float


def number(value: float) -> str:
    """Write a number as a schema reads it.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        To a millionth.
    """
    return f"{round(value, 6) + 0.0:.10g}"


def services(setup: Setup, base: str) -> str:
    """Tell the services and where they are.

    Parameters
    ----------
    setup : Setup
        The camera.
    base : str
        Address it is reached at.

    Returns
    -------
    str
        The services advertised.
    """
    return "".join(
        f"<tds:Service><tds:Namespace>{space}</tds:Namespace><tds:XAddr>{_address(setup, base, space)}</tds:XAddr>"
        f"<tds:Version>{VERSION.format(2, 60)}</tds:Version></tds:Service>"
        for space in _advertised(setup)
    )


def capabilities(setup: Setup, base: str) -> str:
    """Tell the services in the older way.

    Parameters
    ----------
    setup : Setup
        The camera.
    base : str
        Address it is reached at.

    Returns
    -------
    str
        The capabilities.
    """
    within = {MEDIA: "<tt:StreamingCapabilities/>"}
    names = {DEVICE: "Device", MEDIA: "Media", PTZ: "PTZ"}
    inner = "".join(
        f"<tt:{names[space]}><tt:XAddr>{_address(setup, base, space)}</tt:XAddr>{within.get(space, '')}"
        f"</tt:{names[space]}>"
        for space in _advertised(setup)
    )
    return f"<tds:Capabilities>{inner}</tds:Capabilities>"


def _advertised(setup: Setup) -> list[str]:
    return [space for space in PATHS if space != PTZ or not setup.faults.unadvertised]


def _address(setup: Setup, base: str, space: str) -> str:
    # 192.0.2.0/24 is for documentation (RFC 5737): nobody answers there.
    return escape(("http://192.0.2.1:8999" if setup.faults.odd_address else base) + PATHS[space])


def date_and_time(utc_s: float) -> str:
    """Tell the camera's clock.

    Parameters
    ----------
    utc_s : float
        Since 1970, as the camera has it [s].

    Returns
    -------
    str
        In whole seconds, as the schema has it.
    """
    now = datetime.fromtimestamp(utc_s, UTC)
    clock = f"<tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>{now.second}</tt:Second>"
    day = f"<tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day>"
    return (
        "<tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType><tt:DaylightSavings>false</tt:DaylightSavings>"
        f"<tt:TimeZone><tt:TZ>UTC0</tt:TZ></tt:TimeZone><tt:UTCDateTime><tt:Time>{clock}</tt:Time>"
        f"<tt:Date>{day}</tt:Date></tt:UTCDateTime></tds:SystemDateAndTime>"
    )


def profile(setup: Setup, token: str, tag: str) -> str:
    """Tell a media profile.

    Parameters
    ----------
    setup : Setup
        The camera.
    token : str
        Which.
    tag : str
        The element it is put in.

    Returns
    -------
    str
        With a PTZ configuration where that profile has one.
    """
    inner = configuration(setup, "tt:PTZConfiguration") if has_ptz(setup, token) else ""
    return f'<{tag} token="{token}" fixed="true"><tt:Name>{token}</tt:Name>{inner}</{tag}>'


def has_ptz(setup: Setup, token: str) -> bool:
    """Say whether a profile moves the head.

    Parameters
    ----------
    setup : Setup
        The camera.
    token : str
        Which.

    Returns
    -------
    bool
        Whether it has a PTZ configuration.
    """
    return not setup.faults.config_on_sub_only or token == PROFILES[-1]


def _spaces(setup: Setup) -> str:
    if setup.faults.spaces in ("empty", "default_only"):
        return ""
    known = spaces.listed(setup.head, degrees=setup.degrees)
    zoomless = setup.faults.spaces == "pan_only"
    return "".join(_space(setup, f"tt:{s.element}", s) for s in known if not (zoomless and "Zoom" in s.element))


def _space(setup: Setup, tag: str, space: spaces.Space) -> str:
    ranges = ""
    for name, (low, high) in zip("XY", space.ranges, strict=False):
        most = low if setup.faults.flat_ranges else high
        ranges += f"<tt:{name}Range><tt:Min>{number(low)}</tt:Min><tt:Max>{number(most)}</tt:Max></tt:{name}Range>"
    return f"<{tag}><tt:URI>{space.uri}</tt:URI>{ranges}</{tag}>"


def node(setup: Setup) -> str:
    """Tell the PTZ node.

    Parameters
    ----------
    setup : Setup
        The camera.

    Returns
    -------
    str
        Its spaces, presets and abilities.
    """
    geo = ' GeoMove="true"' if setup.geo_move else ""
    return (
        f'<tptz:PTZNode token="{NODE}" FixedHomePosition="false"{geo}><tt:Name>{escape(setup.camera_id)}</tt:Name>'
        f"<tt:SupportedPTZSpaces>{_spaces(setup)}</tt:SupportedPTZSpaces>"
        f"<tt:MaximumNumberOfPresets>{MAX_PRESETS}</tt:MaximumNumberOfPresets>"
        "<tt:HomeSupported>true</tt:HomeSupported></tptz:PTZNode>"
    )


def configuration(setup: Setup, tag: str) -> str:
    """Tell the PTZ configuration.

    Parameters
    ----------
    setup : Setup
        The camera.
    tag : str
        The element it is put in.

    Returns
    -------
    str
        Defaults and limits.
    """
    defaults = (
        ("AbsolutePantTiltPositionSpace", spaces.POSITION), ("AbsoluteZoomPositionSpace", spaces.ZOOM),
        ("RelativePanTiltTranslationSpace", spaces.SHIFT), ("RelativeZoomTranslationSpace", spaces.ZOOM_SHIFT),
        ("ContinuousPanTiltVelocitySpace", spaces.VELOCITY), ("ContinuousZoomVelocitySpace", spaces.ZOOM_VELOCITY),
    )  # fmt: skip
    inner = "".join(f"<tt:Default{name}>{uri}</tt:Default{name}>" for name, uri in defaults)
    listed = spaces.listed(setup.head, degrees=False)
    if setup.faults.spaces == "empty":
        inner, limits = "", ""
    else:
        limits = f"<tt:PanTiltLimits>{_space(setup, 'tt:Range', listed[0])}</tt:PanTiltLimits>"
        limits += f"<tt:ZoomLimits>{_space(setup, 'tt:Range', listed[1])}</tt:ZoomLimits>"
    return (
        f'<{tag} token="{CONFIGURATION}"><tt:Name>PTZ</tt:Name><tt:UseCount>{len(PROFILES)}</tt:UseCount>'
        f"<tt:NodeToken>{NODE}</tt:NodeToken>{inner}<tt:DefaultPTZTimeout>PT5S</tt:DefaultPTZTimeout>{limits}</{tag}>"
    )


def options(setup: Setup) -> str:
    """Tell what a PTZ configuration may be.

    Parameters
    ----------
    setup : Setup
        The camera.

    Returns
    -------
    str
        Spaces and timeouts.
    """
    timeout = "<tt:PTZTimeout><tt:Min>PT0S</tt:Min><tt:Max>PT60S</tt:Max></tt:PTZTimeout>"
    return (
        f"<tptz:PTZConfigurationOptions><tt:Spaces>{_spaces(setup)}</tt:Spaces>{timeout}</tptz:PTZConfigurationOptions>"
    )


def position(setup: Setup, pose: Pose | Preset, tag: str) -> str:
    """Write a position.

    Parameters
    ----------
    setup : Setup
        The camera.
    pose : Pose or Preset
        The position.
    tag : str
        The element it is put in.

    Returns
    -------
    str
        In generic space, as most cameras answer whatever space they were asked in.
    """
    middle, unit = spaces.scale(setup.head, spaces.POSITION, Pose(0.0, 0.0, 0.0))
    step = setup.head.resolution_deg
    pan, tilt = (round(at / step) * step if step else at for at in (pose.pan_deg, pose.tilt_deg))
    x, y = ((at - mid) / by for at, mid, by in zip((pan, tilt), middle, unit, strict=True))
    return (
        f'<{tag}><tt:PanTilt x="{number(x)}" y="{number(y)}" space="{spaces.POSITION}"/>'
        f'<tt:Zoom x="{number(pose.zoom)}" space="{spaces.ZOOM}"/></{tag}>'
    )


def status(setup: Setup, pose: Pose, utc_s: float) -> str:
    """Tell where the head is.

    Parameters
    ----------
    setup : Setup
        The camera.
    pose : Pose
        Where it is.
    utc_s : float
        The camera's clock [s].

    Returns
    -------
    str
        Position, whether it moves, and time.
    """
    turn, zoom = ("MOVING" if moves else "IDLE" for moves in (pose.turning, pose.zooming))
    stamp = datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return (
        f"<tptz:PTZStatus>{position(setup, pose, 'tt:Position')}<tt:MoveStatus><tt:PanTilt>{turn}</tt:PanTilt>"
        f"<tt:Zoom>{zoom}</tt:Zoom></tt:MoveStatus><tt:UtcTime>{stamp}</tt:UtcTime></tptz:PTZStatus>"
    )


def presets(setup: Setup, stored: Mapping[str, Preset]) -> str:
    """Tell the presets.

    Parameters
    ----------
    setup : Setup
        The camera.
    stored : mapping of str to Preset
        By token.

    Returns
    -------
    str
        With names and positions.
    """
    return "".join(_presets(setup, stored.items()))


def _presets(setup: Setup, stored: Iterable[tuple[str, Preset]]) -> Iterable[str]:
    for token, preset in stored:
        name = quote(preset.name, safe="") if setup.faults.percent_names else preset.name
        where = position(setup, preset, "tt:PTZPosition")
        yield f"<tptz:Preset token={quoteattr(token)}><tt:Name>{escape(name)}</tt:Name>{where}</tptz:Preset>"
