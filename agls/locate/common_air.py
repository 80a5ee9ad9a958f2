"""What shots tell of the air they went through, alone and together, and how exactly they are told themselves.

Each shot's place is eliminated; the air is common to all, and what was known of it beforehand counts once.
"""

from __future__ import annotations

import math

import numpy as np

from agls.config import Locating
from agls.locate import _search
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine
from agls.locate._search import GATE, Ints
from agls.locate.picks import Array, Found, Picks
from agls.locate.solve import Air, Solution, solve
from agls.locate.window import WIDER, Window

# Not knowing the air blurs a second's delay; where that is so much more than an arrival's sigma, learn it from so many
# shots that so many sensors heard.
BLUR_S, BLUR_SIGMAS = 1.0, 2.0
LEARN_SENSORS, LEARN_SHOTS, LEARN_MOST = 6, 2, 25
LEARN_LEAST = 0.3  # what the shots of bursts share does not average out: air is never known better than this share
LEARN_ROUNDS, LEARN_TAIL = 10, 4.0  # some shots are wrong, so tails are a t-distribution's
LEARN_SIGMAS = 2.0  # wrong shots pull all the same
TOLD_LEAST = 1e-6  # hardly anything, so that it is never nothing [s2/m2]


def learned_air(found: list[Found], picks: Picks, array: Array, air: Air, settings: Locating) -> Air | None:
    """Learn the air from the shots that stand out, where not knowing it blurs delays more than all else.

    Several shooters' bursts are told apart by delays of milliseconds, and an unreported wind bends them by tens.

    Parameters
    ----------
    found : list of Found
        The shots.
    picks : Picks
        What was heard.
    array : Array
        The sensors.
    air : Air
        What is known of the air.
    settings : Locating
        The site's settings.

    Returns
    -------
    Air or None
        The air; None where it is known well enough, or too few shots stand out.
    """
    doubt = math.hypot(air.sound_speed_sigma_m_s, air.wind_sigma_m_s * math.sqrt(2.0)) / air.sound_speed_m_s
    arrival_s = math.hypot(settings.path_sigma_s, float(np.median(picks.sigma_s)))
    strong = sorted((shot for shot in found if len(shot.members) >= LEARN_SENSORS), key=lambda shot: -shot.surplus)
    if doubt * BLUR_S < BLUR_SIGMAS * arrival_s or len(strong) < LEARN_SHOTS:
        return None
    heard = [_air_of_one(shot, picks, array, air, settings) for shot in strong[:LEARN_MOST]]
    c, u, v = (
        float(np.median([getattr(one, name) for one in heard])) for name in ("sound_speed_m_s", "east_m_s", "north_m_s")
    )
    share = max(LEARN_LEAST, 1.0 / math.sqrt(len(heard)))
    sigma_c = share * float(np.median([one.sound_speed_sigma_m_s for one in heard]))
    return Air(c, u, v, sigma_c, share * float(np.median([one.wind_sigma_m_s for one in heard])))


def _air_of_one(shot: Found, picks: Picks, array: Array, air: Air, settings: Locating) -> Air:
    """Solve one shot for the air it went through."""
    own = list(shot.members)
    sigma_s = np.hypot(picks.sigma_s[own], settings.path_sigma_s)
    solution = solve(array.positions_m[picks.sensor[own]], picks.toa_s[own], sigma_s, air)
    return solution.air if isinstance(solution, Solution) else air


