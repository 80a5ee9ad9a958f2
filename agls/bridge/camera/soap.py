"""What is said to an ONVIF camera and what it answers, as XML: SOAP 1.2, without a socket or a clock.

What is said is held against ONVIF's own schema by the tests. What is answered comes from the network: an answer with a
document type declaration is refused before it is parsed, so that no entity is ever expanded or fetched.

    login    WS-UsernameToken: Base64(SHA-1(nonce + created + password)), or the password as text
             (OASIS Username Token Profile; the hash is what the standard asks of cameras, nothing else rests on it)
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

S = "http://www.w3.org/2003/05/soap-envelope"
TT = "http://www.onvif.org/ver10/schema"
DEVICE = "http://www.onvif.org/ver10/device/wsdl"
MEDIA = "http://www.onvif.org/ver10/media/wsdl"
PTZ = "http://www.onvif.org/ver20/ptz/wsdl"
_WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
_PAN_TILT = "http://www.onvif.org/ver10/tptz/PanTiltSpaces/"
GENERIC, DEGREES = f"{_PAN_TILT}PositionGenericSpace", f"{_PAN_TILT}SphericalPositionSpaceDegrees"
ZOOM = "http://www.onvif.org/ver10/tptz/ZoomSpaces/PositionGenericSpace"
MAX_DETAIL = 200
_NAMES = {"tt": TT, "tds": DEVICE, "trt": MEDIA, "tptz": PTZ}

GET_TIME = "<tds:GetSystemDateAndTime/>"
GET_SERVICES = "<tds:GetServices><tds:IncludeCapability>false</tds:IncludeCapability></tds:GetServices>"
GET_CAPABILITIES = "<tds:GetCapabilities><tds:Category>All</tds:Category></tds:GetCapabilities>"
GET_PROFILES = "<trt:GetProfiles/>"
GET_NODES = "<tptz:GetNodes/>"


class OnvifError(Exception):
    """A camera that did not do as it was asked.

    Parameters
    ----------
    reason : str
        Its name: ``away``, ``slow``, ``garbage``, ``too_long``, ``refused``, ``unauthorised``;
        ``released`` where the command was not given, being no longer wanted.
    detail : str
        What it said, without secrets.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        clean = "".join(letter if letter.isprintable() else " " for letter in detail[:MAX_DETAIL])
        super().__init__(f"{reason}: {clean}" if clean else reason)
        self.reason, self.detail = reason, clean


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a camera says it is: coordinates in the space it names; None for what it does not say."""

    pan_tilt: tuple[float, float]
    space: str
    zoom: float | None
    moving: bool | None


def envelope(body: str, security: str = "") -> bytes:
    """Wrap a request.

    Parameters
    ----------
    body : str
        Its element, with the prefixes tt, tds, trt and tptz.
    security : str, optional
        As `token` writes it.

    Returns
    -------
    bytes
        The document.
    """
    names = "".join(f" xmlns:{prefix}={quoteattr(name)}" for prefix, name in _NAMES.items())
    return (
        f'<s:Envelope xmlns:s="{S}"{names}><s:Header>{security}</s:Header><s:Body>{body}</s:Body></s:Envelope>'.encode()
    )


def token(username: str, password: str, nonce: bytes, utc_s: float, *, readable: bool = False) -> str:
    """Say who asks.

    Parameters
    ----------
    username, password : str
        The account at the camera.
    nonce : bytes
        Never the same twice.
    utc_s : float
        Now by the camera's own clock, since 1970 [s].
    readable : bool, optional
        Whether the password itself is sent, not a digest of it.

    Returns
    -------
    str
        A WS-Security header.
    """
    created = datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    digest = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False).digest()
    kind, said = ("Text", escape(password)) if readable else ("Digest", base64.b64encode(digest).decode())
    return (
        f'<w:Security s:mustUnderstand="true" xmlns:w="{_WSS}wssecurity-secext-1.0.xsd" '
        f'xmlns:u="{_WSS}wssecurity-utility-1.0.xsd"><w:UsernameToken><w:Username>{escape(username)}</w:Username>'
        f'<w:Password Type="{_WSS}username-token-profile-1.0#Password{kind}">{said}</w:Password>'
        f'<w:Nonce EncodingType="{_WSS}soap-message-security-1.0#Base64Binary">{base64.b64encode(nonce).decode()}'
        f"</w:Nonce><u:Created>{created}</u:Created></w:UsernameToken></w:Security>"
    )


def absolute_move(profile: str, pan_tilt: tuple[float, float] | None, space: str, zoom: float | None) -> str:
    """Ask for a position.

    Parameters
    ----------
    profile : str
        Token of the media profile.
    pan_tilt : tuple of float or None
        Coordinates; None leaves them.
    space : str
        Of these.
    zoom : float or None
        Likewise, in generic space.

    Returns
    -------
    str
        The request.
    """
    turn = "" if pan_tilt is None else f'<tt:PanTilt x="{pan_tilt[0]:.6f}" y="{pan_tilt[1]:.6f}" space="{space}"/>'
    wide = "" if zoom is None else f'<tt:Zoom x="{zoom:.6f}" space="{ZOOM}"/>'
    return _steered("AbsoluteMove", profile, f"<tptz:Position>{turn}{wide}</tptz:Position>")


def geo_move(profile: str, place: tuple[float, float, float], area_m: tuple[float, float]) -> str:
    """Ask a camera that knows its own place to look at another.

    Parameters
    ----------
    profile : str
        Token of the media profile.
    place : tuple of float
        Latitude and longitude [deg], height above the ellipsoid [m].
    area_m : tuple of float
        Width and height to show there [m].

    Returns
    -------
    str
        The request.
    """
    target = f'<tptz:Target lat="{place[0]:.8f}" lon="{place[1]:.8f}" elevation="{place[2]:.2f}"/>'
    area = f"<tptz:AreaHeight>{area_m[1]:.1f}</tptz:AreaHeight><tptz:AreaWidth>{area_m[0]:.1f}</tptz:AreaWidth>"
    return _steered("GeoMove", profile, target + area)


def goto_preset(profile: str, preset: str) -> str:
    """Ask for a stored position.

    Parameters
    ----------
    profile, preset : str
        Tokens.

    Returns
    -------
    str
        The request.
    """
    return _steered("GotoPreset", profile, f"<tptz:PresetToken>{escape(preset)}</tptz:PresetToken>")


def steered(operation: str, profile: str) -> str:
    """Ask what takes a media profile and nothing else.

    Parameters
    ----------
    operation : str
        ``GetStatus``, ``GetPresets`` or ``GotoHomePosition``.
    profile : str
        Token of the media profile.

    Returns
    -------
    str
        The request.
    """
    return _steered(operation, profile, "")


def get_options(configuration: str) -> str:
    """Ask what a PTZ configuration may be.

    Parameters
    ----------
    configuration : str
        Its token.

    Returns
    -------
    str
        The request.
    """
    inner = f"<tptz:ConfigurationToken>{escape(configuration)}</tptz:ConfigurationToken>"
    return f"<tptz:GetConfigurationOptions>{inner}</tptz:GetConfigurationOptions>"


def _steered(operation: str, profile: str, inner: str) -> str:
    return f"<tptz:{operation}><tptz:ProfileToken>{escape(profile)}</tptz:ProfileToken>{inner}</tptz:{operation}>"


def parse(received: bytes) -> Element:
    """Read an answer.

    Parameters
    ----------
    received : bytes
        Body of the HTTP answer, whatever its status.

    Returns
    -------
    xml.etree.ElementTree.Element
        The element in the envelope's body.

    Raises
    ------
    OnvifError
        ``garbage`` if it is no SOAP answer, ``refused`` or ``unauthorised`` if it is a fault.
    """
    try:
        text = received.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise OnvifError("garbage", "a document type declaration")
        # Without a declaration there is nothing to expand.
        body = ET.fromstring(text).find(f"{{{S}}}Body")  # noqa: S314
    except (UnicodeDecodeError, ET.ParseError, ValueError, RecursionError):
        raise OnvifError("garbage", "not well-formed XML in UTF-8") from None
    if body is None or len(body) != 1:
        raise OnvifError("garbage", "no SOAP 1.2 envelope with one element in its body")
    if body[0].tag == f"{{{S}}}Fault":
        codes = " ".join((value.text or "").strip() for value in body[0].iter(f"{{{S}}}Value"))
        said = " ".join((reason.text or "").strip() for reason in body[0].iter(f"{{{S}}}Text"))
        raise OnvifError("unauthorised" if "NotAuthorized" in codes else "refused", f"{codes} {said}".strip())
    return body[0]


def reading_of(answer: Element) -> Reading:
    """Read where a camera says it is.

    Parameters
    ----------
    answer : xml.etree.ElementTree.Element
        The answer to GetStatus, or anything with a position in it.

    Returns
    -------
    Reading
        What it says.

    Raises
    ------
    OnvifError
        ``garbage`` if it says no position.
    """
    turn, wide = next(answer.iter(f"{{{TT}}}PanTilt"), None), next(answer.iter(f"{{{TT}}}Zoom"), None)
    if turn is None or turn.get("x") is None:
        raise OnvifError("garbage", "no position in its status")
    moves = answer.find(f".//{{{TT}}}MoveStatus")
    said = [(part.text or "").strip().upper() for part in moves] if moves is not None else []
    known = [word for word in said if word in ("IDLE", "MOVING")]
    zoom = None if wide is None or wide.get("x") is None else number(wide, "x")
    return Reading(
        pan_tilt=(number(turn, "x"), number(turn, "y")),
        space=turn.get("space", ""),
        zoom=zoom,
        moving="MOVING" in known if known else None,
    )


def number(element: Element, name: str) -> float:
    """Read a number from an attribute or, where there is none, from the text of a child.

    Parameters
    ----------
    element : xml.etree.ElementTree.Element
        Where it stands.
    name : str
        Of the attribute, or of a child in ONVIF's common schema.

    Returns
    -------
    float
        Finite.

    Raises
    ------
    OnvifError
        ``garbage`` if it is no number.
    """
    said = element.get(name) or element.findtext(f"{{{TT}}}{name}") or ""
    if not re.fullmatch(r"\s*[+-]?(\d{1,12}(\.\d{0,12})?|\.\d{1,12})([eE][+-]?\d{1,2})?\s*", said):
        raise OnvifError("garbage", f"{name} = {said[:40]!r} is no number")
    return float(said)


def utc_of(answer: Element) -> float:
    """Read a camera's clock.

    Parameters
    ----------
    answer : xml.etree.ElementTree.Element
        The answer to GetSystemDateAndTime.

    Returns
    -------
    float
        Since 1970, in the middle of the second it says [s].

    Raises
    ------
    OnvifError
        ``garbage`` if it says no UTC.
    """
    told = next(answer.iter(f"{{{TT}}}UTCDateTime"), None)
    if told is None:
        raise OnvifError("garbage", "no UTC in its clock")
    try:
        parts = [
            int(next(told.iter(f"{{{TT}}}{name}")).text or "")
            for name in ("Year", "Month", "Day", "Hour", "Minute", "Second")
        ]
        year, month, day, hour, minute, second = parts
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC).timestamp() + 0.5
    except (ValueError, StopIteration, OverflowError):
        raise OnvifError("garbage", "its clock says no time") from None
