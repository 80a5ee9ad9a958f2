"""What a lone shot must bring: it could have been fired anywhere, or where the last one was."""

import numpy as np

from agls.locate._kernels import REFERENCE_SPEED_M_S, Floats
from agls.locate._search import Ints
from agls.locate.burst import STACK_FLIGHT, in_flight
from agls.locate.common_air import exact_nats
from agls.locate.places import FASTEST_S
from agls.locate.window import BURST_S, Window

POOL_M = 6.0  # proposals this near each other may be one place,
POOL_PATHS = 1.5  # or as near as this many standard deviations of the paths
FASTEST_SHOOTER_M_S = 20.0  # in a car


def lone_costs(window: Window, thetas: Floats, members: Ints, scores: Floats) -> Floats:
    """Say what each of some proposed shots must bring: the more exactly it is told, the more others there could be.

    Parameters
    ----------
    window : Window
        Where they were looked for.
    thetas, members, scores : numpy.ndarray, shape (k, 7), (k, m), (k,)
        The shots, their picks (-1: none), and their scores [nats].

    Returns
    -------
    numpy.ndarray, shape (k,)
        What each must bring [nats].
    """
    if in_flight(window) < STACK_FLIGHT:
        return np.full(len(thetas), window.cost_nats(1))  # hardly anything competes
    costs = window.cost_nats(1) + exact_nats(window, thetas, members)
    return np.asarray(costs - _follow_nats(window, thetas, scores - costs))


def _follow_nats(window: Window, thetas: Floats, surplus: Floats) -> Floats:
    """Say how much less a shot need bring where others were fired near by, shortly before or after.

    A shooter who walks fires from a new place each time, but from one near the last: a place is paid for by what lies
    within reach. How many of those within reach were fired by the same shooter, and are not there by chance, is told
    by how many more there are than of shots fired anywhere.
    """
    good = surplus > 0.0
    sure = thetas[good]
    gap_s = np.abs(thetas[:, None, 2] - sure[None, :, 2]) / REFERENCE_SPEED_M_S
    apart_m = np.hypot(thetas[:, None, 0] - sure[:, 0], thetas[:, None, 1] - sure[:, 1])
    reach_m = one_place_m(window) + FASTEST_SHOOTER_M_S * gap_s
    along = (gap_s > FASTEST_S) & (gap_s < BURST_S)
    near = along & (apart_m < reach_m)
    share = (np.pi * reach_m**2 / window.area_m2).clip(max=1.0)
    own = near[good].sum()
    same = max(1.0 - float(share[good][along[good]].sum()) / own, 0.0) if own else 0.0
    return np.asarray(np.log1p(same * (near / (2.0 * share)).sum(axis=1)))


def one_place_m(window: Window) -> float:
    """Say how far apart shots from one place may seem.

    Parameters
    ----------
    window : Window
        Where they were found.

    Returns
    -------
    float
        A distance [m].
    """
    return max(POOL_M, POOL_PATHS * window.path_s * window.speed_m_s)
