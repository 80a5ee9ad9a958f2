"""Features: what an impulse sounded like, in some sixty numbers, by numpy alone.

Every snippet is brought to one rate and one bandwidth first, or a model learns the microphone instead of the gun. No
feature knows the absolute level, which depends on a microphone and a distance; all compare one part of a snippet with
another. Where a part is missing (a clip that ends early) it counts as silence.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from agls.messages import Onset

Floats = NDArray[np.float64]

RATE_HZ = 12_000
WINDOW, HOP = 256, 120
BAND_COUNT = 12
BAND_EDGES_HZ = (150.0, 5_500.0)
# Stretches of a snippet in seconds from the onset; what each is good for: the blast, its echoes, the reverberation.
STRETCHES_S = {"attack": (0.0, 0.03), "early": (0.03, 0.1), "middle": (0.1, 0.25), "late": (0.25, 0.45)}
BEFORE_S = (-0.045, -0.005)
FLOOR_DB = -60.0
CLIP_LEVEL = 0.985

SCALARS = ("before", "early", "middle", "late", "crest", "kurtosis", "rise", "loud", "decay", "high_low", "crossings",
    "steadiness", "clip_share", "polarity")  # fmt: skip
FEATURE_NAMES: tuple[str, ...] = (
    *(f"{stretch}_{band:02d}" for stretch in STRETCHES_S for band in range(BAND_COUNT)),
    *SCALARS,
)


def features(onset: Onset) -> Floats:
    """Describe an onset by numbers that do not depend on its level, its sampling rate or its microphone's gain.

    Parameters
    ----------
    onset : Onset
        With its snippet, 8 to 192 kHz.

    Returns
    -------
    numpy.ndarray, shape (feature_count,), float64
        Finite values in the order of `FEATURE_NAMES`; decibels, seconds and shares.
    """
    wave, start = _common_rate(onset)
    bands = _band_energies(wave, onset.sample_rate_hz)
    middles = (np.arange(len(bands)) * HOP + WINDOW / 2 - start) / RATE_HZ
    attack = _stretch(bands, middles, STRETCHES_S["attack"])
    total = max(float(attack.sum()), 1e-30)
    shape = _decibel(attack / total)
    drops = [
        _decibel(_stretch(bands, middles, span) / np.maximum(attack, total * 1e-6))
        for name, span in STRETCHES_S.items()
        if name != "attack"
    ]
    levels = [float(_stretch(bands, middles, span).sum()) / total for span in (BEFORE_S, *_AFTERS)]
    scalars = np.array([*_decibel(np.array(levels)), *_shape_of(wave, start), *_clipping(onset)])
    row: Floats = np.nan_to_num(np.concatenate([shape, *drops, scalars]), nan=0.0, posinf=60.0, neginf=-60.0)
    return row


_AFTERS = tuple(span for name, span in STRETCHES_S.items() if name != "attack")


def _common_rate(onset: Onset) -> tuple[Floats, float]:
    """Resample a snippet by its spectrum; return it and the place of its onset."""
    wave = np.asarray(onset.snippet, np.float64)
    wave = wave - (wave.mean() if wave.size else 0.0)
    ratio = RATE_HZ / onset.sample_rate_hz
    if ratio == 1.0 or wave.size < 2:
        return wave, onset.snippet_onset
    frames = max(2, round(wave.size * ratio))
    spectrum = np.fft.rfft(wave)
    kept = np.zeros(frames // 2 + 1, complex)
    common = min(kept.size, spectrum.size)
    kept[:common] = spectrum[:common]
    return np.fft.irfft(kept, frames) * (frames / wave.size), onset.snippet_onset * frames / wave.size


@cache
def _mel_bands() -> Floats:
    """Lay triangular bands, equally wide in mel, over the bins of a spectrum: shape (BAND_COUNT, bins)."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in BAND_EDGES_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, BAND_COUNT + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    up = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(up, down))


