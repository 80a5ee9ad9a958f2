"""Find how a camera's mount stands, from landmarks at known places that were put in the middle of its picture.

    agls calibrate camera --site SITE.toml --camera cam-main --landmarks landmarks.csv --out NEW.toml

`landmarks.csv` has ``landmark,pan_deg,tilt_deg`` as the camera reads them when the landmark is in the middle of the
picture, and its place as ``latitude_deg,longitude_deg,height_m`` or ``x_m,y_m,z_m``; perhaps ``position_sigma_m``.
The new site file has the camera's pan zero (yaw), pitch and roll, and how sure the mount is; with
``--position-sigma-m`` also its place. One gross mistake among five landmarks is found and named: every pair of
landmarks says how the mount would stand, and what most of them agree on is kept. A landmark 1 m off its place costs
0.57 degrees at 100 m, so far ones are worth more.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from agls.config import Camera, Origin, SiteConfig, load_site
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.replay.csv_rows import Row, read_rows
from calibration.tables import ALL, write_table

READ_BACK_SIGMA_DEG = 0.1
LANDMARK_SIGMA_M = 0.3
FEWEST = 3
GATE = 4.0  # standard deviations from which a landmark counts as a mistake
MEDIAN = 1.17741  # of the distance of a round normal distribution from its middle, in standard deviations
UNSURE_DEG = 1.0  # a turn about any axis that is less sure than this is not written
MOST_PAIRS = 400
NEAREST_M = 1.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Landmark:
    """Something at a known place, and what the camera read when it was in the middle of the picture.

    Attributes
    ----------
    name : str
        What it is.
    place_m : tuple of float
        East, north and up of the camera as the site has it [m].
    pan_deg, tilt_deg : float
        As the camera read [deg].
    sigma_m : float
        Standard deviation of the place, each axis [m].
    """

    name: str
    place_m: tuple[float, float, float]
    pan_deg: float
    tilt_deg: float
    sigma_m: float = LANDMARK_SIGMA_M


@dataclass(frozen=True)
class Mounting:
    """How a mount stands, and how sure that is.

    Attributes
    ----------
    yaw_deg, pitch_deg, roll_deg : float
        Azimuth of pan 0; how far it looks up; how far its right side hangs down [deg].
    sigma_deg : tuple of float
        One standard deviation of each [deg].
    shift_m : tuple of float
        East, north and up from where the site has the camera; zeros unless it was looked for [m].
    shift_sigma_m : tuple of float
        One standard deviation of each [m].
    residuals_deg : numpy.ndarray, shape (n, 2)
        Read less expected for each landmark: across (pan times the cosine of tilt) and up [deg].
    sigmas : numpy.ndarray, shape (n,)
        The same as a distance in standard deviations, as stated.
    used : numpy.ndarray, shape (n,), bool
        Whether each landmark counts.
    rms_deg : float
        Of the residuals that count, both directions together [deg].
    scale : float
        By how much landmarks disagree more than stated, 1 where they do not; the sigmas hold it.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    sigma_deg: tuple[float, float, float]
    shift_m: tuple[float, float, float]
    shift_sigma_m: tuple[float, float, float]
    residuals_deg: Floats
    sigmas: Floats
    used: NDArray[np.bool_]
    rms_deg: float
    scale: float


def mounting(
    landmarks: list[Landmark], read_back_sigma_deg: float = READ_BACK_SIGMA_DEG, position_sigma_m: float = 0.0
) -> Mounting:
    """Find how a mount stands.

    Parameters
    ----------
    landmarks : list of Landmark
        At least three, in more than one direction.
    read_back_sigma_deg : float, optional
        Standard deviation of each reading, centring included [deg].
    position_sigma_m : float, optional
        How far the camera may be from where the site has it, each axis [m]; 0 to leave it there.

    Returns
    -------
    Mounting
        With landmarks that contradict the others left out.

    Raises
    ------
    InputError
        If there are too few landmarks, too many contradict, or some turn of the mount cannot be told from them.
    """
    if len(landmarks) < FEWEST:
        raise InputError(f"{len(landmarks)} landmarks; at least {FEWEST} are needed to find a mistake among them")
    sky = _Sky(landmarks, read_back_sigma_deg, position_sigma_m)
    start, scale = _consensus(sky)
    used = sky.distances(start) <= GATE * scale
    for _ in range(5):  # what counts decides the fit, and the fit decides what counts; five rounds settle it
        _ask_enough(landmarks, used)
        found = sky.fit(start, used)
        again = sky.distances(found) <= GATE * scale
        if (again == used).all():
            break
        used, start = again, found
    return _told(sky, found, used)


