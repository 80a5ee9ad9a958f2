"""Sounds made for training: shots of guns nobody recorded, and everything sudden that is none.

Recordings that may train what ships come from few guns and one city. What they lack is made here from physics and
chance: every draw has another gun, tool, voice or firework, and the ranges are far wider than any one recording's, so
that what a model can learn from them is what a class has in common. Nothing is fitted to any recording.

Each maker gets chance and a time axis that begins with its first sound, and returns a wave with its first peak near 1
and the moments that count as beginnings. Paths, microphones and noise are added by `agls.classify.channel`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agls.classify._material import (
    Chance,
    Floats,
    between,
    cut,
    fade,
    friedlander,
    gain,
    noise,
    placed,
    pulses,
    struck,
    tones,
)
from agls.messages import Label

LENGTH_S = 0.8


@dataclass(frozen=True, slots=True)
class Dry:
    """A sound at its source.

    Attributes
    ----------
    label : Label
        What makes it.
    wave : numpy.ndarray, shape (frames,), float64
        Its pressure, at any scale.
    begins_s : tuple of float
        When impulses of its class begin; empty where every impulse in it counts.
    far : float
        How much air it usually crosses, 1 for a shot's.
    """

    label: Label
    wave: Floats
    begins_s: tuple[float, ...] = ()
    far: float = 1.0


def draw(rng: Chance, rate_hz: float, kind: str) -> Dry:
    """Make one sound.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chance.
    rate_hz : float
        Sampling rate.
    kind : str
        A name in `MAKERS`.

    Returns
    -------
    Dry
        The sound.
    """
    label, make, far = MAKERS[kind]
    t = np.arange(round(LENGTH_S * rate_hz)) / rate_hz
    made = make(rng, t)
    wave, begins_s = made if isinstance(made, tuple) else (made, ())
    return Dry(label, wave / max(float(np.abs(wave).max()), 1e-9), begins_s, far)


# ---------------------------------------------------------------------------------------------------------- shots


def _one_shot(rng: Chance, t: Floats) -> Floats:
    """Make a muzzle blast: the pressure wave, the turbulent jet after it, and what the weapon does."""
    blast = friedlander(t, between(rng, 2e-4, 3e-3))
    jet = noise(rng, t, between(rng, 40, 500), between(rng, 1_200, 12_000), rng.uniform(-4, 1))
    wave = blast + gain(rng, -25, 6) * jet * fade(t, between(rng, 1e-4, 1.5e-3), between(rng, 2e-3, 0.045))
    if rng.random() < 0.35:  # the body of the sound, as a room, the ground or an engineer gives it
        f = between(rng, 35, 160)
        wave = wave + gain(rng, -15, 3) * np.sin(2 * np.pi * f * t) * fade(t, 1e-3, between(rng, 0.015, 0.09))
    if rng.random() < 0.3:  # slide, bolt, brass
        at_s = rng.uniform(0.015, 0.12)
        action = struck(rng, cut(t, 0.2), 900, 6_000, between(rng, 2e-3, 0.02))
        wave = wave + placed(t, [(at_s, action * gain(rng, -45, -20))])
    return np.asarray(wave)


def _shock(rng: Chance, t: Floats, lead_s: float) -> Floats:
    """Make the crack of a bullet, an N-wave, `lead_s` before the blast at that moment."""
    length_s = rng.uniform(1e-4, 5e-4)
    crack = np.where((t >= 0) & (t < length_s), 1 - 2 * t / length_s, 0.0)
    return np.asarray(crack + 0.15 * noise(rng, t, 1_000, 9_000) * fade(t, 1e-4, lead_s / 2 + 1e-3))


def _shot(rng: Chance, t: Floats) -> tuple[Floats, tuple[float, ...]]:
    first = _one_shot(rng, t)
    begins_s = [0.0]
    if rng.random() < 0.2:
        lead_s = between(rng, 1e-3, 0.15)
        begins_s = [0.0, lead_s]
        first = placed(t, [(0.0, _shock(rng, t, lead_s) * gain(rng, -15, 8)), (lead_s, first)])
    if rng.random() < 0.2:
        gap_s = between(rng, 0.05, 0.12) if rng.random() < 0.4 else between(rng, 0.15, 0.7)
        at_s = np.cumsum(np.maximum(0.6, rng.normal(1, 0.04, int(rng.integers(1, 9)))) * gap_s)
        later = [(float(at), first * gain(rng, -2, 2)) for at in at_s if at < t[-1]]
        begins_s += [at + begin for at, _ in later for begin in begins_s[:2]]
        first = placed(t, [(0.0, first), *later])
    return first, tuple(begins_s)


# ---------------------------------------------------------------------------------------- what is most like a shot


def _shell(rng: Chance, t: Floats) -> Floats:
    """Let a shell burst: black powder burns longer than a cartridge, paper tears, stars crackle and whistle."""
    tau_s = between(rng, 1.5e-3, 8e-3)
    wave = friedlander(t, tau_s) * (1 - np.exp(-t / between(rng, 1e-4, 3e-3)))
    tear = noise(rng, t, 60, between(rng, 700, 6_000), rng.uniform(-5, 0))
    loud = gain(rng, -15, 3)
    return np.asarray(
        wave / np.abs(wave).max() + loud * tear * fade(t, between(rng, 1e-3, 8e-3), between(rng, 0.01, 0.15))
    )


def _firework(rng: Chance, t: Floats) -> Floats:
    gaps_s = np.exp(rng.uniform(np.log(0.02), np.log(0.5), int(rng.integers(0, 10))))
    bursts = [(float(at), _shell(rng, t) * gain(rng, -14, 4)) for at in np.cumsum(gaps_s) if at < t[-1]]
    wave = placed(t, [(0.0, _shell(rng, t)), *bursts])
    if rng.random() < 0.7:
        count = int(between(rng, 4, 150))
        crackles_s = np.sort(rng.uniform(rng.uniform(0, 0.1), between(rng, 0.15, 1.1), count))
        wave = wave + gain(rng, -22, 2) * pulses(rng, t, crackles_s, between(rng, 1e-4, 9e-4), 2.0)
    if rng.random() < 0.3:
        wave = wave + gain(rng, -30, -5) * _whistle(rng, t)
    if rng.random() < 0.5:  # what burst before still rolls
        wave = wave + gain(rng, -35, -8) * noise(rng, t, 30, between(rng, 300, 3_000), rng.uniform(-5, 0))
    return np.asarray(wave)


def _firecrackers(rng: Chance, t: Floats) -> Floats:
    """Burn a string of firecrackers: small blasts at moments that keep no time."""
    at_s = np.concatenate(([0.0], np.cumsum(rng.exponential(between(rng, 0.01, 0.12), int(between(rng, 3, 60))))))
    wave = pulses(rng, t, at_s, between(rng, 2e-4, 1.5e-3), 1.8)
    hiss = noise(rng, t, 500, 9_000) * gain(rng, -50, -25)
    return np.asarray(wave + hiss)


def _salute(rng: Chance, t: Floats) -> Floats:
    wave = friedlander(t, between(rng, 1.5e-3, 5e-3))
    scraps = noise(rng, t, 400, 9_000) * fade(t - 0.004, 1e-3, between(rng, 0.01, 0.06))
    return np.asarray(wave + gain(rng, -30, -10) * scraps)


def _whistle(rng: Chance, t: Floats) -> Floats:
    """Whistle as rockets do, ever higher or lower, with a trill."""
    start_hz, ratio = between(rng, 700, 3_500), between(rng, 0.6, 1.7)
    turns = start_hz * t * ratio ** (t / 2) + rng.uniform(0, 8) * np.sin(2 * np.pi * rng.uniform(5, 60) * t)
    wave = np.sin(2 * np.pi * turns) + rng.uniform(0, 0.6) * np.sin(4 * np.pi * turns)
    return np.asarray(wave * (1 - np.exp(-t / between(rng, 3e-3, 0.1))))


def _backfire(rng: Chance, t: Floats) -> Floats:
    numbers: Floats = np.arange(1.0, 9.0)
    pipe_hz = between(rng, 60, 260) * numbers
    decays_s: Floats = np.asarray(between(rng, 0.01, 0.06) / np.sqrt(numbers))
    pipe = tones(rng, t, pipe_hz, decays_s, np.asarray(1 / numbers))
    pop = friedlander(t, between(rng, 1.5e-3, 6e-3)) + gain(rng, -10, 3) * pipe * (1 - np.exp(-t / 2e-3))
    count = int(rng.integers(0, 5))
    later = [(float(at), pop * gain(rng, -10, 3)) for at in rng.uniform(0.08, 1.0, count)]
    return np.asarray(placed(t, [(0.0, pop), *later]) + gain(rng, -35, -12) * _engine(rng, t))


def _pop(rng: Chance, t: Floats) -> Floats:
    """Burst a balloon or a bag: an N of a millisecond, and what tears."""
    length_s = between(rng, 5e-4, 4e-3)
    wave = np.where(t < length_s, 1 - 2 * t / length_s, 0.0)
    return np.asarray(wave + gain(rng, -20, 3) * noise(rng, t, 500, 7_000) * fade(t, 2e-4, between(rng, 1e-3, 0.012)))


def _clap(rng: Chance, t: Floats) -> Floats:
    hollow_hz = between(rng, 500, 2_800)
    hollow = np.sin(2 * np.pi * hollow_hz * t) * fade(t, 3e-4, between(rng, 1e-3, 5e-3))
    skin = noise(rng, t, 400, between(rng, 2_000, 8_000)) * fade(t, 3e-4, between(rng, 2e-3, 0.012))
    one = skin + gain(rng, -6, 9) * hollow
    gap_s = rng.uniform(0.12, 0.5)
    later = [(gap_s * n * rng.normal(1, 0.03), one * gain(rng, -4, 3)) for n in range(1, int(rng.integers(1, 7)))]
    return placed(t, [(0.0, one), *later])


def _thunder(rng: Chance, t: Floats) -> Floats:
    claps = np.sort(np.concatenate(([0.0], rng.exponential(0.3, int(rng.integers(2, 12))))))
    rolling = sum(rng.uniform(0.2, 1) * fade(t - at, between(rng, 3e-3, 0.08), between(rng, 0.04, 0.5)) for at in claps)
    return np.asarray(noise(rng, t, 15, between(rng, 100, 1_500), -3) * rolling)


# -------------------------------------------------------------------------------------------- tools, doors, things


def _door(rng: Chance, t: Floats) -> Floats:
    """Slam: a low, wide thud, with the latch before and a rattle after."""
    thud = struck(rng, t, between(rng, 45, 150), between(rng, 300, 1_500), between(rng, 0.015, 0.09))
    air = noise(rng, t, 40, between(rng, 300, 2_500), -3) * fade(t, between(rng, 5e-4, 6e-3), between(rng, 0.01, 0.07))
    parts = [(0.03, thud + gain(rng, -12, 6) * air)]
    if rng.random() < 0.7:
        latch = struck(rng, t, 600, 5_000, between(rng, 2e-3, 0.015))
        parts += [(max(0.0, 0.03 + rng.uniform(-0.03, 0.12)), latch * gain(rng, -25, 0))]
    parts += [
        (float(at), struck(rng, t, 100, 3_000, 0.02) * gain(rng, -25, -5))
        for at in rng.uniform(0.06, 0.5, int(rng.integers(0, 5)))
    ]
    return placed(t, parts)


def _hammer(rng: Chance, t: Floats) -> Floats:
    low_hz = between(rng, 120, 900)
    one = struck(rng, t, low_hz, low_hz * between(rng, 3, 12), between(rng, 4e-3, 0.09), contact=rng.uniform(0, 1))
    gap_s = between(rng, 0.12, 0.8)
    later = [(gap_s * n * rng.normal(1, 0.05), one * gain(rng, -5, 3)) for n in range(1, int(rng.integers(1, 6)))]
    return placed(t, [(0.0, one), *later])


def _nailgun(rng: Chance, t: Floats) -> Floats:
    wood = struck(rng, t, 250, 4_500, between(rng, 3e-3, 0.03))
    air = noise(rng, t, 800, 12_000) * fade(t - rng.uniform(5e-3, 0.03), 3e-3, between(rng, 0.01, 0.08))
    blow = friedlander(t, between(rng, 2e-4, 1e-3)) + gain(rng, -18, 0) * air
    return np.asarray(placed(t, [(0.0, blow), (rng.uniform(1e-3, 8e-3), wood * gain(rng, -6, 6))]))


def _jackhammer(rng: Chance, t: Floats) -> Floats:
    low_hz = between(rng, 100, 700)
    one = struck(rng, t, low_hz, low_hz * between(rng, 4, 15), between(rng, 3e-3, 0.03), contact=rng.uniform(0, 1.2))
    gap_s = 1 / between(rng, 9, 38)
    later = [(gap_s * n + rng.normal(0, 0.001), one * gain(rng, -4, 2)) for n in range(1, int(1 / gap_s))]
    if rng.random() < 0.5:  # air that is let out, or the blow through the ground
        puff = friedlander(t, between(rng, 3e-4, 4e-3))
        one = one + gain(rng, -10, 10) * puff
        later = [(at, wave + gain(rng, -8, 8) * puff) for at, wave in later]
    bed = noise(rng, t, 80, between(rng, 600, 6_000), -2) * gain(rng, -30, -6)
    return np.asarray(placed(t, [(0.0, one), *later]) + bed * (1 - np.exp(-t / 0.01)))


def _drill(rng: Chance, t: Floats) -> Floats:
    """Run a motor up: harmonics that climb, with the noise of teeth."""
    speed_hz = between(rng, 40, 400) * (1 - 0.6 * np.exp(-t / between(rng, 0.02, 0.4)))
    turns = np.cumsum(speed_hz) * (t[1] - t[0])
    motor = sum(rng.uniform(0.1, 1) / n**0.5 * np.sin(2 * np.pi * n * turns + rng.uniform(0, 6)) for n in range(1, 16))
    teeth = noise(rng, t, 300, between(rng, 2_000, 9_000)) * (1 + rng.uniform(0, 1) * np.sin(2 * np.pi * turns * 4))
    return np.asarray((motor + gain(rng, -10, 12) * teeth) * (1 - np.exp(-t / between(rng, 2e-3, 0.05))))


def _glass(rng: Chance, t: Floats) -> Floats:
    at_s = np.concatenate(([0.0], rng.exponential(between(rng, 0.03, 0.25), int(between(rng, 4, 40)))))
    short = cut(t, 0.25)
    shards = []
    for at in at_s[at_s < t[-1] - 0.3]:
        shard = struck(rng, short, between(rng, 900, 3_500), 9_000, between(rng, 3e-3, 0.05))
        shards.append((float(at), shard * gain(rng, -18, 0)))
    return np.asarray(placed(t, shards) + noise(rng, t, 1_000, 9_000) * fade(t, 5e-4, 0.02) * gain(rng, -15, 0))


def _metal(rng: Chance, t: Floats) -> Floats:
    low_hz = between(rng, 80, 1_200)
    one = struck(rng, t, low_hz, low_hz * between(rng, 5, 30), between(rng, 0.03, 0.6), contact=rng.uniform(0, 0.6))
    later = [(float(at), one * gain(rng, -15, 0)) for at in rng.uniform(0.05, 0.9, int(rng.integers(0, 5)))]
    return placed(t, [(0.0, one), *later])


def _steps(rng: Chance, t: Floats) -> Floats:
    """Step, knock or drop: soft low thuds with a scuff, at a walking pace or alone."""
    thud = struck(rng, t, between(rng, 40, 250), between(rng, 300, 2_000), between(rng, 5e-3, 0.03))
    scuff = noise(rng, t, 500, 6_000) * fade(t - rng.uniform(0, 0.03), 3e-3, between(rng, 5e-3, 0.06))
    one = thud + gain(rng, -20, 3) * scuff
    if rng.random() < 0.4:  # a ball: hollow, with the slap of its skin
        hollow = np.sin(2 * np.pi * between(rng, 80, 500) * t) * fade(t, 1e-3, between(rng, 0.01, 0.06))
        one = hollow + gain(rng, -20, 0) * noise(rng, t, 400, 5_000) * fade(t, 3e-4, between(rng, 2e-3, 0.01))
    gap_s = rng.uniform(0.2, 0.6)
    later = [(gap_s * n, one * gain(rng, -5, 3)) for n in range(1, int(rng.integers(1, 5)))]
    return placed(t, [(0.0, one), *later])


def _click(rng: Chance, t: Floats) -> Floats:
    """Click: a key, a drop, a spark, a crackling fire; very short and alone or many."""
    at_s = np.concatenate(([0.0], rng.uniform(0, 1.0, int(between(rng, 1, 60)) - 1)))
    wave = pulses(rng, t, at_s, between(rng, 5e-5, 8e-4), 1.5)
    ring_hz = between(rng, 400, 5_000)
    ring = np.sin(2 * np.pi * ring_hz * t) * np.exp(-t / between(rng, 5e-4, 0.01))
    return np.convolve(wave, ring[:256] + (rng.random() < 0.5) * np.eye(1, 256)[0], "full")[: t.size]


def _thump(rng: Chance, t: Floats) -> Floats:
    """Touch the microphone, or let wind do it: low and shapeless."""
    wave = noise(rng, t, 5, between(rng, 60, 500), -4) * fade(t, between(rng, 1e-3, 0.05), between(rng, 0.02, 0.3))
    return np.asarray(wave + gain(rng, -40, -10) * noise(rng, t, 500, 8_000) * fade(t, 1e-3, 0.02))


# ------------------------------------------------------------------------------------- voices, music, horns, engines


def _harmonics(rng: Chance, t: Floats, pitch_hz: Floats, tilt: float, count: int) -> Floats:
    turns = np.cumsum(pitch_hz) * (t[1] - t[0])
    weights = np.arange(1, count + 1) ** -tilt * rng.uniform(0.3, 1, count)
    waves = (
        w * np.sin(2 * np.pi * n * turns + p)
        for n, (w, p) in enumerate(zip(weights, rng.uniform(0, 6.3, count), strict=True), 1)
    )
    return np.asarray(sum(waves))


def _formants(rng: Chance, wave: Floats, step_s: float) -> Floats:
    f = np.fft.rfftfreq(wave.size, step_s)
    gain = 0.03 + sum(
        between(rng, 0.3, 1) / (1 + ((f - middle * rng.uniform(0.7, 1.4)) / (width * rng.uniform(0.5, 1.5))) ** 2)
        for middle, width in ((600, 90), (1_400, 130), (2_700, 200), (3_800, 300))
    )
    return np.fft.irfft(np.fft.rfft(wave) * gain, wave.size)


def _voice(rng: Chance, t: Floats) -> Floats:
    """Speak, shout or cry: harmonics that glide through formants, consonants between."""
    pitch_hz = between(rng, 80, 600) * np.exp(
        rng.normal(0, 0.3) * t + rng.normal(0, 0.05) * np.sin(2 * np.pi * rng.uniform(2, 7) * t)
    )
    sung = _harmonics(rng, t, pitch_hz, rng.uniform(0.6, 1.4), 24)
    breath = noise(rng, t, 800, 8_000) * gain(rng, -30, -8)
    syllables_s = np.cumsum(rng.uniform(0.09, 0.35, 10))
    beat = sum(
        gain(rng, -8, 0) * fade(t - at, between(rng, 2e-3, 0.04), between(rng, 0.04, 0.3))
        for at in (0.0, *syllables_s[syllables_s < 1.0])
    )
    hiss = noise(rng, t, 2_000, 9_000) * fade(t, 2e-3, 0.02) * gain(rng, -25, 0)
    return np.asarray(_formants(rng, (sung / (sung.std() + 1e-9) + breath) * beat, float(t[1] - t[0])) + hiss)


def _bark(rng: Chance, t: Floats) -> Floats:
    """Bark: a rough rise and fall of pitch, a tenth of a second, again and again."""
    rise_s, fall_s = between(rng, 2e-3, 0.04), between(rng, 0.02, 0.15)
    bend = np.exp(rng.uniform(0.1, 0.9) * np.exp(-(((t - fall_s) / fall_s) ** 2)))
    sung = _harmonics(rng, t, between(rng, 120, 900) * bend * (1 + 0.02 * rng.standard_normal(t.size)), 1.0, 14)
    rough = noise(rng, t, 300, between(rng, 1_500, 6_000)) * (1 + np.sin(2 * np.pi * rng.uniform(30, 120) * t))
    one = _formants(rng, sung / (sung.std() + 1e-9) + gain(rng, -12, 10) * rough, float(t[1] - t[0]))
    one = one * fade(t, rise_s, fall_s)
    gap_s = between(rng, 0.18, 0.9)
    later = [(gap_s * n * rng.normal(1, 0.08), one * gain(rng, -5, 2)) for n in range(1, int(rng.integers(1, 5)))]
    return placed(t, [(0.0, one), *later])


def _horn(rng: Chance, t: Floats) -> Floats:
    pitches_hz = between(rng, 180, 900) * np.array([1.0, rng.choice([1.0, 1.19, 1.26, 1.33, 1.5])])
    wave = sum(_harmonics(rng, t, np.full(t.size, f), rng.uniform(0.1, 1.0), 18) for f in pitches_hz)
    length_s = between(rng, 0.1, 3.0)
    return np.asarray(wave * (1 - np.exp(-t / between(rng, 1e-3, 0.03))) / (1 + np.exp((t - length_s) / 0.01)))


def _siren(rng: Chance, t: Floats) -> Floats:
    sweep = np.sin(2 * np.pi * between(rng, 0.2, 12) * t + rng.uniform(0, 6))
    if rng.random() < 0.4:
        sweep = np.sign(sweep)
    wave = _harmonics(rng, t, between(rng, 400, 1_300) * 1.5**sweep, rng.uniform(0.5, 2.0), 8)
    return np.asarray(wave * (1 - np.exp(-t / between(rng, 1e-3, 0.1))))


def _note(rng: Chance, t: Floats) -> Floats:
    """Play: plucked, struck, blown or bowed notes, alone or together, over one another."""
    sounds = []
    for at in np.concatenate(([0.0], np.sort(rng.uniform(0.08, 1.0, int(rng.integers(0, 7)))))):
        pitches_hz = between(rng, 55, 1_400) * np.array([1, 1.26, 1.5, 2.0])[: int(rng.integers(1, 5))]
        blown = rng.random() < 0.4
        decay_s = 3.0 if blown else between(rng, 0.05, 0.8)
        wave = sum(_harmonics(rng, t, np.full(t.size, f), rng.uniform(0.5, 2), 10) for f in pitches_hz)
        attack_s = between(rng, 5e-3, 0.08) if blown else between(rng, 3e-4, 8e-3)
        sounds.append((float(at), wave * fade(t, attack_s, decay_s) * gain(rng, -8, 0)))
    return placed(t, sounds)


def _drum(rng: Chance, t: Floats) -> Floats:
    """Drum: skins whose pitch falls, snares, cymbals, in a rhythm."""

    def _skin() -> Floats:
        low_hz = between(rng, 45, 260)
        fall = low_hz * (1 + between(rng, 0.1, 3) * np.exp(-t / between(rng, 4e-3, 0.04)))
        skin = np.sin(2 * np.pi * np.cumsum(fall) * (t[1] - t[0])) * fade(t, 5e-4, between(rng, 0.03, 0.35))
        stick = noise(rng, t, 400, 7_000) * fade(t, 3e-4, between(rng, 2e-3, 0.02)) * gain(rng, -25, -4)
        wires = noise(rng, t, 800, 9_000) * fade(t, 1e-3, between(rng, 0.03, 0.2)) * gain(rng, -40, 0)
        return np.asarray(skin + stick + wires)

    kit = [_skin(), _skin(), noise(rng, t, 3_000, 11_000) * fade(t, 5e-4, between(rng, 0.01, 0.3)) * 0.6]
    beat_s = rng.uniform(0.09, 0.3)
    hits = [(0.0, kit[int(rng.integers(0, 3))])]
    hits += [(beat_s * n, kit[int(rng.integers(0, 3))] * gain(rng, -9, 0)) for n in range(1, 9) if rng.random() < 0.7]
    bed = _note(rng, t) * (rng.random() < 0.5)
    return np.asarray(placed(t, hits) + gain(rng, -25, 0) * bed / (np.abs(bed).max() + 1e-9))


def _engine(rng: Chance, t: Floats) -> Floats:
    """Run an engine or a rotor: blows at a steady rate, each alike, uneven in strength."""
    gap_s = 1 / between(rng, 8, 90)
    at_s = np.cumsum(gap_s * rng.normal(1, 0.02, int(1.2 / gap_s)))
    hits = np.zeros(t.size)
    starts = (at_s / (t[1] - t[0])).astype(int)
    np.add.at(hits, starts[starts < t.size], rng.uniform(0.5, 1, int((starts < t.size).sum())))
    blow = noise(rng, t, 40, between(rng, 200, 3_000), -3) * fade(t, 1e-3, between(rng, 2e-3, 0.03))
    pipe = np.sin(2 * np.pi * between(rng, 50, 400) * t) * fade(t, 1e-3, between(rng, 5e-3, 0.03))
    if rng.random() < 0.4:  # a rough engine knocks
        pipe = pipe + gain(rng, -5, 12) * friedlander(t, between(rng, 3e-4, 4e-3))
    spectrum = np.fft.rfft(hits, 2 * t.size) * np.fft.rfft(blow + pipe, 2 * t.size)
    bed = noise(rng, t, 60, between(rng, 500, 4_000), -3) * gain(rng, -25, 0)
    wave = np.fft.irfft(spectrum)[: t.size]
    return np.asarray((wave / (wave.std() + 1e-9) + bed) * (1 - np.exp(-t / between(rng, 1e-3, 0.2))))


def _hiss(rng: Chance, t: Floats) -> Floats:
    """Let air, water or static set in: noise that begins, and stays or goes."""
    low_hz = between(rng, 30, 2_000)
    wave = noise(rng, t, low_hz, between(rng, 2 * low_hz, 11_000), rng.uniform(-6, 3))
    return np.asarray(wave * fade(t, between(rng, 1e-3, 0.08), between(rng, 0.05, 3.0)))


def _chirp(rng: Chance, t: Floats) -> Floats:
    start_hz = between(rng, 900, 5_000)
    turns = start_hz * t * between(rng, 0.4, 2.5) ** (t / rng.uniform(0.05, 0.5)).clip(0, 2)
    one = np.sin(2 * np.pi * turns) * fade(t, between(rng, 1e-3, 0.02), between(rng, 0.015, 0.15))
    gap_s = between(rng, 0.05, 0.5)
    return placed(t, [(gap_s * n, one * gain(rng, -6, 0)) for n in range(int(rng.integers(1, 8)))])


Maker = Callable[[Chance, Floats], Floats | tuple[Floats, tuple[float, ...]]]
# Class, maker, and how much air lies between, 1 for a shot's.
MAKERS: dict[str, tuple[Label, Maker, float]] = {
    "shot": ("gunshot", _shot, 1.0),
    "firework": ("firework", _firework, 3.0), "firecrackers": ("firework", _firecrackers, 2.0),
    "salute": ("firework", _salute, 3.0), "whistle": ("firework", _whistle, 1.0),
    "backfire": ("backfire", _backfire, 1.0), "pop": ("pop", _pop, 0.3), "clap": ("pop", _clap, 0.3),
    "thunder": ("thunder", _thunder, 2.0), "door": ("tool", _door, 0.3), "hammer": ("tool", _hammer, 0.7),
    "nailgun": ("tool", _nailgun, 0.7), "jackhammer": ("tool", _jackhammer, 1.0), "drill": ("tool", _drill, 0.5),
    "glass": ("other", _glass, 0.3), "metal": ("tool", _metal, 0.5), "steps": ("other", _steps, 0.1),
    "click": ("other", _click, 0.1), "thump": ("other", _thump, 0.1), "voice": ("other", _voice, 0.3),
    "bark": ("other", _bark, 0.5), "horn": ("vehicle", _horn, 0.7), "siren": ("vehicle", _siren, 1.0),
    "note": ("other", _note, 0.3), "drum": ("other", _drum, 0.3), "engine": ("vehicle", _engine, 0.5),
    "hiss": ("other", _hiss, 0.2), "chirp": ("other", _chirp, 0.5),
}  # fmt: skip
