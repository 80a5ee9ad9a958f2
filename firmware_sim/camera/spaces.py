"""The coordinates of ONVIF: in which units positions, translations and speeds are given, and what they are in degrees.

| space | x and y | of |
|---|---|---|
| PositionGenericSpace | -1 to 1 from limit to limit | position |
| SphericalPositionSpaceDegrees | degrees | position |
| TranslationGenericSpace | units of PositionGenericSpace | translation |
| SphericalTranslationSpaceDegrees | degrees | translation |
| TranslationSpaceFov | 1 from the middle of the picture to its edge | translation |
| VelocityGenericSpace, GenericSpeedSpace | 1 is the top speed | velocity, speed |
| VelocitySpaceDegrees, SpeedSpaceDegrees | degrees a second | velocity, speed |

Zoom is 0 wide to 1 tele in its generic position space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from firmware_sim.camera.head import HeadModel, Pose, hfov_deg
from firmware_sim.camera.soap import TT, SoapError

_PAN_TILT = "http://www.onvif.org/ver10/tptz/PanTiltSpaces/"
_ZOOM = "http://www.onvif.org/ver10/tptz/ZoomSpaces/"
POSITION, POSITION_DEG = f"{_PAN_TILT}PositionGenericSpace", f"{_PAN_TILT}SphericalPositionSpaceDegrees"
SHIFT, SHIFT_DEG = f"{_PAN_TILT}TranslationGenericSpace", f"{_PAN_TILT}SphericalTranslationSpaceDegrees"
SHIFT_FOV = f"{_PAN_TILT}TranslationSpaceFov"
VELOCITY, VELOCITY_DEG = f"{_PAN_TILT}VelocityGenericSpace", f"{_PAN_TILT}VelocitySpaceDegrees"
SPEED, SPEED_DEG = f"{_PAN_TILT}GenericSpeedSpace", f"{_PAN_TILT}SpeedSpaceDegrees"
ZOOM, ZOOM_SHIFT = f"{_ZOOM}PositionGenericSpace", f"{_ZOOM}TranslationGenericSpace"
ZOOM_VELOCITY, ZOOM_SPEED = f"{_ZOOM}VelocityGenericSpace", f"{_ZOOM}ZoomGenericSpeedSpace"
ASPECT = 9 / 16  # height of the picture against its width

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Space:
    """One coordinate space as a camera lists it.

    Attributes
    ----------
    element : str
        Name in the list of spaces.
    uri : str
        Its name.
    ranges : tuple of tuple of float
        Least and most of x, and of y where it has one.
    """

    element: str
    uri: str
    ranges: tuple[Range, ...]


def listed(model: HeadModel, *, degrees: bool) -> tuple[Space, ...]:
    """List the spaces of a head, in the order the schema wants.

    Parameters
    ----------
    model : HeadModel
        The head.
    degrees : bool
        Whether it knows degrees, and not generic spaces alone.

    Returns
    -------
    tuple of Space
        Those of one kind beside each other, the default first.
    """
    one, pan, tilt = (-1.0, 1.0), model.pan_speed_deg_s, model.tilt_speed_deg_s
    limits = ((model.pan_min_deg, model.pan_max_deg), (model.tilt_min_deg, model.tilt_max_deg))
    spans = tuple((low - high, high - low) for low, high in limits)
    spaces = (
        Space("AbsolutePanTiltPositionSpace", POSITION, (one, one)),
        Space("AbsolutePanTiltPositionSpace", POSITION_DEG, limits),
        Space("AbsoluteZoomPositionSpace", ZOOM, ((0.0, 1.0),)),
        Space("RelativePanTiltTranslationSpace", SHIFT, (one, one)),
        Space("RelativePanTiltTranslationSpace", SHIFT_DEG, spans),
        Space("RelativePanTiltTranslationSpace", SHIFT_FOV, (one, one)),
        Space("RelativeZoomTranslationSpace", ZOOM_SHIFT, (one,)),
        Space("ContinuousPanTiltVelocitySpace", VELOCITY, (one, one)),
        Space("ContinuousPanTiltVelocitySpace", VELOCITY_DEG, ((-pan, pan), (-tilt, tilt))),
        Space("ContinuousZoomVelocitySpace", ZOOM_VELOCITY, (one,)),
        Space("PanTiltSpeedSpace", SPEED, ((0.0, 1.0),)),
        Space("PanTiltSpeedSpace", SPEED_DEG, ((0.0, max(pan, tilt)),)),
        Space("ZoomSpeedSpace", ZOOM_SPEED, ((0.0, 1.0),)),
    )
    return tuple(space for space in spaces if degrees or not space.uri.endswith("Degrees"))


def scale(model: HeadModel, uri: str, pose: Pose) -> tuple[tuple[float, float], tuple[float, float]]:
    """Say what a coordinate means: degrees = middle + unit * coordinate, for a speed a share of the top one.

    Parameters
    ----------
    model : HeadModel
        The head.
    uri : str
        The space.
    pose : Pose
        Where the head is: a translation counts from there.

    Returns
    -------
    middle, unit : tuple of float
        Of pan and tilt.

    Raises
    ------
    SoapError
        If there is no such space.
    """
    mid = ((model.pan_min_deg + model.pan_max_deg) / 2, (model.tilt_min_deg + model.tilt_max_deg) / 2)
    half = ((model.pan_max_deg - model.pan_min_deg) / 2, (model.tilt_max_deg - model.tilt_min_deg) / 2)
    here, none, one = (pose.pan_deg, pose.tilt_deg), (0.0, 0.0), (1.0, 1.0)
    view_deg = hfov_deg(model, pose.zoom) / 2
    high_deg = math.degrees(math.atan(ASPECT * math.tan(math.radians(view_deg))))
    top = (1.0 / model.pan_speed_deg_s, 1.0 / model.tilt_speed_deg_s)
    known = {
        POSITION: (mid, half), POSITION_DEG: (none, one),
        SHIFT: (here, half), SHIFT_DEG: (here, one), SHIFT_FOV: (here, (view_deg, high_deg)),
        VELOCITY: (none, one), VELOCITY_DEG: (none, top), SPEED: (none, one), SPEED_DEG: (none, top),
    }  # fmt: skip
    if uri not in known:
        raise SoapError(f"no space {uri[:200]}", "InvalidArgVal", "SpaceNotSupported")
    return known[uri]


@dataclass(frozen=True, slots=True)
class Vector:
    """A position, translation or speed as it is asked for.

    Attributes
    ----------
    pan_tilt : tuple of float or None
        Coordinates.
    space : str
        Of these; empty for the default.
    zoom : float or None
        Likewise.
    """

    pan_tilt: tuple[float, float] | None
    space: str
    zoom: float | None


def vector(parent: Element | None) -> Vector:
    """Read a vector.

    Parameters
    ----------
    parent : xml.etree.ElementTree.Element or None
        An element with ``PanTilt`` and ``Zoom``.

    Returns
    -------
    Vector
        What it holds; nothing of nothing.

    Raises
    ------
    SoapError
        If it holds what is no number.
    """
    if parent is None:
        return Vector(None, "", None)
    turn, zoom = parent.find(f"{{{TT}}}PanTilt"), parent.find(f"{{{TT}}}Zoom")
    pan_tilt = None if turn is None else (_number(turn, "x"), _number(turn, "y"))
    return Vector(pan_tilt, "" if turn is None else turn.get("space", ""), None if zoom is None else _number(zoom, "x"))


def _number(element: Element, name: str) -> float:
    try:
        number = float(element.get(name, ""))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SoapError(f"{name} of {element.tag.rpartition('}')[2]} is no number", "InvalidArgVal")
    return number
