"""A pan-tilt-zoom head in virtual time: where it is and how fast it turns, from the commands given to it.

Each axis accelerates, cruises and brakes at constant rates, and never leaves its limits. A `Head` is a value: a command
gives a new one, and `Head.at` tells where it is at any later time. Nothing here reads a clock, so a test may let an
hour pass in no time, and the same commands give the same motion.

    pan   clockwise seen from above, from the mount's own forward      tilt   up      zoom   0 wide to 1 tele
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

from msgspec import Meta

from agls.config import Table

ENDLESS_DEG = 1e7  # as far as a head without a stop turns in a day at 100 degrees a second
STILL = 1e-9
LONG_AGO_S = 1e9

Speed: TypeAlias = Annotated[float, Meta(gt=0, le=1_000, description="degrees a second")]
Acceleration: TypeAlias = Annotated[float, Meta(gt=0, le=10_000, description="degrees a second, each second")]


class HeadModel(Table, frozen=True, kw_only=True):
    """What a head can do."""

    pan_min_deg: Annotated[float, Meta(ge=-360, le=360, description="lower limit of pan")] = -180.0
    pan_max_deg: Annotated[float, Meta(ge=-360, le=360, description="upper limit of pan")] = 180.0
    endless: Annotated[bool, Meta(description="turns on past the limits of pan, which then only count it")] = False
    tilt_min_deg: Annotated[float, Meta(ge=-90, le=90, description="lower limit of tilt, negative is down")] = -90.0
    tilt_max_deg: Annotated[float, Meta(ge=-90, le=90, description="upper limit of tilt")] = 20.0
    pan_speed_deg_s: Speed = 300.0
    tilt_speed_deg_s: Speed = 200.0
    pan_acceleration_deg_s2: Acceleration = 900.0
    tilt_acceleration_deg_s2: Acceleration = 600.0
    zoom_s: Annotated[float, Meta(gt=0, le=60, description="time from wide to tele")] = 3.0
    hfov_max_deg: Annotated[float, Meta(gt=0, lt=180, description="horizontal field of view zoomed out")] = 60.0
    hfov_min_deg: Annotated[float, Meta(gt=0, lt=180, description="horizontal field of view zoomed in")] = 2.5
    home_pan_deg: Annotated[float, Meta(ge=-360, le=360, description="where it looks when switched on")] = 0.0
    home_tilt_deg: Annotated[float, Meta(ge=-90, le=90, description="likewise")] = 0.0
    resolution_deg: Annotated[float, Meta(ge=0, le=5, description="step in which it tells its position")] = 0.01


class Mount(Table, frozen=True, kw_only=True):
    """How the base of a head stands on its pole."""

    yaw_deg: Annotated[float, Meta(ge=-360, le=360, description="azimuth of pan 0, clockwise from north")] = 0.0
    pitch_deg: Annotated[float, Meta(ge=-90, le=90, description="how far pan 0 looks up at tilt 0")] = 0.0
    roll_deg: Annotated[float, Meta(ge=-180, le=180, description="how far the right side hangs down at pan 0")] = 0.0


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of constant acceleration.

    Attributes
    ----------
    start_s, place, rate, acceleration : float
        When it begins, and place, rate and acceleration then, in the axis' own unit and seconds.
    """

    start_s: float
    place: float
    rate: float
    acceleration: float

    def at(self, time_s: float) -> tuple[float, float]:
        """Tell place and rate.

        Parameters
        ----------
        time_s : float
            When; before the beginning counts as the beginning [s].

        Returns
        -------
        tuple of float
            Place and rate.
        """
        past_s = max(time_s - self.start_s, 0.0)
        place = self.place + (self.rate + 0.5 * self.acceleration * past_s) * past_s
        return place, self.rate + self.acceleration * past_s


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis under way.

    Attributes
    ----------
    low, high : float
        Its limits.
    top_rate, acceleration : float
        The most it does.
    legs : tuple of Leg
        What it will do, in order; the last goes on for ever.
    """

    low: float
    high: float
    top_rate: float
    acceleration: float
    legs: tuple[Leg, ...]

    def at(self, time_s: float) -> tuple[float, float]:
        """Tell place and rate.

        Parameters
        ----------
        time_s : float
            When [s].

        Returns
        -------
        tuple of float
            Place and rate.
        """
        number = bisect_right(self.legs, time_s, key=lambda leg: leg.start_s)
        return self.legs[max(number - 1, 0)].at(time_s)

    @property
    def rests_from_s(self) -> float:
        """When it stands still for good.

        Returns
        -------
        float
            Beginning of the last leg [s].
        """
        return self.legs[-1].start_s

    def to(self, time_s: float, target: float, share: float = 1.0) -> Axis:
        """Go to a place as fast as may be, and stop there.

        Parameters
        ----------
        time_s : float
            When the command comes [s].
        target : float
            Where to; the nearest limit where it is beyond.
        share : float, optional
            Of the top rate, above 0 to 1.

        Returns
        -------
        Axis
            The axis with its new course.
        """
        place, rate = self.at(time_s)
        target = min(max(target, self.low), self.high)
        way = target - place - rate * abs(rate) / (2 * self.acceleration)  # beyond where it would stop by braking
        if abs(way) < STILL:
            return self.brake(time_s)
        push = math.copysign(self.acceleration, way)
        peak = math.copysign(math.sqrt(max(push * (target - place) + rate**2 / 2, 0.0)), way)
        cruise = math.copysign(min(abs(peak), self.top_rate * share), way)
        first = math.copysign(self.acceleration, cruise - rate)
        legs = [Leg(time_s, place, rate, first)]
        legs.append(self._next(legs[-1], (cruise - rate) / first, 0.0))
        left = target - legs[-1].place - cruise * abs(cruise) / (2 * self.acceleration)
        legs.append(self._next(legs[-1], max(left / cruise, 0.0), -push))
        rest_s = legs[-1].start_s + abs(cruise) / self.acceleration
        return replace(self, legs=(*legs, Leg(rest_s, target, 0.0, 0.0)))

    @staticmethod
    def _next(leg: Leg, lasts_s: float, acceleration: float) -> Leg:
        place, rate = leg.at(leg.start_s + lasts_s)
        return Leg(leg.start_s + lasts_s, place, rate, acceleration)

    def drive(self, time_s: float, share: float, lasts_s: float = math.inf) -> Axis:
        """Turn on at a rate, up to the limit or for some time.

        Parameters
        ----------
        time_s : float
            When the command comes [s].
        share : float
            Of the top rate, -1 to 1; 0 brakes.
        lasts_s : float, optional
            When to brake, after the command [s].

        Returns
        -------
        Axis
            The axis with its new course.
        """
        if share == 0.0:
            return self.brake(time_s)
        driven = self.to(time_s, self.high if share > 0 else self.low, abs(share))
        stop_s = time_s + lasts_s
        if stop_s >= driven.rests_from_s:
            return driven
        before = tuple(leg for leg in driven.legs if leg.start_s < stop_s)
        return replace(self, legs=before + driven.brake(stop_s).legs)

    def brake(self, time_s: float) -> Axis:
        """Stop as fast as may be.

        Parameters
        ----------
        time_s : float
            When the command comes [s].

        Returns
        -------
        Axis
            The axis with its new course.
        """
        place, rate = self.at(time_s)
        slowing = Leg(time_s, place, rate, -math.copysign(self.acceleration, rate))
        rest = self._next(slowing, abs(rate) / self.acceleration, 0.0)
        return replace(
            self, legs=(slowing, replace(rest, rate=0.0)) if abs(rate) > STILL else (replace(rest, rate=0.0),)
        )


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a head is.

    Attributes
    ----------
    pan_deg, tilt_deg : float
        As it counts them [deg].
    zoom : float
        0 wide to 1 tele.
    turning, zooming : bool
        Whether it is on its way.
    """

    pan_deg: float
    tilt_deg: float
    zoom: float
    turning: bool = False
    zooming: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """A head under way: three axes that take commands together.

    Attributes
    ----------
    model : HeadModel
        What it can do.
    pan, tilt, zoom : Axis
        Its axes; pan and tilt [deg], zoom from 0 to 1.
    """

    model: HeadModel
    pan: Axis
    tilt: Axis
    zoom: Axis

    @classmethod
    def at_home(cls, model: HeadModel) -> Head:
        """Switch a head on.

        Parameters
        ----------
        model : HeadModel
            What it can do.

        Returns
        -------
        Head
            The head, at home and still.
        """
        low, high = (-ENDLESS_DEG, ENDLESS_DEG) if model.endless else (model.pan_min_deg, model.pan_max_deg)
        zoom_rate = 1.0 / model.zoom_s
        return cls(
            model,
            Axis(low, high, model.pan_speed_deg_s, model.pan_acceleration_deg_s2, _still(model.home_pan_deg)),
            Axis(
                model.tilt_min_deg,
                model.tilt_max_deg,
                model.tilt_speed_deg_s,
                model.tilt_acceleration_deg_s2,
                _still(model.home_tilt_deg),
            ),
            Axis(0.0, 1.0, zoom_rate, 5.0 * zoom_rate, _still(0.0)),
        )

    def at(self, time_s: float) -> Pose:
        """Tell where the head is.

        Parameters
        ----------
        time_s : float
            When, not before the last command [s].

        Returns
        -------
        Pose
            Pan within its limits, also of a head that turns endlessly.
        """
        pan_deg = self.pan.at(time_s)[0]
        if self.model.endless:
            pan_deg = (pan_deg - self.model.pan_min_deg) % 360.0 + self.model.pan_min_deg
        turning = time_s < max(self.pan.rests_from_s, self.tilt.rests_from_s)
        zooming = time_s < self.zoom.rests_from_s
        return Pose(pan_deg, self.tilt.at(time_s)[0], self.zoom.at(time_s)[0], turning, zooming)

    def go(
        self,
        time_s: float,
        pan_tilt_deg: tuple[float, float] | None = None,
        zoom: float | None = None,
        *,
        share: tuple[float, float] = (1.0, 1.0),
        zoom_share: float = 1.0,
    ) -> Head:
        """Go to a position.

        Parameters
        ----------
        time_s : float
            When the command comes [s].
        pan_tilt_deg : tuple of float, optional
            Where to [deg]; not given, the axes go on as they were.
        zoom : float, optional
            Likewise, 0 to 1.
        share : tuple of float, optional
            Of the top speeds of pan and tilt, above 0 to 1.
        zoom_share : float, optional
            Of the top speed of zoom.

        Returns
        -------
        Head
            The head with its new course; one that turns endlessly takes the shorter way.
        """
        head = self
        if pan_tilt_deg is not None:
            pan_deg, tilt_deg = pan_tilt_deg
            if self.model.endless:
                here = self.pan.at(time_s)[0]
                pan_deg = here + (pan_deg - here + 180.0) % 360.0 - 180.0
            pan, tilt = self.pan.to(time_s, pan_deg, share[0]), self.tilt.to(time_s, tilt_deg, share[1])
            head = replace(head, pan=pan, tilt=tilt)
        return head if zoom is None else replace(head, zoom=self.zoom.to(time_s, zoom, zoom_share))

    def drive(
        self,
        time_s: float,
        pan_tilt_share: tuple[float, float] | None = None,
        zoom_share: float | None = None,
        lasts_s: float = math.inf,
    ) -> Head:
        """Turn on at a speed; zero stops an axis.

        Parameters
        ----------
        time_s : float
            When the command comes [s].
        pan_tilt_share : tuple of float, optional
            Of the top speeds, -1 to 1; not given, the axes go on as they were.
        zoom_share : float, optional
            Likewise.
        lasts_s : float, optional
            When to stop, after the command [s].

        Returns
        -------
        Head
            The head with its new course.
        """
        head = self
        if pan_tilt_share is not None:
            pan = self.pan.drive(time_s, pan_tilt_share[0], lasts_s)
            tilt = self.tilt.drive(time_s, pan_tilt_share[1], lasts_s)
            head = replace(head, pan=pan, tilt=tilt)
        return head if zoom_share is None else replace(head, zoom=self.zoom.drive(time_s, zoom_share, lasts_s))


