"""What arrivals cannot tell apart: quantities whose effects on all arrivals are the same, so that the priors decide.

The information of the picks alone, in units of the priors, is taken apart into its principal directions. Where one
carries far less than its prior does, the priors decide. Those directions are named by the patterns that physics gives:
a wind is a plane of clock offsets, all clocks late together are all shots fired later, sensors and unknown shots may be
shifted and turned together, and a larger site in faster air sounds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calibration.bundle import Bundle, Floats, Ints, Network

TOLD = 0.1  # a direction is told by the arrivals from this share of what was known before
NAMED = 0.8  # a pattern stands for a direction when so much of it lies among those that are not told
WORTH = 0.25  # a direction of which more than this is left by the patterns is named by its largest part


@dataclass(frozen=True)
class Tie:
    """Something that arrivals cannot tell, and what keeps it in place.

    Attributes
    ----------
    name : str
        A short name, such as ``wind_east``.
    sentence : str
        What cannot be told from what, and how sure the priors leave it.
    sigma : float
        How sure it is after all, in the unit of the sentence.
    """

    name: str
    sentence: str
    sigma: float


@dataclass(frozen=True)
class _Pattern:
    """A direction among the unknowns, and what to say of it."""

    name: str
    direction: Floats
    sentence: str
    unit: str
    scale: float = 1.0


def ties(network: Network, bundle: Bundle) -> tuple[Tie, ...]:
    """Name what the arrivals could not tell apart.

    Parameters
    ----------
    network : Network
        What was known beforehand.
    bundle : Bundle
        What was found.

    Returns
    -------
    tuple of Tie
        One for each; empty where the arrivals decided everything.
    """
    information, sigma, count = _without_shots(bundle)
    strength, directions = np.linalg.eigh(information * np.outer(sigma, sigma))
    weak = directions[:, strength < TOLD]
    found, rest = [], weak
    flat = [number for number in _heights(bundle) if np.square(weak[number]).sum() > NAMED]
    rest[flat] = 0.0
    for pattern in _patterns(bundle, count):
        row = pattern.direction / sigma
        row /= np.linalg.norm(row)
        if np.square(weak.T @ row).sum() < NAMED:
            continue
        rest = rest - np.outer(row, row @ rest)
        held = 1.0 / math.sqrt(pattern.direction @ (information + np.diag(sigma**-2.0)) @ pattern.direction)
        kept = f"only what was known before keeps it to +-{held * pattern.scale:.2g} {pattern.unit}"
        found.append(Tie(pattern.name, f"{pattern.sentence}; {kept}", held * pattern.scale))
    if flat:
        held = float(np.sqrt(np.diag(bundle.covariance)[flat].max()))
        found.append(
            Tie("heights", f"arrivals do not tell the height of {len(flat)} sensors; it stays as surveyed", held)
        )
    return (*found, *_others(network, bundle, rest, sigma))


def _heights(bundle: Bundle) -> list[int]:
    heights = bundle.index["position"][:, 2]
    return [int(number) for number in heights if number >= 0]


def _without_shots(bundle: Bundle) -> tuple[Floats, Floats, int]:
    """Integrate the shots out of what the picks say; sensors, clocks and air come first among the unknowns."""
    shots = np.concatenate([bundle.index[name].ravel() for name in ("place", "origin")])
    count = len(bundle.prior_sigma) - int((shots >= 0).sum())
    own, across, theirs = bundle.told[:count, :count], bundle.told[:count, count:], bundle.told[count:, count:]
    # A shot heard too rarely to be located takes what it tells with it.
    firm = np.diag(bundle.prior_sigma[count:] ** -2.0 + 1e-12 * np.diag(theirs) + 1e-12)
    left = own - across @ np.linalg.solve(theirs + firm, across.T)
    return (left + left.T) / 2, bundle.prior_sigma[:count], count


def _patterns(bundle: Bundle, count: int) -> Iterator[_Pattern]:
    """List what may hide behind what here; a quantity held fast cannot."""
    offset, air, position = (bundle.index[name] for name in ("offset", "air", "position"))
    places_m = bundle.positions_m - bundle.positions_m.mean(axis=0)
    speed = bundle.air.sound_speed_m_s
    if (offset >= 0).all():
        yield _Pattern(
            "all_clocks",
            _direction(count, (offset, 1.0)),
            "all clocks late together cannot be told from all shots fired later",
            "ms",
            1e3,
        )
    if (offset >= 0).all() and (air[1:] >= 0).all():
        for axis, side in enumerate(("east", "north")):
            yield _Pattern(
                f"wind_{side}",
                _direction(count, (air[1 + axis], 1.0), (offset, places_m[:, axis] / speed**2)),
                f"a wind towards the {side} cannot be told from a plane of clock offsets (1 m/s from clocks later by"
                f" {1e6 / speed**2:.2g} us for each metre to the {side})",
                "m/s",
            )
    if (position[:, :2] >= 0).all():
        yield from _rigid(count, position, places_m)
    if (position[:, :2] >= 0).all() and air[0] >= 0:
        yield _Pattern(
            "size",
            _direction(count, (position, places_m), (air[0], speed)),
            "a larger site cannot be told from faster air",
            "%",
            100.0,
        )


def _rigid(count: int, position: Ints, places_m: Floats) -> Iterator[_Pattern]:
    """Shift and turn all sensors together: shots that nobody surveyed go with them."""
    for axis, side in enumerate(("east", "north")):
        yield _Pattern(
            f"shift_{side}",
            _direction(count, (position[:, axis], 1.0)),
            f"all sensors and shots shifted together to the {side} cannot be told",
            "m",
        )
    turned = np.column_stack([-places_m[:, 1], places_m[:, 0]])
    yield _Pattern(
        "turn",
        _direction(count, (position[:, :2], turned)),
        "all sensors and shots turned together cannot be told",
        "degrees",
        float(np.degrees(1.0)),
    )


def _direction(count: int, *parts: tuple[Ints, Floats | float]) -> Floats:
    """Lay out a direction; what is held fast (-1), such as heights in the plane, has no part in it."""
    direction = np.zeros(count + 1)
    for where, amount in parts:
        direction[where] = amount
    return direction[:count]


def _others(network: Network, bundle: Bundle, rest: Floats, sigma: Floats) -> Iterator[Tie]:
    """Name what no pattern stands for by the quantity that has the largest part in it."""
    names = _names(network, bundle, len(sigma))
    directions, sizes, _ = np.linalg.svd(rest, full_matrices=False)
    counts: dict[str, float] = {}
    for direction, size in zip(directions.T, sizes, strict=True):
        if size**2 > WORTH:
            largest = int(np.argmax(np.abs(direction)))
            counts.setdefault(names[largest], float(np.sqrt(bundle.covariance[largest, largest])))
    for name, held in counts.items():
        yield Tie(name, f"arrivals say next to nothing of {name}", held)


def _names(network: Network, bundle: Bundle, count: int) -> list[str]:
    names = [""] * count
    for number, sensor_id in enumerate(network.sensor_ids):
        for axis, side in enumerate(("east", "north", "height")):
            where = int(bundle.index["position"][number, axis])
            names[where] = f"the {side} of {sensor_id}" if where >= 0 else names[where]
        where = int(bundle.index["offset"][number])
        names[where] = f"the clock of {sensor_id}" if where >= 0 else names[where]
    for where, name in zip(
        bundle.index["air"].tolist(), ("the sound speed", "the east wind", "the north wind"), strict=True
    ):
        names[where] = name if where >= 0 else names[where]
    return names


def off_plane(positions_m: Floats, bundle: Bundle) -> tuple[Floats, Floats]:
    """Take off clock offsets what a wind and the moment of the shots could explain: a plane over the site.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    bundle : Bundle
        What was found.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Offsets without their plane [s].
    numpy.ndarray, shape (n,)
        Their standard deviations [s].
    """
    plane = np.column_stack([np.ones(len(positions_m)), positions_m[:, :2] - positions_m[:, :2].mean(axis=0)])
    keep = np.eye(len(positions_m)) - plane @ np.linalg.pinv(plane)
    where = bundle.index["offset"]
    loose = where >= 0
    covariance = np.zeros((len(where), len(where)))
    covariance[np.ix_(loose, loose)] = bundle.covariance[np.ix_(where[loose], where[loose])]
    spread = np.sqrt(np.maximum(np.diag(keep @ covariance @ keep.T), 0.0))
    return keep @ bundle.offsets_s, spread
