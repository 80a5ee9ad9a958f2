"""What the values of a site file must hold together: each may be fine alone and wrong beside another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agls.errors import InputError

if TYPE_CHECKING:
    from agls.config import Sensor, SiteConfig

SAME_SPOT_M = 0.1
_M_PER_DEG = 111_320.0  # a degree of latitude, near enough to tell two spots apart


def check_site(site: SiteConfig, source: str) -> SiteConfig:
    """Refuse a site whose values contradict each other.

    Parameters
    ----------
    site : SiteConfig
        A site, each of whose values is accepted by itself.
    source : str
        Where it comes from, such as a file name; the sentence begins with it.

    Returns
    -------
    SiteConfig
        The same site.

    Raises
    ------
    InputError
        If two values contradict each other; the first contradiction found is told.
    """
    for checks in (_sensor_faults, _spot_faults, _camera_faults, _policy_faults, _subscriber_faults):
        for fault in checks(site):
            raise InputError(f"{source}: {fault}")
    return site


def _sensor_faults(site: SiteConfig) -> Iterator[str]:
    """Say which sensors lack a position, have two, or share a name."""
    if not site.sensor:
        yield "the site has no sensor; at least one [[sensor]] table with sensor_id and position is needed"
    seen: dict[str, int] = {}
    for number, sensor in enumerate(site.sensor):
        where = f'sensor[{number}] ("{sensor.sensor_id}")'
        local = [sensor.x_m, sensor.y_m, sensor.z_m].count(None)
        global_ = [sensor.latitude_deg, sensor.longitude_deg, sensor.height_m].count(None)
        if (local, global_) not in ((0, 3), (3, 0)):
            yield (
                f"{where} has {_given(sensor)} as its position, but must have either all of x_m, y_m, z_m "
                "or all of latitude_deg, longitude_deg, height_m, not both"
            )
        if (first := seen.setdefault(sensor.sensor_id, number)) != number:
            yield f"{where} has the sensor_id of sensor[{first}]; every sensor needs its own"
    if site.origin is None and len({sensor.x_m is None for sensor in site.sensor}) == 2:
        yield (
            "some sensors have x_m and others latitude_deg, which only an [origin] with latitude_deg, longitude_deg "
            "and height_m brings together, and there is none"
        )


def _given(sensor: Sensor) -> str:
    names = ("x_m", "y_m", "z_m", "latitude_deg", "longitude_deg", "height_m")
    given = [f"{name} = {value}" for name in names if (value := getattr(sensor, name)) is not None]
    return ", ".join(given) or "nothing"


def _spot_faults(site: SiteConfig) -> Iterator[str]:
    """Say which sensors stand on one spot; neighbours in the order of x are the only ones compared."""
    spots = []
    for number, sensor in enumerate(site.sensor):
        if sensor.x_m is not None and sensor.y_m is not None and sensor.z_m is not None:
            spots.append((False, sensor.x_m, sensor.y_m, sensor.z_m, number))
        elif sensor.latitude_deg is not None and sensor.longitude_deg is not None and sensor.height_m is not None:
            east_m = _M_PER_DEG * sensor.longitude_deg * math.cos(math.radians(sensor.latitude_deg))
            spots.append((True, east_m, _M_PER_DEG * sensor.latitude_deg, sensor.height_m, number))
    spots.sort()
    for place, (kind, x_m, *yz_m, number) in enumerate(spots):
        for other_kind, other_x_m, *other_yz_m, other in spots[place + 1 :]:
            if other_kind != kind or other_x_m - x_m > SAME_SPOT_M:
                break
            if math.dist((x_m, *yz_m), (other_x_m, *other_yz_m)) <= SAME_SPOT_M:
                first, second = sorted((number, other))
                yield (
                    f'sensor[{first}] ("{site.sensor[first].sensor_id}") and sensor[{second}] '
                    f'("{site.sensor[second].sensor_id}") stand on one spot ({_given(site.sensor[second])}); '
                    f"two sensors must be more than {SAME_SPOT_M} m apart"
                )


def _camera_faults(site: SiteConfig) -> Iterator[str]:
    """Say which cameras have swapped limits, share a name or cannot be placed."""
    seen: dict[str, int] = {}
    for number, camera in enumerate(site.camera):
        where = f'camera[{number}] ("{camera.camera_id}")'
        if (first := seen.setdefault(camera.camera_id, number)) != number:
            yield f"{where} has the camera_id of camera[{first}]; every camera needs its own"
        for low, high in (
            ("pan_min_deg", "pan_max_deg"),
            ("tilt_min_deg", "tilt_max_deg"),
            ("hfov_min_deg", "hfov_max_deg"),
        ):
            if (least := getattr(camera, low)) > (most := getattr(camera, high)):
                yield f"{where} has {low} = {least}, which must not be more than {high} = {most}"
    if site.camera and site.origin is None and all(sensor.latitude_deg is None for sensor in site.sensor):
        yield (
            "there are cameras at latitude_deg, longitude_deg and sensors at x_m, y_m, which only an [origin] with "
            "latitude_deg, longitude_deg and height_m brings together, and there is none"
        )


def _policy_faults(site: SiteConfig) -> Iterator[str]:
    """Say which limits of the policy contradict each other."""
    gathering = site.gathering
    if gathering.probable_p < gathering.possible_p:
        yield (
            f"gathering.probable_p = {gathering.probable_p} must not be less than "
            f"gathering.possible_p = {gathering.possible_p}"
        )
    try:
        ZoneInfo(site.policy.timezone)
    except (KeyError, ValueError, OSError):
        yield f"policy.timezone = {site.policy.timezone!r} is not a time zone known here, such as UTC or US/Eastern"
    for number, rule in enumerate(site.rule):
        if rule.zone and len(set(rule.zone)) < 3:
            yield f'rule[{number}] ("{rule.name}") has a zone of {len(set(rule.zone))} corners; at least 3 are needed'
        probable_p, possible_p = rule.probable_p or gathering.probable_p, rule.possible_p or gathering.possible_p
        if probable_p < possible_p:
            yield (
                f'rule[{number}] ("{rule.name}") makes probable_p = {probable_p}, which must not be less than '
                f"possible_p = {possible_p}"
            )


def _subscriber_faults(site: SiteConfig) -> Iterator[str]:
    """Say which receivers share a name, or an address with one of the other realm."""
    names: dict[str, int] = {}
    realms: dict[str, str] = {site.cad.webhook_url: "live"} if site.cad.webhook_url else {}
    for number, one in enumerate(site.subscriber):
        where = f'subscriber[{number}] ("{one.subscriber_id}")'
        if (first := names.setdefault(one.subscriber_id, number)) != number:
            yield f"{where} has the subscriber_id of subscriber[{first}]; every subscriber needs its own"
        if one.subscriber_id == "cad" and site.cad.webhook_url:
            yield f"{where} has the name of the receiver at cad.webhook_url; give it another, or leave that one out"
        if one.url and realms.setdefault(one.url, one.realm) != one.realm:
            yield f"{where} is of the realm {one.realm}, but its address receives {realms[one.url]} incidents already"