def common_air(found: list[Found], window: Window) -> Air | None:
    """Learn the air from many shots together, where not knowing it blurs delays more than all else.

    What each place tells of the air is summed up, and what was known beforehand counted once.

    Parameters
    ----------
    found : list of Found
        The shots; some may be wrong.
    window : Window
        Their picks, in the air as known beforehand.

    Returns
    -------
    Air or None
        The air; None where it is known well enough, or too few shots stand out.
    """
    sigma_c, sigma_w = window.precision[4] ** -0.5, window.precision[5] ** -0.5
    arrival_s = math.hypot(window.path_s / WIDER, window.pick_s)
    strong = sorted((shot for shot in found if len(shot.members) >= LEARN_SENSORS), key=lambda shot: -shot.surplus)
    doubt = math.hypot(sigma_c, sigma_w * math.sqrt(2.0)) / window.speed_m_s
    if doubt * BLUR_S < BLUR_SIGMAS * arrival_s or len(strong) < LEARN_SHOTS:
        return None
    strong = strong[: max(len(strong) // 2, LEARN_MOST)]  # the rest may be others' picks
    told = [_air_of(shot, window) for shot in strong]
    means, precisions = np.array([mean for mean, _ in told]), np.array([precision for _, precision in told])
    # Paths that the shots of one place share do not average out: a place counts once.
    alike = np.array([sum(other.place_m == shot.place_m for other in strong) for shot in strong])
    prior_precision, share = np.diag(window.precision[4:]), 1.0 / alike
    for _ in range(LEARN_ROUNDS):
        precision = prior_precision + np.einsum("i,ijk->jk", share, precisions)
        air = np.linalg.solve(precision, prior_precision @ window.mean[4:] + np.einsum("i,ij->j", share, means))
        off = air - np.linalg.solve(precisions, means[..., None])[..., 0]
        share = 1.0 / alike / (1.0 + np.einsum("ij,ijk,ik->i", off, precisions, off) / LEARN_TAIL)
    spread = LEARN_SIGMAS * np.sqrt(np.diag(np.linalg.inv(precision)))
    c, u, v = air.tolist()
    return Air(c, u, v, float(spread[0]), float(spread[1:].max()))


def _air_of(shot: Found, window: Window) -> tuple[Floats, Floats]:
    """Say what one shot tells of the air it went through, its place being anywhere: precision times mean, precision.

    What was known of the air before is taken out again; its place and time are left out (Schur's complement).
    """
    theta, mean = window.theta_of(shot), window.mean_at(window.theta_of(shot))
    members = window.members_of(shot)
    arrivals = np.empty((5, len(members)))
    n = _search.gather(members, *window.array.columns_m, window.t, window.s, window.path_s / WIDER, arrivals)
    px, py, pz, t, s = arrivals[:, :n]
    refine(px, py, pz, t, s, theta, mean, window.precision, GATE, PARAMETERS, np.empty(n), np.empty(n))
    rows = _slopes(arrivals[:3, :n].T, theta) / arrivals[4, :n, None]
    told = rows.T @ rows + np.diag([0.0, 0.0, 0.0, window.precision[3], *[TOLD_LEAST] * 3])
    precision = told[4:, 4:] - told[4:, :4] @ np.linalg.solve(told[:4, :4], told[:4, 4:])
    return precision @ theta[4:] + window.precision[4:] * (theta[4:] - mean[4:]), precision


def exact_nats(window: Window, thetas: Floats, members: Ints) -> Floats:
    """Say how much more a shot must bring than one known to an arrival's error in place and time.

    A place fitted to many arrivals, in an air fitted along with it, is one of many that could have been fitted: what
    counts is the likelihood averaged over all there may be, not the highest (Laplace's approximation).

    Parameters
    ----------
    window : Window
        The picks.
    thetas, members : numpy.ndarray, shape (k, 7), (k, m)
        The shots, and each sensor's pick or -1.

    Returns
    -------
    numpy.ndarray, shape (k,)
        How much more each must bring [nats].
    """
    out = np.empty(len(thetas))
    positions = np.column_stack(window.array.columns_m)
    prior = np.diag(window.precision)
    unit = window.sigma_s**-2 * np.diag([window.speed_m_s**-2] * 2 + [REFERENCE_SPEED_M_S**-2])
    free = np.log(window.precision[3:]).sum() + np.linalg.slogdet(unit)[1]
    for i, (theta, own) in enumerate(zip(thetas, members, strict=True)):
        heard = own >= 0
        rows = _slopes(positions[heard], theta) / np.hypot(window.s[own[heard]], window.path_s)[:, None]
        off = (theta - window.mean_at(theta))[3:]
        told = np.linalg.slogdet(rows.T @ rows + prior)[1]
        out[i] = 0.5 * (told - free) + 0.5 * (window.precision[3:] * off**2).sum()
    return out


def _slopes(positions_m: Floats, theta: Floats) -> Floats:
    """Say how much later a shot is heard at each of some sensors for more of each unknown.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        The sensors [m].
    theta : numpy.ndarray, shape (7,)
        The shot, as in `agls.locate._kernels`.

    Returns
    -------
    numpy.ndarray, shape (n, 7)
        Derivatives of the times of arrival.
    """
    away = positions_m - theta[[0, 1, 3]]
    far = np.linalg.norm(away, axis=1)
    c = theta[4]
    return np.column_stack([
        -away[:, :2] / far[:, None] / c, np.full(len(far), 1.0 / REFERENCE_SPEED_M_S), -away[:, 2] / far / c,
        -far / c**2, -away[:, :2] / c**2,
    ])  # fmt: skip