class _Sky:
    """Landmarks as directions, and what a mount that stands so would read of them.

    Unknowns are yaw, pitch and roll [rad] and the camera's shift [m].
    """

    def __init__(self, landmarks: list[Landmark], read_back_sigma_deg: float, position_sigma_m: float) -> None:
        self.places_m = np.array([one.place_m for one in landmarks])
        self.read = np.radians([(one.pan_deg, one.tilt_deg) for one in landmarks])
        away_m = np.maximum(np.linalg.norm(self.places_m, axis=1), NEAREST_M)
        blur = np.array([one.sigma_m for one in landmarks]) / away_m
        self.sigma = np.hypot(math.radians(read_back_sigma_deg), blur)
        self.position_sigma_m = position_sigma_m
        self.unknowns = 6 if position_sigma_m > 0 else 3

    def residuals(self, theta: Floats) -> Floats:
        """Compute what was read less what would be, across and up [rad], shape (n, 2)."""
        seen = (self.places_m - theta[3:]) @ turn(*theta[:3].tolist())
        pan, tilt = np.arctan2(seen[:, 0], seen[:, 1]), np.arctan2(seen[:, 2], np.hypot(seen[:, 0], seen[:, 1]))
        across = (self.read[:, 0] - pan + np.pi) % (2 * np.pi) - np.pi
        return np.column_stack([across * np.cos(tilt), self.read[:, 1] - tilt])

    def distances(self, theta: Floats) -> Floats:
        """Compute how far off each landmark is, in its standard deviations."""
        return np.asarray(np.linalg.norm(self.residuals(theta), axis=1) / self.sigma)

    def fit(self, start: Floats, used: NDArray[np.bool_]) -> Floats:
        """Find the mount that explains the landmarks that count best."""
        found = least_squares(self._costs, start[: self.unknowns], args=(used,), x_scale="jac")
        return self._whole(found.x)

    def covariance(self, theta: Floats, used: NDArray[np.bool_]) -> Floats:
        """Compute the covariance of the unknowns; infinite values where something cannot be told."""
        step, unknowns = 1e-6, theta[: self.unknowns]
        columns = [
            (self._costs(unknowns + step * axis, used) - self._costs(unknowns - step * axis, used)) / (2 * step)
            for axis in np.eye(self.unknowns)
        ]
        information = np.column_stack(columns).T @ np.column_stack(columns)
        values, vectors = np.linalg.eigh(information)
        return np.asarray(vectors / np.maximum(values, 1e-12) @ vectors.T)

    def _costs(self, unknowns: Floats, used: NDArray[np.bool_]) -> Floats:
        off = (self.residuals(self._whole(unknowns)) / self.sigma[:, None])[used].ravel()
        return np.concatenate([off, unknowns[3:] / self.position_sigma_m]) if self.unknowns > 3 else off

    @staticmethod
    def _whole(unknowns: Floats) -> Floats:
        return np.concatenate([unknowns, np.zeros(6 - len(unknowns))])


def turn(yaw: float, pitch: float, roll: float) -> Floats:
    """Compute the matrix from a mount's right, ahead and up to east, north and up.

    Parameters
    ----------
    yaw, pitch, roll : float
        How the mount stands [rad].

    Returns
    -------
    numpy.ndarray, shape (3, 3)
        A rotation.
    """
    (a, b), (c, d), (e, f) = ((math.cos(angle), math.sin(angle)) for angle in (yaw, pitch, roll))
    yawed = np.array([[a, b, 0], [-b, a, 0], [0, 0, 1.0]])
    pitched = np.array([[1.0, 0, 0], [0, c, -d], [0, d, c]])
    rolled = np.array([[e, 0, f], [0, 1.0, 0], [-f, 0, e]])
    return np.asarray(yawed @ pitched @ rolled)


