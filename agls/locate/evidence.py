"""What speaks for gunfire, and what against: what nodes heard and what physics says, each with its weight and in words.

Each piece is a log-likelihood ratio of gunfire against all else that is located, capped, so that no single one decides:

    nodes       their own ratios, as so many independent ones as they are worth (`effective_count`)
    bullet      N-waves that one trajectory explains, ahead of the blast
    level       how loud it was at its source, by the loudest near sensor: what is in the way only takes
    height      whether it came from high above the sensors, as aerial fireworks do and hardly any shot
    cadence     rounds as even and as fast as automatic fire, whatever nodes made of each: one round's tail is in the
                next one's snippet; more where each is as loud as a gun; or as even, and longer than any magazine lasts
    repetition  bangs from the same place within the hour that were no gunfire
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agls.locate.fire import even_run, rate_per_s
from agls.locate.solve import Air, Height, NoSolution, Solution, solve
from agls.messages import NS_PER_S, Reason, Shot

Floats = NDArray[np.float64]

# Sensors hear the same sound and judge it by the same model: of the variance of their ratios among sounds of a kind,
# so much is the sound's own (simulated scenes, seeds below 1000: .44 of other sounds, .33 of gunfire).
SHARED = 0.4
LIMIT = 30.0
REASONS_COUNT = 5
LEAST_NATS = 0.2  # what weighs less is not worth a dispatcher's time
UNSURE_NATS = 1.0  # nodes that together say less are unsure
# Two nodes that both mistake the same thing for an N-wave, on one trajectory: rarely, and no more is claimed than that.
BULLET_NATS, ONE_BULLET_NATS = 5.0, 2.0
# Level at 1 m [dB]: weapons 159-163 to the left of the muzzle, ten more or less with direction, less by what is in the
# way; some are small bores (about 140). Tools and cars are below 146, fireworks about 145-158, all of it assumed broad.
GUN_DB, GUN_SIGMA_DB = 157.0, 8.0
SMALL_BORE_SHARE, SMALL_BORE_DB, SMALL_BORE_SIGMA_DB = 0.15, 138.0, 6.0
OTHER_DB, OTHER_SIGMA_DB = 146.0, 12.0
LOUDNESS_DB = (120.0, 165.0)  # beyond, neither is any likelier
LEVEL_NATS = (-1.5, 0.8)  # a sound can be as loud as a gun and be none
LEVEL_SENSORS, NEAR_M = 3, 300.0  # farther off walls and weather decide how loud it arrives
SPL_DB = 20.0  # no impulse is heard below; what is less is relative to full scale and tells no pressure
# Of what bangs, is no gun and is heard by many sensors so much is aloft, some tens of metres above them (assumed).
ALOFT_SHARE, ALOFT_M, ALOFT_SIGMA_M = 1 / 3, 60.0, 25.0
STREET_M, STREET_SIGMA_M = -6.0, 8.0
HEIGHT_SENSORS, HEIGHT_NATS = 6, -2.0
# Automatic weapons fire 6 to 20 a second; a magazine lasts 6 s at most, a machine goes on.
CADENCE_NATS, MACHINE_NATS, EVEN_ROUNDS, LONGEST_S = 2.0, -2.0, 4, 6.0
# Breakers and nailers are as even and 20 dB below a gun; strings of crackers are as loud, but keep no time.
LOUD_GAP_NATS, LOUD_NATS = 1.0, 4.0
REPEATED_NATS, REPEATED_MOST = -0.5, 3


def effective_count(count: int) -> float:
    """Say how many independent judgements dependent ones are worth.

    Parameters
    ----------
    count : int
        How many there are.

    Returns
    -------
    float
        From 1 for one, rising to `1 / SHARED`; 0 for none.
    """
    return count / (1.0 + (count - 1) * SHARED) if count else 0.0


def fuse(llrs: Sequence[float]) -> float:
    """Combine log-likelihood ratios of sensors that heard the same sound.

    Parameters
    ----------
    llrs : sequence of float
        Natural-log likelihood ratios for gunfire against all else, one for each sensor that gave one.

    Returns
    -------
    float
        Their joint log-likelihood ratio, discounted for dependence; 0 where there are none.
    """
    if not llrs:
        return 0.0
    joint = math.fsum(llrs) / len(llrs) * effective_count(len(llrs))
    return max(-LIMIT, min(LIMIT, joint))


def probability(llr: float, prior: float) -> float:
    """Turn a log-likelihood ratio into a probability.

    Parameters
    ----------
    llr : float
        Natural-log likelihood ratio.
    prior : float
        Probability before listening, above 0 and below 1.

    Returns
    -------
    float
        Probability after.
    """
    return 1.0 / (1.0 + math.exp(-(llr + math.log(prior / (1.0 - prior)))))


# ---------------------------------------------------------------------------------------------------- of one shot


def of_nodes(llrs: Sequence[float]) -> list[Reason]:
    """Weigh what nodes heard.

    Parameters
    ----------
    llrs : sequence of float
        As for `fuse`.

    Returns
    -------
    list of Reason
        One, or none where no node gave a ratio.
    """
    if not llrs:
        return []
    agree, joint = sum(llr > 0 for llr in llrs), _rounded(fuse(llrs))
    return [_reason("nodes", joint, _nodes_told(joint, agree, len(llrs)), agree, len(llrs))]


def of_bullet(sensors_count: int) -> list[Reason]:
    """Weigh a bullet's N-waves.

    Parameters
    ----------
    sensors_count : int
        Sensors that heard them, all explained by one trajectory.

    Returns
    -------
    list of Reason
        One, or none where none heard any.
    """
    if not sensors_count:
        return []
    words = f"a bullet's crack was heard ahead of the shot at {_sensors(sensors_count)}"
    return [_reason("bullet", BULLET_NATS if sensors_count > 1 else ONE_BULLET_NATS, words, sensors_count)]


def of_level(level_db: Floats, clipped: NDArray[np.bool_], range_m: Floats) -> list[Reason]:
    """Weigh how loud it was at its source.

    Parameters
    ----------
    level_db : numpy.ndarray, shape (n,)
        Peak levels at the sensors that heard it [dB SPL]; nan where unknown.
    clipped : numpy.ndarray, shape (n,), bool
        Which of them are only known to be higher.
    range_m : numpy.ndarray, shape (n,)
        How far they are [m].

    Returns
    -------
    list of Reason
        One, or none where too few near sensors measured a pressure.
    """
    near = (level_db > SPL_DB) & (range_m < NEAR_M)
    if near.sum() < LEVEL_SENSORS:
        return []
    source_db = level_db[near] + 20.0 * np.log10(np.maximum(range_m[near], 1.0))
    loud_db = min(max(float(source_db.max()), LOUDNESS_DB[0]), LOUDNESS_DB[1])
    small_bore = SMALL_BORE_SHARE * _bell(loud_db, SMALL_BORE_DB, SMALL_BORE_SIGMA_DB)
    gun = (1.0 - SMALL_BORE_SHARE) * _bell(loud_db, GUN_DB, GUN_SIGMA_DB) + small_bore
    nats = math.log(gun / _bell(loud_db, OTHER_DB, OTHER_SIGMA_DB))
    if nats < 0 and bool(clipped[near].any()):
        return []  # it was louder than that, by nobody knows how much
    nats = _rounded(max(LEVEL_NATS[0], min(LEVEL_NATS[1], nats)))
    return [_reason("level", nats, _level_told(nats, loud_db), round(loud_db))]


def of_height(positions_m: Floats, toa_s: Floats, pick_s: Floats, path_s: float, air: Air) -> list[Reason]:
    """Weigh whether it came from high above the sensors, where their geometry can tell.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        The sensors that heard it [m].
    toa_s, pick_s : numpy.ndarray, shape (n,)
        When, and how unsure the picks are [s].
    path_s : float
        Standard deviation of the paths [s].
    air : Air
        What is known of the air.

    Returns
    -------
    list of Reason
        One, or none where too few sensors agree to say.
    """
    if len(toa_s) < HEIGHT_SENSORS:
        return []
    about_m = float(np.median(positions_m[:, 2]))
    sigma_s = np.hypot(pick_s, path_s)
    heights = (Height(about_m + STREET_M, STREET_SIGMA_M), Height(about_m + ALOFT_M, ALOFT_SIGMA_M))
    street, aloft = (solve(positions_m, toa_s, sigma_s, air, height) for height in heights)
    if isinstance(street, NoSolution) or isinstance(aloft, NoSolution):
        return []
    ahead = min(_likely(aloft, ALOFT_SIGMA_M) - _likely(street, STREET_SIGMA_M), 50.0)
    nats = _rounded(max(HEIGHT_NATS, -math.log(1.0 - ALOFT_SHARE + ALOFT_SHARE * math.exp(ahead))))
    high_m = max(int(round(aloft.z_m - about_m, -1)), 10)
    return [_reason("height", nats, _height_told(nats, high_m), high_m)]


def _likely(found: Solution, height_sigma_m: float) -> float:
    """Take the log of a solution's likelihood, averaged over the places and heights it could have had."""
    return -found.misfit + 0.5 * float(np.linalg.slogdet(found.covariance)[1]) - math.log(height_sigma_m)