def _band_energies(wave: Floats, rate_hz: float) -> Floats:
    """Sum the power in each band and each frame: shape (frames, BAND_COUNT)."""
    padded = np.concatenate([wave, np.zeros(max(0, WINDOW - wave.size))])
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    bands = power @ _mel_bands().T
    # Telephone audio has nothing above 4 kHz: take the highest band it has for those it has not.
    if rate_hz < 2 * BAND_EDGES_HZ[1]:
        low, high = (2595 * np.log10(1 + edge / 700) for edge in BAND_EDGES_HZ)
        top = 2595 * np.log10(1 + 0.45 * rate_hz / 700)
        missing = max(1, int((top - low) / (high - low) * (BAND_COUNT + 1)) - 1)
        bands[:, missing:] = bands[:, missing - 1 : missing]
    return np.asarray(bands)


def _stretch(bands: Floats, middles_s: Floats, span_s: tuple[float, float]) -> Floats:
    """Average the frames whose middle lies in a stretch: shape (BAND_COUNT,)."""
    inside = (middles_s >= span_s[0]) & (middles_s < span_s[1])
    return np.asarray(bands[inside].mean(axis=0)) if inside.any() else np.zeros(BAND_COUNT)


def _decibel(ratio: Floats) -> Floats:
    """Turn power ratios into decibels, none below the floor."""
    return np.asarray(np.maximum(FLOOR_DB, 10 * np.log10(np.maximum(ratio, 1e-30))))


def _shape_of(wave: Floats, start: float) -> list[float]:
    """Describe the waveform of the first tenth of a second: crest, kurtosis, rise, length, decay, pitch, steadiness."""
    whole = int(start)
    blast = wave[whole : whole + RATE_HZ // 10]
    power = float(np.mean(blast**2)) if blast.size else 0.0
    if power <= 0 or blast.size < 20:
        return [0.0] * 8
    size = np.abs(blast)
    peak_at = int(np.argmax(size[: RATE_HZ // 50]))
    crest_db = 10 * float(np.log10(size[peak_at] ** 2 / power))
    kurtosis = float(np.log(np.mean(blast**4) / power**2))
    rise_s = float(np.argmax(size >= 0.5 * size[peak_at])) / RATE_HZ
    envelope = _envelope(wave[whole:])
    loud_s = float(np.count_nonzero(envelope > 0.1 * envelope[:20].max())) * 0.001
    early = _decibel(envelope[:100] / envelope.max())
    decay_db_s = float(np.polyfit(np.arange(early.size) * 0.001, early, 1)[0]) if early.size > 5 else 0.0
    slope = np.diff(blast)
    high_low_db = 10 * float(np.log10(max(float(np.mean(slope**2)), 1e-30) / power))
    crossings = float(np.mean(np.signbit(blast[1:]) != np.signbit(blast[:-1])))
    steadiness_db = float(np.std(_decibel(envelope[:400] / envelope.max())))
    return [crest_db, kurtosis, rise_s * 1000, loud_s, decay_db_s / 100, high_low_db, crossings, steadiness_db]


def _envelope(wave: Floats) -> Floats:
    """Average the power of each millisecond: shape (milliseconds,)."""
    span = RATE_HZ // 1000
    count = max(1, wave.size // span)
    padded = np.concatenate([wave, np.zeros(max(0, span - wave.size))])[: count * span]
    return np.asarray((padded**2).reshape(count, span).mean(axis=1)) + 1e-30


def _clipping(onset: Onset) -> list[float]:
    """Say which share of the first 10 ms is at full scale, and which sign the strongest sample has."""
    whole = int(onset.snippet_onset)
    near = np.asarray(onset.snippet[whole : whole + int(0.01 * onset.sample_rate_hz)], np.float64)
    if not near.size:
        return [0.0, 0.0]
    strongest = near[int(np.argmax(np.abs(near)))]
    return [float(np.mean(np.abs(near) >= CLIP_LEVEL)), float(np.sign(strongest))]
