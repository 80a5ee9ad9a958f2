"""Turn a camera by ONVIF, and believe nothing but where it then says it looks.

    find       clock, services, the profile that moves, spaces: asked once, and again after a camera let us down
    turn       GeoMove -> absolute in degrees -> absolute in generic space -> a preset that shows the place;
               the next one wherever a camera refuses, or takes it and does not move
    verify     GetStatus until it stands still where it should: an answer of 200 moves nothing

Every question has a time limit, an answer a size; redirects are not followed, and of an address that a camera tells
only the path is used, so that no camera can send our password elsewhere. Login: a digest by the camera's clock, else
HTTP Digest where it asks for that, else the readable password where the site allows it or TLS hides it.
"""

import asyncio
import math
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

import httpx

from agls.bridge.camera import soap
from agls.bridge.camera.ability import Ability, Posture, ability_of, coordinates, nodes_of, posture_of, zoom_of
from agls.bridge.camera.soap import DEGREES, DEVICE, GENERIC, MEDIA, PTZ, TT, OnvifError
from agls.config import Camera, Onvif, Preset
from agls.errors import InputError
from agls.messages import SlewRequest
from agls.mqtt_settings import password

LIMIT_S = 2.0  # for one question, all of it
MAX_BYTES = 1_048_576  # 300 presets are a tenth of that
TRIES = 3  # where nobody answered; everything asked may be asked twice
POINTING_DEG = 0.3  # within the half degree that is promised
VIEW_SHARE = 0.1  # of the field of view
START_S = 1.0  # a head that has not begun to turn by then does not
TURN_S = 8.0  # from one end to the other, of a slow head
DIGEST, HTTP_DIGEST, READABLE = "digest", "http digest", "readable"
GUESSES = {DEVICE: (), MEDIA: ("/onvif/Media", "/onvif/media_service"), PTZ: ("/onvif/PTZ", "/onvif/ptz_service")}

Outcome: TypeAlias = Literal["on_target", "off_target", "not_moved", "failed", "released"]
Way: TypeAlias = tuple[str, str, Posture]  # its name, the request, where it leads


@dataclass(frozen=True, slots=True)
class Turned:
    """What became of a move.

    Attributes
    ----------
    outcome : str
        ``on_target`` alone is verified; ``released`` is no longer wanted; ``not_moved`` is also what a camera shows
        whose status does not follow.
    method : str
        ``geo``, ``degrees``, ``generic``, ``preset`` or ``home``; nothing where none was left.
    posture : Posture or None
        Where it said last that it looks.
    detail : str
        Why not, way by way.
    """

    outcome: Outcome
    method: str = ""
    posture: Posture | None = None
    detail: str = ""