def _still(place: float) -> tuple[Leg, ...]:
    return (Leg(-LONG_AGO_S, place, 0.0, 0.0),)


def hfov_deg(model: HeadModel, zoom: float) -> float:
    """Compute the horizontal field of view: the focal length grows evenly with zoom.

    Parameters
    ----------
    model : HeadModel
        With its widest and narrowest view.
    zoom : float
        0 wide to 1 tele.

    Returns
    -------
    float
        Angle [deg].
    """
    wide, narrow = (1.0 / math.tan(math.radians(view / 2)) for view in (model.hfov_max_deg, model.hfov_min_deg))
    return 2.0 * math.degrees(math.atan(1.0 / (wide + zoom * (narrow - wide))))


def direction(mount: Mount, pose: Pose) -> tuple[float, float, float]:
    """Compute where the lens really looks: the truth that a calibration is judged by.

    Parameters
    ----------
    mount : Mount
        How the base stands.
    pose : Pose
        Where the head is.

    Returns
    -------
    tuple of float
        East, north, up; of length one.
    """
    pan, tilt = math.radians(pose.pan_deg), math.radians(pose.tilt_deg)
    yaw, pitch, roll = (math.radians(angle) for angle in (mount.yaw_deg, mount.pitch_deg, mount.roll_deg))
    right, ahead, up = math.sin(pan) * math.cos(tilt), math.cos(pan) * math.cos(tilt), math.sin(tilt)
    # Roll about ahead lowers the right side, pitch about right lifts the front, yaw turns clockwise from north.
    right, up = right * math.cos(roll) + up * math.sin(roll), up * math.cos(roll) - right * math.sin(roll)
    ahead, up = ahead * math.cos(pitch) - up * math.sin(pitch), up * math.cos(pitch) + ahead * math.sin(pitch)
    return right * math.cos(yaw) + ahead * math.sin(yaw), ahead * math.cos(yaw) - right * math.sin(yaw), up


def reading(mount: Mount, model: HeadModel, east_m: float, north_m: float, up_m: float) -> tuple[float, float]:
    """Compute what pan and tilt show a place: `direction` the other way round.

    Parameters
    ----------
    mount : Mount
        How the base stands.
    model : HeadModel
        Whose limits count the pan.
    east_m, north_m, up_m : float
        The place, seen from the lens [m].

    Returns
    -------
    tuple of float
        Pan and tilt [deg].
    """
    yaw, pitch, roll = (math.radians(angle) for angle in (mount.yaw_deg, mount.pitch_deg, mount.roll_deg))
    right, ahead = east_m * math.cos(yaw) - north_m * math.sin(yaw), east_m * math.sin(yaw) + north_m * math.cos(yaw)
    ahead, up = ahead * math.cos(pitch) + up_m * math.sin(pitch), up_m * math.cos(pitch) - ahead * math.sin(pitch)
    right, up = right * math.cos(roll) - up * math.sin(roll), up * math.cos(roll) + right * math.sin(roll)
    pan = math.degrees(math.atan2(right, ahead))
    pan = (pan - model.pan_min_deg) % 360.0 + model.pan_min_deg
    return pan, math.degrees(math.atan2(up, math.hypot(right, ahead)))
