"""One simulated ONVIF camera without a socket: bytes of a request and the time in, an answer out.

Device, media and PTZ services share one door; `service` puts HTTP around it. What is wrong with an answer in ONVIF's
own terms is decided here; what is wrong with the bytes on the wire, there.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, TypeAlias
from xml.etree.ElementTree import Element

from agls.errors import InputError
from firmware_sim.camera import describe, spaces
from firmware_sim.camera.describe import Preset, Setup
from firmware_sim.camera.geodesy import sight
from firmware_sim.camera.head import Head, Pose, reading
from firmware_sim.camera.login import Door
from firmware_sim.camera.soap import DEVICE, MEDIA, PTZ, Request, SoapError, envelope, fault, parse, text_of

OPEN_TO_ALL = {"GetSystemDateAndTime", "GetServices", "GetCapabilities", "GetServiceCapabilities"}
DEFAULT_TIMEOUT_S = 5.0
LIMIT_SLACK = 1e-6  # a client that prints six digits is not out of bounds

# An operation of a camera: what is asked, the head's time [s], the camera's own UTC [s]; the element of the answer.
Operation: TypeAlias = "Callable[[Camera, Request, float, float], str]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes
    ----------
    status : int
        Of HTTP.
    body : str
        The document.
    wait_s : float
        How long to think first [s].
    challenge : str
        Value of ``WWW-Authenticate``, or nothing.
    """

    status: int
    body: str
    wait_s: float = 0.0
    challenge: str = ""