class OnvifCamera:
    """One camera that is turned by ONVIF; an async context manager that closes its connection.

    Parameters
    ----------
    camera : Camera
        With its `onvif` table.
    limit_s : float, optional
        For one question [s].
    utc_s : callable, optional
        Wall clock, since 1970 [s].

    Raises
    ------
    InputError
        If it has no such table, or its files cannot be used.
    """

    def __init__(self, camera: Camera, *, limit_s: float = LIMIT_S, utc_s: Callable[[], float] = time.time) -> None:
        if camera.onvif is None:
            raise InputError(f"camera {camera.camera_id!r} has no [camera.onvif] table; one with a url is needed")
        self.camera, self.settings, self._limit_s, self._utc_s = camera, camera.onvif, limit_s, utc_s
        self._password = password(self.settings.password_file) if self.settings.password_file else ""
        self._http = httpx.AsyncClient(
            verify=_certificates(self.settings), trust_env=False, follow_redirects=False, timeout=limit_s
        )
        self._digest = httpx.DigestAuth(self.settings.username, self._password)
        self._login, self._ahead_s, self._asked_s = DIGEST, 0.0, -math.inf
        self._paths = {DEVICE: urlsplit(self.settings.url).path or "/onvif/device_service"}
        self._ability: Ability | None = None
        self._is_wanted: Callable[[], bool] = lambda: True

    async def __aenter__(self) -> Self:
        """Connect when first asked."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def posture(self) -> Posture:
        """Ask where it looks.

        Returns
        -------
        Posture
            As it says.

        Raises
        ------
        OnvifError
            If it does not.
        """
        ability = await self.ability()
        answer = await self._ask(PTZ, soap.steered("GetStatus", ability.profile))
        return posture_of(self.camera, ability, soap.reading_of(answer))

    async def turn(self, request: SlewRequest, is_wanted: Callable[[], bool] = lambda: True) -> Turned:
        """Look at a place.

        Parameters
        ----------
        request : SlewRequest
            Where, and how wide.
        is_wanted : callable, optional
            Asked before every command: once it says no, nothing more is.

        Returns
        -------
        Turned
            Whether it does, verified.
        """
        wanted = Posture(request.pan_deg, request.tilt_deg, request.hfov_deg)
        self._is_wanted = is_wanted
        try:
            ability = await self.ability()
            ways = [*self._ways(ability, request, wanted), *await self._preset_ways(ability, wanted)]
            return await self._first_of(ability, ways)
        except OnvifError as error:
            return self._let_down(error)

    async def go_home(self, is_wanted: Callable[[], bool] = lambda: True) -> Turned:
        """Go where it looks when nobody asks.

        Parameters
        ----------
        is_wanted : callable, optional
            Asked before the command, as in `turn`.

        Returns
        -------
        Turned
            ``on_target`` once it stands still after that, wherever home is.
        """
        self._is_wanted = is_wanted
        try:
            ability = await self.ability()
            await self._say(soap.steered("GotoHomePosition", ability.profile))
            return Turned("on_target", "home", await self._still(ability))
        except OnvifError as error:
            return self._let_down(error)

    def _let_down(self, error: OnvifError) -> Turned:
        if error.reason == "released":
            return Turned("released")
        # What it said of itself may be of another firmware, or of another camera, by the next time.
        self._ability = None
        return Turned("failed", detail=str(error))

    # ------------------------------------------------------------------------------------------------ turning

    def _ways(self, ability: Ability, request: SlewRequest, wanted: Posture) -> Iterator[Way]:
        zoom = self._zoom(ability, wanted)
        target = request.target
        if ability.geo_move:
            width_m = 2.0 * request.distance_m * math.tan(math.radians(min(request.hfov_deg, 170.0)) / 2.0)
            place = (target.latitude_deg, target.longitude_deg, target.height_m)
            yield "geo", soap.geo_move(ability.profile, place, (width_m, width_m * 9 / 16)), wanted
        for name, space in (("degrees", DEGREES), ("generic", GENERIC)):
            if space == GENERIC or ability.degrees:
                at = coordinates(ability, space, wanted.pan_deg, wanted.tilt_deg)
                yield name, soap.absolute_move(ability.profile, at, space, zoom), wanted

    def _zoom(self, ability: Ability, wanted: Posture) -> float | None:
        if ability.zoom is None or wanted.hfov_deg is None:
            return None
        low, high = ability.zoom
        return low + zoom_of(self.camera, wanted.hfov_deg) * (high - low)

    async def _preset_ways(self, ability: Ability, wanted: Posture) -> list[Way]:
        """Find the preset that shows the place best, of those the site knows the direction of."""
        shows = [one for one in self.camera.preset if _apart_deg(one, wanted) < one.hfov_deg / 2.0]
        if not shows:
            return []
        best = min(shows, key=lambda one: _apart_deg(one, wanted))
        found = best.token or await self._token_of(ability, best.name)
        there = Posture(best.pan_deg, best.tilt_deg, best.hfov_deg)
        return [("preset", soap.goto_preset(ability.profile, found), there)] if found else []

    async def _token_of(self, ability: Ability, name: str) -> str:
        try:
            answer = await self._ask(PTZ, soap.steered("GetPresets", ability.profile))
        except OnvifError:
            return ""
        for preset in answer.iter(f"{{{PTZ}}}Preset"):
            said = (preset.findtext(f"{{{TT}}}Name") or "").strip()
            if name in (said, unquote(said)):
                return preset.get("token", "")
        return ""

    async def _first_of(self, ability: Ability, ways: list[Way]) -> Turned:
        """Try one way after the other until one leads there."""
        tried: list[Turned] = []
        for name, request, there in ways:
            try:
                before = await self._look(ability)
                await self._say(request)
                if name == "geo" and (zoom := self._zoom(ability, there)) is not None:
                    await self._say(soap.absolute_move(ability.profile, None, "", zoom))
                turned = await self._verify(ability, name, before, there)
            except OnvifError as error:
                if error.reason in ("away", "unauthorised", "released"):
                    raise
                turned = Turned("failed", name, detail=str(error))
            if turned.outcome == "on_target":
                return turned
            tried.append(turned)
        detail = "; ".join(f"{one.method} {one.outcome} {one.detail}".strip() for one in tried)
        last = tried[-1] if tried else Turned("failed", detail="no way to turn it")
        return Turned(last.outcome, last.method, last.posture, detail)

    async def _say(self, request: str) -> None:
        """Ask for a move; whether a late or broken answer meant yes is for the status to tell."""
        self._ask_still_wanted()
        try:
            await self._ask(PTZ, request)
        except OnvifError as error:
            if error.reason not in ("slow", "garbage", "too_long"):
                raise

    def _ask_still_wanted(self) -> None:
        if not self._is_wanted():
            raise OnvifError("released")

    async def _look(self, ability: Ability) -> tuple[Posture, bool | None]:
        reading = soap.reading_of(await self._ask(PTZ, soap.steered("GetStatus", ability.profile)))
        return posture_of(self.camera, ability, reading), reading.moving

    async def _verify(self, ability: Ability, name: str, before: tuple[Posture, bool | None], there: Posture) -> Turned:
        """Watch it until it stands still: there, elsewhere, or where it was."""
        begun_s = time.monotonic()
        last, moved = before[0], False
        while (passed_s := time.monotonic() - begun_s) < TURN_S:
            self._ask_still_wanted()
            seen, moving = await self._look(ability)
            stands = not moving if moving is not None else seen == last
            moved |= _apart_deg(seen, before[0]) > 2 * POINTING_DEG or seen.hfov_deg != before[0].hfov_deg
            last = seen
            if stands and is_there(seen, there):
                return Turned("on_target", name, seen)
            if stands and passed_s > START_S:
                break
        off = f"{_apart_deg(last, there):.1f} degrees off"
        return Turned("off_target" if moved else "not_moved", name, last, off)

    async def _still(self, ability: Ability) -> Posture:
        begun_s, last = time.monotonic(), None
        while time.monotonic() - begun_s < TURN_S:
            self._ask_still_wanted()
            seen, moving = await self._look(ability)
            if moving is False or (moving is None and seen == last):
                return seen
            last = seen
        raise OnvifError("slow", "still turning home")

    # ------------------------------------------------------------------------------------------------ finding

    async def ability(self) -> Ability:
        """Find out what it can do, unless that is known.

        Returns
        -------
        Ability
            As it says, completed.

        Raises
        ------
        OnvifError
            If it says too little.
        """
        if self._ability is None:
            await self._set_clock()
            await self._find_services()
            profile, configuration = await self._find_profile()
            nodes = await self._told(PTZ, soap.GET_NODES)
            token = "" if configuration is None else configuration.get("token", "")
            options = await self._told(PTZ, soap.get_options(token)) if token else None
            others = [one for one in (options, configuration) if one is not None]
            node = next(iter(nodes_of(nodes)), None) if nodes is not None else None
            self._ability = ability_of(self.camera, profile, node, others)
        return self._ability

    async def _set_clock(self) -> None:
        """Learn how far the camera's clock is ahead: it takes no login by another one."""
        try:
            answer = await self._ask(DEVICE, soap.GET_TIME, login=False)
            self._ahead_s = soap.utc_of(answer) - self._utc_s()
        except OnvifError as error:
            if error.reason in ("away", "slow", "too_long"):
                raise

    async def _find_services(self) -> None:
        said: dict[str, str] = {}
        for question in (soap.GET_SERVICES, soap.GET_CAPABILITIES):
            answer = await self._told(DEVICE, question)
            if answer is not None and not said:
                said = _addresses(answer)
        for space, guesses in GUESSES.items():
            paths = [path for path in (urlsplit(said[space]).path if space in said else "", *guesses) if path]
            self._paths[space] = self._paths[DEVICE] if space == DEVICE else (paths or [self._paths[DEVICE]])[0]

    async def _find_profile(self) -> tuple[str, Element | None]:
        answer = await self._ask(MEDIA, soap.GET_PROFILES)
        profiles = [one for one in answer.iter(f"{{{MEDIA}}}Profiles") if one.get("token")]
        if not profiles:
            raise OnvifError("garbage", "no media profile")
        for profile in profiles:
            if (configuration := profile.find(f"{{{TT}}}PTZConfiguration")) is not None:
                return profile.get("token", ""), configuration
        return profiles[0].get("token", ""), None

    async def _told(self, service: str, request: str) -> Element | None:
        """Ask what a camera may well not know."""
        try:
            return await self._ask(service, request)
        except OnvifError as error:
            if error.reason not in ("refused", "garbage"):
                raise
            return None

    # ------------------------------------------------------------------------------------------------ asking

    async def _ask(self, service: str, request: str, *, login: bool = True) -> Element:
        """Ask, once more where nobody answered, and in another way where the login was refused."""
        away_count, logins = 0, self._logins() if login else iter(())
        while True:
            try:
                return soap.parse(await self._post(self._paths[service], request, login=login))
            except OnvifError as error:
                if error.reason == "away" and (away_count := away_count + 1) < TRIES:
                    continue
                if error.reason != "unauthorised" or not await self._log_in_otherwise(logins, error):
                    raise

    def _logins(self) -> Iterator[str]:
        yield DIGEST  # once more, by the camera's clock as it is now
        if self.settings.plain_password or self.settings.url.startswith("https"):
            yield READABLE

    async def _log_in_otherwise(self, logins: Iterator[str], error: OnvifError) -> bool:
        if error.detail == HTTP_DIGEST:
            is_new = self._login != HTTP_DIGEST
            self._login = HTTP_DIGEST
            return is_new
        self._login = next(logins, "")
        if self._login == DIGEST:
            await self._set_clock()
        is_left, self._login = bool(self._login), self._login or DIGEST
        return is_left

    async def _post(self, path: str, request: str, *, login: bool) -> bytes:
        await self._pace()
        parts = urlsplit(self.settings.url)
        security, auth = "", None
        if login and self.settings.username and self._login == HTTP_DIGEST:
            auth = self._digest
        elif login and self.settings.username:
            security = soap.token(
                self.settings.username, self._password, secrets.token_bytes(16), self._utc_s() + self._ahead_s,
                readable=self._login == READABLE,
            )  # fmt: skip
        headers = {"Content-Type": "application/soap+xml; charset=utf-8", "Accept-Encoding": "identity"}
        address = f"{parts.scheme}://{parts.netloc}{path}"
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._exchange(address, soap.envelope(request, security), headers, auth)
        except (TimeoutError, httpx.TimeoutException):
            raise OnvifError("slow", f"no whole answer within {self._limit_s:g} s") from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            # A connection that ends without an answer is nobody; a status line that is none is somebody odd.
            reason = "away" if "disconnected" in str(error) else "garbage"
            raise OnvifError(reason, type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise OnvifError("away", type(error).__name__) from None

    async def _exchange(
        self, address: str, content: bytes, headers: dict[str, str], auth: httpx.DigestAuth | None
    ) -> bytes:
        async with self._http.stream("POST", address, content=content, headers=headers, auth=auth) as answer:
            if answer.status_code == 401 and "digest" in answer.headers.get("www-authenticate", "").lower():
                raise OnvifError("unauthorised", HTTP_DIGEST)
            received = b""
            async for part in answer.aiter_raw():
                received += part
                if len(received) > MAX_BYTES:
                    raise OnvifError("too_long", f"more than {MAX_BYTES} bytes")
        if answer.status_code == 401:
            raise OnvifError("unauthorised", "HTTP 401")
        if 300 <= answer.status_code < 400:
            raise OnvifError("refused", f"HTTP {answer.status_code}, a redirect")
        return received

    async def _pace(self) -> None:
        wait_s = self._asked_s + 1.0 / self.settings.rate_per_s - time.monotonic()
        self._asked_s = time.monotonic() + max(wait_s, 0.0)
        await asyncio.sleep(max(wait_s, 0.0))


def is_there(seen: Posture, wanted: Posture) -> bool:
    """Tell whether a camera looks where it should.

    Parameters
    ----------
    seen, wanted : Posture
        Where it looks, and where it should.

    Returns
    -------
    bool
        Within `POINTING_DEG`, and within `VIEW_SHARE` of the field of view where it says one.
    """
    if _apart_deg(seen, wanted) > POINTING_DEG:
        return False
    if seen.hfov_deg is None or wanted.hfov_deg is None:
        return True
    return abs(seen.hfov_deg - wanted.hfov_deg) <= VIEW_SHARE * wanted.hfov_deg


def _apart_deg(one: Posture | Preset, other: Posture | Preset) -> float:
    """Measure the angle between two directions."""
    pan = math.radians(one.pan_deg - other.pan_deg)
    first, second = math.radians(one.tilt_deg), math.radians(other.tilt_deg)
    # The haversine: exact where the directions nearly agree.
    square = math.sin((first - second) / 2) ** 2 + math.cos(first) * math.cos(second) * math.sin(pan / 2) ** 2
    return 2.0 * math.degrees(math.asin(math.sqrt(min(1.0, square))))


def _addresses(answer: Element) -> dict[str, str]:
    """Read where services are, as GetServices or GetCapabilities tell."""
    found = {}
    for service in answer.iter(f"{{{DEVICE}}}Service"):
        space = (service.findtext(f"{{{DEVICE}}}Namespace") or "").strip()
        found[space] = (service.findtext(f"{{{DEVICE}}}XAddr") or "").strip()
    for name, space in (("Media", MEDIA), ("PTZ", PTZ)):
        for part in answer.iter(f"{{{TT}}}{name}"):
            found.setdefault(space, (part.findtext(f"{{{TT}}}XAddr") or "").strip())
    return {space: address for space, address in found.items() if _is_usable(address)}


def _is_usable(address: str) -> bool:
    try:
        path = urlsplit(address).path
    except ValueError:
        return False
    return path.startswith("/") and path.isascii() and path.isprintable() and len(path) <= 200


def _certificates(settings: Onvif) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"camera.onvif.ca_file {settings.ca_file} cannot be used ({error}); give certificates in PEM"
        ) from None