def angles(matrix: Floats) -> Floats:
    """Compute how a mount stands from its matrix: `turn` the other way round.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (3, 3)
        A rotation.

    Returns
    -------
    numpy.ndarray, shape (3,)
        Yaw, pitch and roll [rad].
    """
    ahead = matrix[:, 1]
    pitch = math.asin(max(-1.0, min(1.0, float(ahead[2]))))
    return np.array([math.atan2(ahead[0], ahead[1]), pitch, math.atan2(-matrix[2, 0], matrix[2, 2])])


def _consensus(sky: _Sky) -> tuple[Floats, float]:
    """Find the mount that most landmarks agree on, among those that pairs of them allow; and how well they do."""
    at = sky.places_m / np.linalg.norm(sky.places_m, axis=1)[:, None]
    pan, tilt = sky.read.T
    said = np.column_stack([np.sin(pan) * np.cos(tilt), np.cos(pan) * np.cos(tilt), np.sin(tilt)])
    pairs = np.array(list(combinations(range(len(at)), 2)))
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).astype(int)]
    best, cost = np.zeros(6), math.inf
    for pair in pairs:
        left, _, right = np.linalg.svd(at[pair].T @ said[pair])
        matrix = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        theta = np.concatenate([angles(matrix), np.zeros(3)])
        mistake = float(np.median(sky.distances(theta)) + np.minimum(sky.distances(theta), 3 * GATE).mean())
        if mistake < cost:
            best, cost = theta, mistake
    # The rest is judged by a fit to the better half: two landmarks alone say too much of their own errors.
    middle = np.median(sky.distances(best))
    best = sky.fit(best, sky.distances(best) <= middle)
    return best, max(1.0, float(np.median(sky.distances(best))) / MEDIAN)


def _ask_enough(landmarks: list[Landmark], used: NDArray[np.bool_]) -> None:
    if used.sum() < FEWEST or used.sum() * 2 <= len(landmarks):
        agree = ", ".join(one.name for one, keep in zip(landmarks, used, strict=True) if keep) or "none"
        raise InputError(
            f"only {used.sum()} of {len(landmarks)} landmarks agree ({agree}); at least {FEWEST} and more than half "
            "must: check their names, places and readings, or give more"
        )


def _told(sky: _Sky, theta: Floats, used: NDArray[np.bool_]) -> Mounting:
    """Put a fit into degrees, refused where the landmarks leave a turn open."""
    covariance = sky.covariance(theta, used)
    residuals = sky.residuals(theta)
    freedom = max(2 * int(used.sum()) - 3, 1)
    scale = max(1.0, math.sqrt(float((sky.distances(theta)[used] ** 2).sum()) / freedom))
    spread = _turns(theta, covariance[:3, :3] * scale**2)
    values, vectors = np.linalg.eigh(spread)
    if (worst := math.degrees(math.sqrt(values[-1]))) > UNSURE_DEG:
        raise InputError(_open_turn(vectors[:, -1], worst))
    sigma = np.sqrt(np.diag(covariance)) * scale
    yaw, pitch, roll = np.degrees(angles(turn(*theta[:3].tolist()))).tolist()
    shift_sigma = sigma[3:].tolist() if sky.unknowns > 3 else [0.0, 0.0, 0.0]
    return Mounting(
        yaw_deg=yaw % 360.0,
        pitch_deg=pitch,
        roll_deg=roll,
        sigma_deg=_triple(np.degrees(sigma[:3]).tolist()),
        shift_m=_triple(theta[3:].tolist()),
        shift_sigma_m=_triple(shift_sigma),
        residuals_deg=np.degrees(residuals),
        sigmas=sky.distances(theta),
        used=used,
        rms_deg=math.degrees(math.sqrt(float((residuals[used] ** 2).mean()))),
        scale=scale,
    )


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _turns(theta: Floats, covariance: Floats) -> Floats:
    """Turn the covariance of three angles into that of a small turn about east, north and up."""
    step, here = 1e-6, turn(*theta[:3].tolist())
    columns = []
    for axis in np.eye(3):
        moved = (turn(*(theta[:3] + step * axis).tolist()) @ here.T - np.eye(3)) / step
        columns.append([moved[2, 1], moved[0, 2], moved[1, 0]])
    jacobian = np.array(columns).T
    return np.asarray(jacobian @ covariance @ jacobian.T)


