"""What an ONVIF camera can do, from what it says of itself: its spaces, and what their coordinates are in degrees.

Cameras leave much unsaid, or say it wrong. What is not said is as the standard usually has it: generic space from -1 to
1 over the limits that the site gives the camera, zoom from 0 wide to 1 tele; so is a range whose ends are one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element

from agls.bridge.camera.soap import DEGREES, GENERIC, PTZ, TT, ZOOM, Reading, number
from agls.config import Camera

Range: TypeAlias = tuple[float, float]
ONE: Range = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Ability:
    """How a camera is to be asked.

    Attributes
    ----------
    profile : str
        Token of the media profile that moves it.
    geo_move : bool
        Whether it takes places on Earth.
    degrees : tuple of Range or None
        Limits of pan and tilt where it takes degrees [deg].
    generic : tuple of Range
        Ends of its generic space, pan and tilt.
    zoom : Range or None
        Ends of its zoom, wide and tele; None where it has none.
    full : tuple of Range
        What the ends of generic space are [deg].
    """

    profile: str
    geo_move: bool
    degrees: tuple[Range, Range] | None
    generic: tuple[Range, Range]
    zoom: Range | None
    full: tuple[Range, Range]


@dataclass(frozen=True, slots=True)
class Posture:
    """Where a camera looks; the field of view is None where it does not say."""

    pan_deg: float
    tilt_deg: float
    hfov_deg: float | None = None


def ability_of(camera: Camera, profile: str, node: Element | None, others: Iterable[Element]) -> Ability:
    """Find out how a camera is to be asked.

    Parameters
    ----------
    camera : Camera
        With the site's limits of it.
    profile : str
        Token of the media profile that moves it.
    node : xml.etree.ElementTree.Element or None
        Its PTZ node.
    others : iterable of xml.etree.ElementTree.Element
        Whatever else may list spaces: options, a configuration.

    Returns
    -------
    Ability
        As it says, completed.
    """
    told = [*([node] if node is not None else []), *others]
    listed = [space for one in told for space in one.iter(f"{{{TT}}}AbsolutePanTiltPositionSpace")]
    zooms = [space for one in told for space in one.iter(f"{{{TT}}}AbsoluteZoomPositionSpace")]
    limits = ((camera.pan_min_deg, camera.pan_max_deg), (camera.tilt_min_deg, camera.tilt_max_deg))
    degrees = _pair(listed, DEGREES, limits)
    zoom = _range(next((one for one in zooms if _uri(one) == ZOOM), None), "XRange", (0.0, 1.0))
    return Ability(
        profile=profile,
        geo_move=node is not None and node.get("GeoMove", "") in ("true", "1"),
        degrees=degrees,
        generic=_pair(listed, GENERIC, (ONE, ONE)) or (ONE, ONE),
        zoom=zoom if zooms or not listed else None,
        full=degrees or limits,
    )


def nodes_of(answer: Element) -> list[Element]:
    """List the PTZ nodes.

    Parameters
    ----------
    answer : xml.etree.ElementTree.Element
        The answer to GetNodes.

    Returns
    -------
    list of xml.etree.ElementTree.Element
        As it gives them.
    """
    return list(answer.iter(f"{{{PTZ}}}PTZNode"))


def coordinates(ability: Ability, space: str, pan_deg: float, tilt_deg: float) -> tuple[float, float]:
    """Say a direction in a space.

    Parameters
    ----------
    ability : Ability
        Of the camera.
    space : str
        `DEGREES` or `GENERIC`.
    pan_deg, tilt_deg : float
        The direction, as the camera counts [deg].

    Returns
    -------
    tuple of float
        Both coordinates, within their ranges.
    """
    pan_deg = _turned_into(pan_deg, ability.full[0])
    if space == DEGREES:
        return _held(pan_deg, ability.full[0]), _held(tilt_deg, ability.full[1])
    x, y = (
        low + (_held(angle, full) - full[0]) / ((full[1] - full[0]) or 1.0) * (high - low)
        for angle, full, (low, high) in zip((pan_deg, tilt_deg), ability.full, ability.generic, strict=True)
    )
    return x, y


def posture_of(camera: Camera, ability: Ability, reading: Reading) -> Posture:
    """Turn what a camera says into degrees.

    Parameters
    ----------
    camera : Camera
        With its lens.
    ability : Ability
        Of the camera.
    reading : Reading
        What it says.

    Returns
    -------
    Posture
        The same in degrees; a space it does not name is the generic one.
    """
    if reading.space == DEGREES:
        pan, tilt = reading.pan_tilt
    else:
        pan, tilt = (
            full[0] + (at - low) / ((high - low) or 1.0) * (full[1] - full[0])
            for at, full, (low, high) in zip(reading.pan_tilt, ability.full, ability.generic, strict=True)
        )
    if reading.zoom is None or ability.zoom is None:
        return Posture(pan, tilt)
    low, high = ability.zoom
    return Posture(pan, tilt, hfov_of(camera, (reading.zoom - low) / ((high - low) or 1.0)))


def hfov_of(camera: Camera, zoom: float) -> float:
    """Compute the field of view at a zoom.

    Parameters
    ----------
    camera : Camera
        With its lens.
    zoom : float
        0 wide to 1 tele.

    Returns
    -------
    float
        Horizontal [deg].
    """
    lengths = _focal_lengths(camera)
    at = _held(zoom, (0.0, 1.0)) * (len(lengths) - 1)
    step = min(int(at), len(lengths) - 2)
    return 2.0 * math.degrees(math.atan(1.0 / (lengths[step] + (at - step) * (lengths[step + 1] - lengths[step]))))


def zoom_of(camera: Camera, hfov_deg: float) -> float:
    """Compute the zoom for a field of view: `hfov_of` the other way round.

    Parameters
    ----------
    camera : Camera
        With its lens.
    hfov_deg : float
        Horizontal [deg].

    Returns
    -------
    float
        0 wide to 1 tele; the nearest the lens has.
    """
    lengths = _focal_lengths(camera)
    wanted = _held(1.0 / math.tan(math.radians(hfov_deg) / 2.0), (lengths[0], lengths[-1]))
    step = next((k for k, longer in enumerate(lengths[1:]) if wanted <= longer), len(lengths) - 2)
    return (step + (wanted - lengths[step]) / ((lengths[step + 1] - lengths[step]) or 1.0)) / (len(lengths) - 1)


def _focal_lengths(camera: Camera) -> list[float]:
    """List focal lengths at even steps of zoom, in half widths of the picture."""
    views = camera.lens_hfov_deg if len(camera.lens_hfov_deg) > 1 else (camera.hfov_max_deg, camera.hfov_min_deg)
    return [1.0 / math.tan(math.radians(min(view, 179.9)) / 2.0) for view in sorted(views, reverse=True)]


def _pair(listed: list[Element], uri: str, usual: tuple[Range, Range]) -> tuple[Range, Range] | None:
    space = next((one for one in listed if _uri(one) == uri), None)
    return None if space is None else (_range(space, "XRange", usual[0]), _range(space, "YRange", usual[1]))


def _range(space: Element | None, name: str, usual: Range) -> Range:
    told = None if space is None else space.find(f"{{{TT}}}{name}")
    if told is None:
        return usual
    low, high = number(told, "Min"), number(told, "Max")
    return (low, high) if low < high else usual


def _uri(space: Element) -> str:
    return (space.findtext(f"{{{TT}}}URI") or "").strip()


def _turned_into(pan_deg: float, limits: Range) -> float:
    """Count a pan within limits, whole turns aside, where that is possible."""
    turns = [pan_deg + 360.0 * turn for turn in (0, -1, 1, -2, 2)]
    return next((pan for pan in turns if limits[0] <= pan <= limits[1]), pan_deg)


def _held(value: float, limits: Range) -> float:
    return min(max(value, limits[0]), limits[1])