def ranked(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Put reasons in order, strongest first, and leave out what hardly weighs; what nodes heard is always told.

    Parameters
    ----------
    reasons : sequence of Reason
        The reasons.

    Returns
    -------
    tuple of Reason
        At most five.
    """
    told = [one for one in reasons if abs(one.nats) >= LEAST_NATS or one.kind == "nodes"]
    return tuple(sorted(told, key=lambda one: (-abs(one.nats), one.kind))[:REASONS_COUNT])


def total(reasons: Sequence[Reason]) -> float:
    """Add reasons up.

    Parameters
    ----------
    reasons : sequence of Reason
        Of one shot or incident, one of each kind.

    Returns
    -------
    float
        Log-likelihood ratio of gunfire against all else.
    """
    return max(-LIMIT, min(LIMIT, math.fsum(one.nats for one in reasons)))


# ------------------------------------------------------------------------------------------------ of an incident


def of_incident(shots: Sequence[Shot], busiest: Sequence[Shot], repeated_count: int) -> tuple[Reason, ...]:
    """Gather the reasons of shots from one place, and what only several of them can tell.

    Rounds share what nodes mistake, walls and place, as sensors do: more of them say little more.

    Parameters
    ----------
    shots : sequence of Shot
        All of them.
    busiest : sequence of Shot
        What came from where most came from, taken for gunfire or not, in order of time.
    repeated_count : int
        Bangs from there within the hour before that were no gunfire.

    Returns
    -------
    tuple of Reason
        Strongest first.
    """
    by_kind: dict[str, list[Reason]] = {}
    for shot in sorted(shots, key=lambda one: (one.origin_ns, one.shot_id)):
        for reason in shot.reasons:
            by_kind.setdefault(reason.kind, []).append(reason)
    found = _pooled(by_kind.get("nodes", []))
    found += sorted(by_kind.get("bullet", []), key=lambda one: (one.nats, one.count))[-1:]
    found += [_averaged(by_kind[kind], len(shots)) for kind in ("level", "height") if kind in by_kind]
    return ranked([*found, *of_cadence(busiest), *of_repetition(repeated_count)])


def of_cadence(shots: Sequence[Shot]) -> list[Reason]:
    """Weigh the rhythm of one shooter's rounds.

    Parameters
    ----------
    shots : sequence of Shot
        In order of time.

    Returns
    -------
    list of Reason
        One, or none where a finger, a fuse or a workman could do the same.
    """
    run = even_run(shots)
    rate = rate_per_s(run)
    if len(run) < EVEN_ROUNDS or rate is None:
        return []
    lasted_s = (run[-1].origin_ns - run[0].origin_ns) / NS_PER_S
    if lasted_s > LONGEST_S:
        words = f"against: it goes on evenly for {lasted_s:.0f} s, as machines do"
        return [_reason("cadence", MACHINE_NATS, words, len(run))]
    louder = math.fsum(one.nats for shot in run for one in shot.reasons if one.kind == "level") > 0.0
    nats = min(LOUD_GAP_NATS * (len(run) - 1), LOUD_NATS) if louder else CADENCE_NATS
    return [_reason("cadence", nats, f"even and fast as an automatic weapon, {rate:.0f} a second", len(run))]


def of_repetition(count: int) -> list[Reason]:
    """Weigh bangs from the same place within the hour that were no gunfire.

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    list of Reason
        One against, or none where there were none.
    """
    if not count:
        return []
    words = (
        f"against: {count} other {'bang' if count == 1 else 'bangs'} from there within the hour, not taken for gunfire"
    )
    return [_reason("repetition", REPEATED_NATS * min(count, REPEATED_MOST), words, count)]


def _pooled(nodes: Sequence[Reason]) -> list[Reason]:
    """Take all sensors' judgements of all rounds as that many dependent ones."""
    if not nodes:
        return []
    judged = sum(one.of_count for one in nodes)
    mean = math.fsum(one.nats / effective_count(one.of_count) * one.of_count for one in nodes) / judged
    if len(nodes) == 1:
        return [nodes[0]]
    agree, most = sum(one.count for one in nodes), max(one.of_count for one in nodes)
    nats = _rounded(max(-LIMIT, min(LIMIT, mean * effective_count(judged))))
    share = round(most * agree / judged)
    words = f"{_nodes_told(nats, share, most)} (mean of {len(nodes)} sounds)"
    return [_reason("nodes", nats, words, share, most)]


def _averaged(reasons: Sequence[Reason], rounds: int) -> Reason:
    """Take the mean of what rounds share; the words are of the round nearest to it."""
    nats = _rounded(math.fsum(one.nats for one in reasons) / rounds)
    typical = min(reasons, key=lambda one: (abs(one.nats - nats), one.count))
    if typical.kind == "level":
        loud_db = math.fsum(one.count for one in reasons) / len(reasons)
        return _reason("level", nats, _level_told(nats, loud_db), round(loud_db))
    return _reason("height", nats, _height_told(nats, typical.count), typical.count)


def _nodes_told(nats: float, agree: int, count: int) -> str:
    """Count the sensors on the side that weighs more, and say how surely."""
    side, what = (agree, "gunfire") if nats >= 0 else (count - agree, "no gunfire")
    words = f"{side} of {_sensors(count)} call{'s' if count == 1 else ''} it {what}"
    if abs(nats) < UNSURE_NATS:
        return f"{words}, but not surely"
    return words if 2 * side > count else f"{words}, more surely than the others"


def _level_told(nats: float, loud_db: float) -> str:
    like = "as loud at its source as a gun" if nats >= 0 else "not as loud at its source as most guns"
    return f"{like} (about {loud_db:.0f} dB)"


def _height_told(nats: float, high_m: int) -> str:
    return "it came from street height" if nats >= 0 else f"it came from some {high_m} m up, as fireworks do"


def _sensors(count: int) -> str:
    return f"{count} sensor" if count == 1 else f"{count} sensors"


def _reason(kind: str, nats: float, words: str, count: int = 0, of_count: int = 0) -> Reason:
    """Write a reason; what speaks against says so."""
    against = nats < 0 and not words.startswith("against: ")
    return Reason(
        kind=kind,  # type: ignore[arg-type]
        nats=_rounded(nats), words=f"against: {words}" if against else words, count=count, of_count=of_count,
    )  # fmt: skip


def _rounded(nats: float) -> float:
    """Round as it is told, so that words are true of the number told; there is no negative zero."""
    return round(nats, 3) + 0.0


def _bell(value: float, mean: float, sigma: float) -> float:
    return math.exp(-0.5 * ((value - mean) / sigma) ** 2) / sigma