def _open_turn(axis: Floats, sigma_deg: float) -> str:
    """Say what cannot be told, and what would tell it."""
    azimuth = math.degrees(math.atan2(axis[0], axis[1])) % 360.0
    elevation = math.degrees(math.asin(max(-1.0, min(1.0, float(axis[2])))))
    if elevation < 0:
        azimuth, elevation = (azimuth + 180.0) % 360.0, -elevation
    how = "not at all" if sigma_deg > 90 else f"only to {sigma_deg:.1f} degrees"
    where = "straight up" if elevation > 80 else f"towards azimuth {azimuth:.0f}, {elevation:.0f} degrees up"
    return (
        f"a turn of the mount about the axis {where} can be told {how}, at most {UNSURE_DEG:g} is accepted: the "
        "landmarks lie too near that line; add some in other directions, 90 degrees from it at best"
    )


# ---------------------------------------------------------------------------------------------------------- files


def read_landmarks(path: Path, camera: Camera, site: SiteConfig) -> list[Landmark]:
    """Read landmarks as seen from a camera.

    Parameters
    ----------
    path : pathlib.Path
        CSV, as the module says.
    camera : Camera
        Where they were seen from.
    site : SiteConfig
        Whose frame ``x_m,y_m,z_m`` are in.

    Returns
    -------
    list of Landmark
        In the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, names one twice, or has one where the camera is.
    """
    here, frame = _frame_at(camera), Frame.of_site(site)
    found: dict[str, Landmark] = {}
    for row in read_rows(path, ("landmark", "pan_deg", "tilt_deg")):
        name, place_m = row.name("landmark"), _place(row, here, frame)
        if name in found:
            raise InputError(f"{row.where('landmark')}: {name!r} is there already; every landmark needs its own name")
        if math.hypot(*place_m) < NEAREST_M:
            raise InputError(f"{row.where('landmark')}: {name!r} is where the camera is; at least {NEAREST_M:g} m away")
        sigma_m = row.number_or_none("position_sigma_m", 0, 100, "m")
        found[name] = Landmark(
            name,
            place_m,
            row.number("pan_deg", -720, 720, "degrees"),
            row.number("tilt_deg", -180, 180, "degrees"),
            LANDMARK_SIGMA_M if sigma_m is None else sigma_m,
        )
    return list(found.values())


def _frame_at(camera: Camera) -> Frame:
    place = Origin(latitude_deg=camera.latitude_deg, longitude_deg=camera.longitude_deg, height_m=camera.height_m)
    return Frame.of_site(SiteConfig(name=camera.camera_id, origin=place))


def _place(row: Row, here: Frame, frame: Frame) -> tuple[float, float, float]:
    if row.has("x_m"):
        x_m, y_m, z_m = (row.number(column, -1e6, 1e6, "m") for column in ("x_m", "y_m", "z_m"))
        place = frame.to_geodetic(x_m, y_m, z_m)
        if place is None:
            raise InputError(f"{row.where('x_m')}: the site has no place on Earth; latitude_deg and so on are accepted")
    else:
        place = (
            row.number("latitude_deg", -90, 90, "degrees"),
            row.number("longitude_deg", -180, 180, "degrees"),
            row.number("height_m", -500, 9_000, "m"),
        )
    return here.to_local(*place) or (0.0, 0.0, 0.0)


def mounted(camera: Camera, found: Mounting) -> Camera:
    """Put what was found into a camera.

    Parameters
    ----------
    camera : Camera
        As the site has it.
    found : Mounting
        How its mount stands.

    Returns
    -------
    Camera
        With the mount, its sigma, and its place where that was looked for.
    """
    place = {}
    if any(found.shift_sigma_m):
        latitude, longitude, height = _frame_at(camera).to_geodetic(*found.shift_m) or (0.0, 0.0, 0.0)
        place = {"latitude_deg": round(latitude, 9), "longitude_deg": round(longitude, 9), "height_m": round(height, 3)}
    return msgspec.structs.replace(
        camera,
        pan_zero_azimuth_deg=round(found.yaw_deg, 4),
        mount_pitch_deg=round(found.pitch_deg, 4),
        mount_roll_deg=round(found.roll_deg, 4),
        mount_sigma_deg=round(max(found.sigma_deg), 4),
        **place,
    )