class Camera:
    """A camera: a head, presets, and what it may do wrong.

    Parameters
    ----------
    setup : Setup
        What it is.
    password : str
        Of its one account.
    base : str, optional
        Address it says it is reached at, such as ``http://127.0.0.1:8000``.

    Raises
    ------
    InputError
        If values of the setup contradict each other.
    """

    def __init__(self, setup: Setup, password: str, base: str = "http://127.0.0.1") -> None:
        _check(setup)
        self.setup, self.base = setup, base
        self.head = Head.at_home(setup.head)
        self.chance = Random(setup.seed)  # noqa: S311 - repeatable on purpose, and no secret
        self.door = Door(setup.username, password, setup.faults, f"{self.chance.getrandbits(64):016x}")
        self.home = Preset("home", setup.head.home_pan_deg, setup.head.home_tilt_deg, 0.0)
        count = 300 if setup.faults.many_presets else 0
        stored = [Preset(name, *where) for name, where in setup.presets.items()]
        stored += [Preset(f"Preset {k + 1}", *self._spread(k, count), 0.0) for k in range(count)]
        self.presets = {str(k): preset for k, preset in enumerate(stored, 1)}
        self._next_token = len(stored) + 1
        self._asked: deque[float] = deque(maxlen=1_000)
        self._gone_until_s = -math.inf

    def _spread(self, k: int, count: int) -> tuple[float, float]:
        model = self.setup.head
        return model.pan_min_deg + (model.pan_max_deg - model.pan_min_deg) * k / count, min(0.0, model.tilt_max_deg)

    def pose(self, now_s: float) -> Pose:
        """Tell where the head really is.

        Parameters
        ----------
        now_s : float
            When, on the head's own time scale [s].

        Returns
        -------
        Pose
            The truth, whatever the camera says.
        """
        return self.head.at(now_s)

    def gone(self, now_s: float) -> bool:
        """Count a request, and say whether the camera is restarting.

        Parameters
        ----------
        now_s : float
            When it comes [s].

        Returns
        -------
        bool
            Whether nobody is there to answer it.
        """
        rate = self.setup.faults.reboot_rate_per_s
        self._asked.append(now_s)
        if rate and now_s >= self._gone_until_s and sum(t > now_s - 1.0 for t in self._asked) > rate:
            self._asked.clear()
            self._gone_until_s = now_s + self.setup.faults.reboot_s
            self.head = Head.at_home(self.setup.head)
        return now_s < self._gone_until_s

    def answer(self, received: bytes, authorization: str, now_s: float, utc_s: float) -> Answer:
        """Answer a request.

        Parameters
        ----------
        received : bytes
            Body of the request.
        authorization : str
            Its HTTP header of that name, or nothing.
        now_s : float
            On the head's own time scale, never less than before [s].
        utc_s : float
            True time since 1970 [s].

        Returns
        -------
        Answer
            A result or a fault.
        """
        faults = self.setup.faults
        device_s = utc_s + faults.clock_skew_s
        operation = ""
        try:
            request = parse(received)
            operation = request.operation
            known = self._find(request)
            if operation not in OPEN_TO_ALL:
                self.door.admit(request.security, authorization, device_s)
            body = envelope(known(self, request, now_s, device_s))
        except SoapError as error:
            return self._refuse(error)
        if faults.malformed_zoom and b"Zoom" in received and operation.endswith("Move"):
            body = body[: len(body) // 2]
        slow_s = faults.goto_preset_s if operation == "GotoPreset" else 0.0
        return Answer(200, body, slow_s + faults.jitter_s * self.chance.uniform(0.125, 1.0))

    def _hides(self, operation: str) -> bool:
        faults = self.setup.faults
        return (operation == "GetServices" and faults.no_get_services) or (
            operation == "GetPresets" and faults.no_get_presets
        )

    def _refuse(self, error: SoapError) -> Answer:
        if self.setup.faults.answers_401 and "NotAuthorized" in error.subcodes:
            return Answer(401, "", challenge=self.door.challenge)
        return Answer(self.setup.faults.fault_status or (500 if error.receiver else 400), fault(error))

    # -------------------------------------------------------------------------------------------------- moving

    def _steer(self, request: Request) -> None:
        """Refuse a profile that is none or moves nothing."""
        token = text_of(request.body, "ProfileToken")
        if token not in describe.PROFILES:
            raise SoapError(f"no profile {token[:100]!r}", "InvalidArgVal", "NoProfile")
        if not describe.has_ptz(self.setup, token):
            raise SoapError(f"profile {token} has no PTZ configuration", "InvalidArgVal", "NoPTZProfile")

    def _vector(self, body: Element, name: str, refusal: str) -> spaces.Vector:
        asked = spaces.vector(body.find(f"{{{PTZ}}}{name}"))
        if asked.pan_tilt is None and asked.zoom is None:
            raise SoapError(f"{name} is empty", "InvalidArgVal", refusal)
        if not self.setup.degrees and asked.space.endswith("Degrees"):
            raise SoapError(f"no space {asked.space}", "InvalidArgVal", "SpaceNotSupported")
        if asked.zoom is not None and self.setup.faults.spaces == "pan_only":
            raise SoapError("no zoom", "InvalidArgVal", "SpaceNotSupported")
        return asked

    def _shares(self, body: Element) -> tuple[tuple[float, float], float]:
        """Read the speed that a move may ask for, as shares of the top ones."""
        asked = spaces.vector(body.find(f"{{{PTZ}}}Speed"))
        _, unit = spaces.scale(self.setup.head, asked.space or spaces.SPEED, self.home_pose)
        shares = [abs(v * u) or 1.0 for v, u in zip(asked.pan_tilt or (1.0, 1.0), unit, strict=True)]
        return (min(shares[0], 1.0), min(shares[1], 1.0)), min(abs(asked.zoom or 1.0) or 1.0, 1.0)

    @property
    def home_pose(self) -> Pose:
        """Where home is.

        Returns
        -------
        Pose
            The position.
        """
        return Pose(self.home.pan_deg, self.home.tilt_deg, self.home.zoom)

    def _go(self, now_s: float, turn: tuple[float, float] | None, zoom: float | None, body: Element) -> None:
        share, zoom_share = self._shares(body)
        if not self.setup.faults.ignores_moves:
            self.head = self.head.go(now_s, turn, zoom, share=share, zoom_share=zoom_share)

    def _absolute_move(self, request: Request, now_s: float, _: float) -> str:
        """Go to a position; refuse one out of the limits."""
        self._steer(request)
        model, asked = self.setup.head, self._vector(request.body, "Position", "InvalidPosition")
        middle, unit = spaces.scale(model, asked.space or spaces.POSITION, self.home_pose)
        turn = _turned(asked.pan_tilt, middle, unit)
        limits = ((model.pan_min_deg, model.pan_max_deg), (model.tilt_min_deg, model.tilt_max_deg))
        if turn is not None and any(
            not low - LIMIT_SLACK <= at <= high + LIMIT_SLACK for at, (low, high) in zip(turn, limits, strict=True)
        ):
            raise SoapError("the position is out of bounds", "InvalidArgVal", "InvalidPosition")
        if asked.zoom is not None and not 0.0 <= asked.zoom <= 1.0:
            raise SoapError("the zoom is out of bounds", "InvalidArgVal", "InvalidPosition")
        self._go(now_s, turn, asked.zoom, request.body)
        return "<tptz:AbsoluteMoveResponse/>"

    def _relative_move(self, request: Request, now_s: float, _: float) -> str:
        """Go by a translation, up to the limits."""
        self._steer(request)
        asked, here = self._vector(request.body, "Translation", "InvalidTranslation"), self.head.at(now_s)
        middle, unit = spaces.scale(self.setup.head, asked.space or spaces.SHIFT, here)
        zoom = None if asked.zoom is None else here.zoom + asked.zoom
        self._go(now_s, _turned(asked.pan_tilt, middle, unit), zoom, request.body)
        return "<tptz:RelativeMoveResponse/>"

    def _continuous_move(self, request: Request, now_s: float, _: float) -> str:
        """Turn at a speed until told otherwise, or until a time is over."""
        self._steer(request)
        asked = self._vector(request.body, "Velocity", "InvalidVelocity")
        middle, unit = spaces.scale(self.setup.head, asked.space or spaces.VELOCITY, self.home_pose)
        shares = _turned(asked.pan_tilt, middle, unit)
        if max(*(abs(share) for share in shares or (0.0, 0.0)), abs(asked.zoom or 0.0)) > 1.0 + LIMIT_SLACK:
            raise SoapError("the velocity is out of bounds", "InvalidArgVal", "InvalidVelocity")
        lasts_s = _seconds(text_of(request.body, "Timeout")) or DEFAULT_TIMEOUT_S
        if not self.setup.faults.ignores_moves:
            self.head = self.head.drive(now_s, shares, asked.zoom, lasts_s)
        return "<tptz:ContinuousMoveResponse/>"

    def _geo_move(self, request: Request, now_s: float, _: float) -> str:
        """Look at a place on Earth."""
        self._steer(request)
        target, place = request.body.find(f"{{{PTZ}}}Target"), self.setup.place
        if not self.setup.geo_move or place is None or target is None:
            raise SoapError("no GeoMove here", "ActionNotSupported", "GeoMoveNotSupported", receiver=True)
        try:
            to = [float(target.get(name, "")) for name in ("lat", "lon")] + [float(target.get("elevation", "0"))]
            east, north, up = sight((place.latitude_deg, place.longitude_deg, place.height_m), (to[0], to[1], to[2]))
        except ValueError:
            raise SoapError("the target is no place", "InvalidArgVal", "InvalidPosition") from None
        model = self.setup.head
        pan, tilt = reading(self.setup.mount, model, east, north, up)
        if not (model.pan_min_deg <= pan <= model.pan_max_deg and model.tilt_min_deg <= tilt <= model.tilt_max_deg):
            raise SoapError("the target is out of bounds", "InvalidArgVal", "InvalidPosition")
        self._go(now_s, (pan, tilt), None, request.body)
        return "<tptz:GeoMoveResponse/>"

    def _stop(self, request: Request, now_s: float, _: float) -> str:
        """Stop what is named, or everything."""
        self._steer(request)
        turn, zoom = (text_of(request.body, name) in ("", "true", "1") for name in ("PanTilt", "Zoom"))
        self.head = self.head.drive(now_s, (0.0, 0.0) if turn else None, 0.0 if zoom else None)
        return "<tptz:StopResponse/>"

    def _get_status(self, request: Request, now_s: float, utc_s: float) -> str:
        """Tell where the head is, or seems to be."""
        self._steer(request)
        seen = self.home_pose if self.setup.faults.frozen_status else self.head.at(now_s)
        return f"<tptz:GetStatusResponse>{describe.status(self.setup, seen, utc_s)}</tptz:GetStatusResponse>"

    # -------------------------------------------------------------------------------------------------- presets

    def _get_presets(self, request: Request, _: float, __: float) -> str:
        """Tell the presets."""
        self._steer(request)
        return f"<tptz:GetPresetsResponse>{describe.presets(self.setup, self.presets)}</tptz:GetPresetsResponse>"

    def _goto_preset(self, request: Request, now_s: float, _: float) -> str:
        """Go to a preset."""
        self._steer(request)
        preset = self._preset(text_of(request.body, "PresetToken"))
        self._go(now_s, (preset.pan_deg, preset.tilt_deg), preset.zoom, request.body)
        return "<tptz:GotoPresetResponse/>"

    def _preset(self, token: str) -> Preset:
        if token not in self.presets:
            raise SoapError(f"no preset {token[:100]!r}", "InvalidArgVal", "NoToken")
        return self.presets[token]

    def _set_preset(self, request: Request, now_s: float, _: float) -> str:
        """Store where the head is."""
        self._steer(request)
        token, name = text_of(request.body, "PresetToken"), text_of(request.body, "PresetName")
        if token:
            name = name or self._preset(token).name
        elif len(self.presets) >= describe.MAX_PRESETS:
            raise SoapError("no room for another preset", "Action", "TooManyPresets", receiver=True)
        else:
            token, self._next_token = str(self._next_token), self._next_token + 1
        here = self.head.at(now_s)
        self.presets[token] = Preset(name[:64] or f"Preset {token}", here.pan_deg, here.tilt_deg, here.zoom)
        answers = {"full": f"<tptz:PresetToken>{token}</tptz:PresetToken>", "bare": token, "empty": ""}
        return f"<tptz:SetPresetResponse>{answers[self.setup.faults.set_preset_answer]}</tptz:SetPresetResponse>"

    def _remove_preset(self, request: Request, _: float, __: float) -> str:
        """Forget a preset."""
        self._steer(request)
        token = text_of(request.body, "PresetToken")
        self._preset(token)
        del self.presets[token]
        return "<tptz:RemovePresetResponse/>"

    def _goto_home(self, request: Request, now_s: float, _: float) -> str:
        """Go home."""
        self._steer(request)
        self._go(now_s, (self.home.pan_deg, self.home.tilt_deg), self.home.zoom, request.body)
        return "<tptz:GotoHomePositionResponse/>"

    def _set_home(self, request: Request, now_s: float, _: float) -> str:
        """Make where the head is its home."""
        self._steer(request)
        here = self.head.at(now_s)
        self.home = replace(self.home, pan_deg=here.pan_deg, tilt_deg=here.tilt_deg, zoom=here.zoom)
        return "<tptz:SetHomePositionResponse/>"

    _MOVES: ClassVar[dict[tuple[str, str], Operation]] = {
        (PTZ, "AbsoluteMove"): _absolute_move,
        (PTZ, "RelativeMove"): _relative_move,
        (PTZ, "ContinuousMove"): _continuous_move,
        (PTZ, "GeoMove"): _geo_move,
        (PTZ, "Stop"): _stop,
        (PTZ, "GetStatus"): _get_status,
        (PTZ, "GetPresets"): _get_presets,
        (PTZ, "GotoPreset"): _goto_preset,
        (PTZ, "SetPreset"): _set_preset,
        (PTZ, "RemovePreset"): _remove_preset,
        (PTZ, "GotoHomePosition"): _goto_home,
        (PTZ, "SetHomePosition"): _set_home,
    }

    def _find(self, request: Request) -> Operation:
        known = _TELLS.get((request.service, request.operation)) or self._MOVES.get(
            (request.service, request.operation)
        )
        if known is None or self._hides(request.operation):
            raise SoapError(f"no operation {request.operation[:100]}", "ActionNotSupported", receiver=True)
        return known


def _turned(
    asked: tuple[float, float] | None, middle: tuple[float, float], unit: tuple[float, float]
) -> tuple[float, float] | None:
    return None if asked is None else (middle[0] + unit[0] * asked[0], middle[1] + unit[1] * asked[1])


def _seconds(duration: str) -> float:
    """Read the part of xs:duration that a move needs; 0 where there is none."""
    if not duration:
        return 0.0
    found = re.fullmatch(r"PT(?:(\d{1,2})H)?(?:(\d{1,4})M)?(?:(\d{1,6}(?:\.\d{1,9})?)S)?", duration)
    if found is None or duration == "PT":
        raise SoapError(f"no duration: {duration[:40]!r}", "InvalidArgVal", "TimeoutNotSupported")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


def _check(setup: Setup) -> None:
    """Refuse a setup whose values contradict each other."""
    head = setup.head
    for name, low, high, home in (
        ("pan", head.pan_min_deg, head.pan_max_deg, head.home_pan_deg),
        ("tilt", head.tilt_min_deg, head.tilt_max_deg, head.home_tilt_deg),
    ):
        if not low < high:
            raise InputError(
                f"{setup.camera_id}: head.{name}_min_deg = {low:g} must be less than the maximum, {high:g}"
            )
        if not low <= home <= high:
            raise InputError(f"{setup.camera_id}: head.home_{name}_deg = {home:g} must be from {low:g} to {high:g}")
    if head.hfov_min_deg > head.hfov_max_deg:
        raise InputError(
            f"{setup.camera_id}: head.hfov_min_deg = {head.hfov_min_deg:g} must not be more than hfov_max_deg"
        )
    if head.endless and head.pan_max_deg - head.pan_min_deg != 360.0:
        raise InputError(f"{setup.camera_id}: an endless head counts its pan over 360 degrees, such as -180 to 180")
    if setup.geo_move and setup.place is None:
        raise InputError(
            f"{setup.camera_id}: geo_move needs [place] with latitude_deg and longitude_deg, and there is none"
        )


def _said(name: str, tell: Callable[[Camera, float], str]) -> Operation:
    """Make an operation of one that only tells."""
    prefix, _, operation = name.partition(":")
    return lambda camera, _request, _now_s, utc_s: (
        f"<{prefix}:{operation}Response>{tell(camera, utc_s)}</{prefix}:{operation}Response>"
    )


def _profile(camera: Camera, request: Request, _: float, __: float) -> str:
    token = text_of(request.body, "ProfileToken", MEDIA)
    if token not in describe.PROFILES:
        raise SoapError(f"no profile {token[:100]!r}", "InvalidArgVal", "NoProfile")
    return f"<trt:GetProfileResponse>{describe.profile(camera.setup, token, 'trt:Profile')}</trt:GetProfileResponse>"


_TELL: dict[str, Callable[[Camera, float], str]] = {
    "tds:GetSystemDateAndTime": lambda _, utc_s: describe.date_and_time(utc_s),
    "tds:GetServices": lambda camera, _: describe.services(camera.setup, camera.base),
    "tds:GetCapabilities": lambda camera, _: describe.capabilities(camera.setup, camera.base),
    "tds:GetDeviceInformation": lambda camera, _: (
        "<tds:Manufacturer>AGLS</tds:Manufacturer><tds:Model>simulated head</tds:Model>"
        "<tds:FirmwareVersion>1</tds:FirmwareVersion>"
        f"<tds:SerialNumber>{camera.setup.camera_id}</tds:SerialNumber><tds:HardwareId>none</tds:HardwareId>"
    ),
    "trt:GetProfiles": lambda camera, _: "".join(
        describe.profile(camera.setup, token, "trt:Profiles") for token in describe.PROFILES
    ),
    "tptz:GetServiceCapabilities": lambda _, __: '<tptz:Capabilities MoveStatus="true" StatusPosition="true"/>',
    "tptz:GetNodes": lambda camera, _: describe.node(camera.setup),
    "tptz:GetNode": lambda camera, _: describe.node(camera.setup),
    "tptz:GetConfigurations": lambda camera, _: describe.configuration(camera.setup, "tptz:PTZConfiguration"),
    "tptz:GetConfiguration": lambda camera, _: describe.configuration(camera.setup, "tptz:PTZConfiguration"),
    "tptz:GetConfigurationOptions": lambda camera, _: describe.options(camera.setup),
}
_SPACE_OF = {"tds": DEVICE, "trt": MEDIA, "tptz": PTZ}
_TELLS: dict[tuple[str, str], Operation] = {
    **{(_SPACE_OF[name.partition(":")[0]], name.partition(":")[2]): _said(name, tell) for name, tell in _TELL.items()},
    (MEDIA, "GetProfile"): _profile,
}
