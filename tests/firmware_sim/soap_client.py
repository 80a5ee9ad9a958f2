"""What a client sends to a camera, written by hand: a second hand beside the peer's and the simulator's."""

import base64
import hashlib
from datetime import UTC, datetime

PASSWORD = "three words here"  # noqa: S105 - opens nothing
SPACES = {
    "tds": "http://www.onvif.org/ver10/device/wsdl",
    "trt": "http://www.onvif.org/ver10/media/wsdl",
    "tptz": "http://www.onvif.org/ver20/ptz/wsdl",
}
SECURITY = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
DEGREES = "http://www.onvif.org/ver10/tptz/PanTiltSpaces/SphericalPositionSpaceDegrees"


def token(
    utc_s: float,
    *,
    password: str = PASSWORD,
    nonce: bytes = b"0123456789abcdef",
    text: bool = False,
    user: str = "agls",
) -> str:
    """Write a UsernameToken."""
    created = datetime.fromtimestamp(utc_s, UTC).isoformat().replace("+00:00", "Z")
    hashed = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False)
    digest = base64.b64encode(hashed.digest()).decode()
    kind, said = ("PasswordText", password) if text else ("PasswordDigest", digest)
    return (
        f'<w:Security xmlns:w="{SECURITY}wssecurity-secext-1.0.xsd" xmlns:u="{SECURITY}wssecurity-utility-1.0.xsd">'
        f"<w:UsernameToken><w:Username>{user}</w:Username>"
        f'<w:Password Type="{SECURITY}username-token-profile-1.0#{kind}">{said}</w:Password>'
        f"<w:Nonce>{base64.b64encode(nonce).decode()}</w:Nonce><u:Created>{created}</u:Created>"
        "</w:UsernameToken></w:Security>"
    )


def request(operation: str, inner: str = "", security: str = "") -> bytes:
    """Write an envelope; `operation` has the prefix of its service."""
    prefix = operation.partition(":")[0]
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:tt="http://www.onvif.org/ver10/schema">'
        f"<s:Header>{security}</s:Header><s:Body>"
        f'<{operation} xmlns:{prefix}="{SPACES[prefix]}">{inner}</{operation}></s:Body></s:Envelope>'
    ).encode()


def steered(inner: str = "", profile: str = "main") -> str:
    """Name the profile before the rest."""
    return f"<tptz:ProfileToken>{profile}</tptz:ProfileToken>{inner}"


def to_degrees(pan_deg: float, tilt_deg: float) -> str:
    """Ask for a position in degrees."""
    at = f'<tt:PanTilt x="{pan_deg}" y="{tilt_deg}" space="{DEGREES}"/>'
    return steered(f"<tptz:Position>{at}</tptz:Position>")