def lines(landmarks: list[Landmark], found: Mounting) -> list[str]:
    """Tell what was found, and each landmark's part in it.

    Parameters
    ----------
    landmarks : list of Landmark
        The landmarks.
    found : Mounting
        How the mount stands.

    Returns
    -------
    list of str
        Lines of text.
    """
    names, values = ("yaw", "pitch", "roll"), (found.yaw_deg, found.pitch_deg, found.roll_deg)
    mount = [f"{n} {v:.3f} +- {s:.3f}" for n, v, s in zip(names, values, found.sigma_deg, strict=True)]
    told = [
        f"mount, degrees, one sigma: {', '.join(mount)}",
        f"{found.used.sum()} of {len(landmarks)} landmarks; residuals {found.rms_deg:.3f} degrees rms, "
        + (f"{found.scale:.1f} times what was stated" if found.scale > 1.2 else "as stated"),
    ]
    if any(found.shift_sigma_m):
        moved = zip(("east", "north", "up"), found.shift_m, found.shift_sigma_m, strict=True)
        told.append(f"moved, m, one sigma: {', '.join(f'{n} {v:.2f} +- {s:.2f}' for n, v, s in moved)}")
    for one, (across, up), sigmas, used in zip(landmarks, found.residuals_deg, found.sigmas, found.used, strict=True):
        refused = "" if used else f"; REFUSED, {sigmas:.0f} sigma off"
        told.append(f"{one.name}: across {across:+.3f}, up {up:+.3f}, {math.hypot(*one.place_m):.0f} m away{refused}")
    return told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("--site", type=Path, metavar="SITE.toml", required=True, help="the site as known so far")
    parser.add_argument("--camera", metavar="CAMERA_ID", required=True, help="which camera of it")
    parser.add_argument(
        "--landmarks", type=Path, metavar="CSV", required=True, help="landmark,pan_deg,tilt_deg and place"
    )
    parser.add_argument("--out", type=Path, metavar="NEW.toml", required=True, help="the site file to write")
    parser.add_argument(
        "--read-back-sigma-deg", type=float, metavar="DEG", default=READ_BACK_SIGMA_DEG,
        help=f"scatter of readings, centring included (default: {READ_BACK_SIGMA_DEG})",
    )  # fmt: skip
    parser.add_argument(
        "--position-sigma-m", type=float, metavar="M", default=0.0,
        help="how far the camera may stand from where the site has it; its place is then found too (default: 0)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Calibrate a camera's mount.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.

    Raises
    ------
    InputError
        If a file or argument is wrong, or the landmarks do not tell.
    """
    for name, low, high in (("read_back_sigma_deg", 0.001, 10.0), ("position_sigma_m", 0.0, 50.0)):
        if not low <= (value := getattr(arguments, name)) <= high:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: a number from {low:g} to {high:g} is accepted")
    site = load_site(arguments.site)
    names = [camera.camera_id for camera in site.camera]
    if arguments.camera not in names:
        raise InputError(f"{arguments.site}: has no camera {arguments.camera!r}; it has {', '.join(names) or 'none'}")
    number = names.index(arguments.camera)
    landmarks = read_landmarks(arguments.landmarks, site.camera[number], site)
    try:
        found = mounting(landmarks, arguments.read_back_sigma_deg, arguments.position_sigma_m)
    except InputError as error:
        raise InputError(f"{arguments.landmarks}: {error}") from None
    told = lines(landmarks, found)
    cameras = (*site.camera[:number], mounted(site.camera[number], found), *site.camera[number + 1 :])
    new = msgspec.structs.replace(site, camera=cameras)
    head = [f"{site.name}: mount of {arguments.camera} calibrated from {arguments.landmarks.name}"]
    write_table(arguments.out, new, {ALL: head, ("camera", number): told}, source=arguments.site)
    print("\n".join([*told, f"{arguments.out}: written"]))
    return 0
