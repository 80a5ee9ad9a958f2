"""Features: what an impulse sounded like, in some hundred and fifty numbers, by numpy alone.

Every snippet is brought to one rate and one bandwidth first, or a model learns the microphone instead of the gun. No
feature knows the absolute level, which depends on a microphone and a distance; all compare one part of a snippet with
another. Where a part is missing (a clip that ends early) it counts as silence.

What is described, and why it tells a shot from the rest: the colour of the attack (a blast is broad, without tones);
how each band fades against its own beginning, which no microphone's colour changes; what went before; how the first
milliseconds rise and fall in three bands; tones (horns, voices, struck metal ring); repetition (tools, crackles);
and how flat the tops are (close guns drive a microphone into its limits).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from agls.messages import Onset

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

RATE_HZ = 12_000
# All snippets are laid on one grid of so many seconds, the onset after 75 ms, silence around: shapes never vary.
GRID_S, LEAD_S = 0.6, 0.075
FRAMES, ONSET = 7_200, 900
WINDOW, HOP = 256, 120
BAND_COUNT = 12
BAND_EDGES_HZ = (150.0, 5_500.0)
# Stretches of a snippet in seconds from the onset; what each is good for: the blast, its echoes, the reverberation.
STRETCHES_S = {
    "attack": (0.0, 0.03),
    "early": (0.03, 0.07),
    "middle": (0.07, 0.14),
    "late": (0.14, 0.26),
    "tail": (0.26, 0.44),
    "before": (-0.045, -0.012),
}
# Three broad bands, each an octave and more, whose first milliseconds are looked at closely.
BROAD_HZ = ((150.0, 700.0), (700.0, 2_200.0), (2_200.0, 5_500.0))
SLOTS_MS = (-12, -5, -1, 1, 2, 4, 8, 16, 32, 64, 128)
SLOTS_FROM, SLOTS_FRAMES, SLOTS_FADE = 600, 2_000, 120
# Where tones are looked for: beginning from the onset and length in samples.
TONE_SPANS = {"attack": (0, 512), "ring": (600, 1_024), "rest": (1_800, 2_048)}
FLOOR_DB = -60.0
CLIP_LEVEL = 0.985

SHAPES = (
    "crest", "kurtosis", "kurtosis_late", "rise", "rise_full", "peak_at", "loud", "crossings", "crossings_late",
    "slope_early", "slope_late", "bend", "roughness", "roughness_fine", "steadiness", "later_peak", "later_peak_at",
    "peaks", "repeats", "repeats_at", "before_peak", "before_rough", "flat_early", "flat", "clip_share", "polarity",
    "ends",
)  # fmt: skip
FEATURE_NAMES: tuple[str, ...] = (
    *(f"{stretch}_{band:02d}" for stretch in STRETCHES_S for band in range(BAND_COUNT)),
    *STRETCHES_S,
    *(f"{broad}_{slot:+d}ms" for broad in ("low", "mid", "high") for slot in SLOTS_MS[:-1]),
    *(f"{what}_{span}" for span in TONE_SPANS for what in ("flatness", "peak", "pitch")),
    *SHAPES,
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
    spectrum, ends_s = common_spectrum(onset)
    whole = np.fft.irfft(spectrum, FRAMES)
    heard = np.fft.irfft(spectrum * _heard_mask(), FRAMES)
    bands = band_energies(whole, onset.sample_rate_hz)
    row = np.concatenate(
        [
            _colours(bands),
            _slots(whole[SLOTS_FROM : SLOTS_FROM + SLOTS_FRAMES]),
            _tones(heard),
            _shape_of(heard),
            _flat_tops(onset),
            [ends_s],
        ]
    )
    out: Floats = np.nan_to_num(row, nan=0.0, posinf=60.0, neginf=-60.0)
    return out


def common_spectrum(onset: Onset) -> tuple[Complex, float]:
    """Lay a snippet on the common grid, by its spectrum.

    Parameters
    ----------
    onset : Onset
        With its snippet.

    Returns
    -------
    spectrum : numpy.ndarray, shape (FRAMES // 2 + 1,), complex128
        Of the snippet at `RATE_HZ`, its onset at sample `ONSET`.
    ends_s : float
        Where the snippet ends, from its onset [s].
    """
    rate_hz = onset.sample_rate_hz
    length = max(2, round(GRID_S * rate_hz))
    whole = int(onset.snippet_onset)
    first = max(0, whole - round(LEAD_S * rate_hz))
    wave = np.asarray(onset.snippet[first : first + length], np.float64)
    ends_s = min(0.45, max(0.0, (first + wave.size - onset.snippet_onset) / rate_hz))
    if wave.size:
        wave = wave - wave.mean()
    spectrum = np.fft.rfft(wave, length) * (FRAMES / length)
    common = np.zeros(FRAMES // 2 + 1, complex)
    kept = min(common.size, spectrum.size)
    common[:kept] = spectrum[:kept]
    # Put the onset, which lies between samples, exactly where it belongs.
    shift = ONSET - (onset.snippet_onset - first) * (FRAMES / length)
    return common * np.exp(-2j * np.pi / FRAMES * shift * np.arange(common.size)), ends_s


def _mask(frames: int, span_hz: tuple[float, float]) -> Floats:
    """Weigh frequencies: 1 inside a band, falling to 0 within half an octave at each edge."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(frames, 1 / RATE_HZ), 1.0))
    rise = np.clip((octaves - np.log2(span_hz[0])) / 0.5 + 0.5, 0, 1)
    fall = np.clip((np.log2(span_hz[1]) - octaves) / 0.5 + 0.5, 0, 1)
    return np.asarray(np.sin(np.pi / 2 * rise * fall) ** 2)


@cache
def _heard_mask() -> Floats:
    return _mask(FRAMES, BAND_EDGES_HZ)


@cache
def _broad_masks() -> Floats:
    return np.array([_mask(SLOTS_FRAMES, span_hz) for span_hz in BROAD_HZ])


@cache
def _slots_window() -> Floats:
    """Fade in and out, so that where a stretch is cut makes no sound of its own."""
    fade = np.sin(np.pi / 2 * (np.arange(SLOTS_FADE) + 0.5) / SLOTS_FADE) ** 2
    return np.concatenate([fade, np.ones(SLOTS_FRAMES - 2 * SLOTS_FADE), fade[::-1]])


@cache
def mel_bands() -> Floats:
    """Lay triangular bands, equally wide in mel, over the bins of a spectrum.

    Returns
    -------
    numpy.ndarray, shape (BAND_COUNT, WINDOW // 2 + 1), float64
        Weights, 1 in each band's middle.
    """
    low, high = (2595 * np.log10(1 + edge / 700) for edge in BAND_EDGES_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, BAND_COUNT + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    up = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(up, down))


@cache
def _window() -> Floats:
    # Periodic, as spectrograms want it.
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))


@cache
def _averages() -> Floats:
    """Average the frames whose middle lies in each stretch: shape (stretches, frames)."""
    count = (FRAMES - WINDOW) // HOP + 1
    middles_s = (np.arange(count) * HOP + WINDOW / 2 - ONSET) / RATE_HZ
    inside = np.array([(middles_s >= first) & (middles_s < last) for first, last in STRETCHES_S.values()], float)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True))


def band_energies(wave: Floats, rate_hz: float) -> Floats:
    """Sum the power in each band and each frame.

    Parameters
    ----------
    wave : numpy.ndarray, shape (FRAMES,)
        On the common grid.
    rate_hz : float
        At which it was recorded.

    Returns
    -------
    numpy.ndarray, shape (frames, BAND_COUNT), float64
        Power.
    """
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    spectra = np.fft.rfft(frames * _window(), axis=1)
    bands = (spectra.real**2 + spectra.imag**2) @ mel_bands().T
    # Telephone audio has nothing above 4 kHz: take the highest band it has for those it has not.
    if rate_hz < 2 * BAND_EDGES_HZ[1]:
        low, high = (2595 * np.log10(1 + edge / 700) for edge in BAND_EDGES_HZ)
        top = 2595 * np.log10(1 + 0.45 * rate_hz / 700)
        missing = max(1, int((top - low) / (high - low) * (BAND_COUNT + 1)) - 1)
        bands[:, missing:] = bands[:, missing - 1 : missing]
    return np.asarray(bands)


def _decibel(ratio: Floats) -> Floats:
    """Turn power ratios into decibels, none below the floor."""
    return np.asarray(np.maximum(FLOOR_DB, 10 * np.log10(np.maximum(ratio, 1e-30))))


def _colours(bands: Floats) -> Floats:
    """Compare bands in the attack, then each band of each later stretch with its own attack, then all bands at once."""
    levels = _averages() @ bands
    attack = levels[0]
    total = max(float(attack.sum()), 1e-30)
    drops = _decibel(levels[1:] / np.maximum(attack, total * 1e-6))
    whole = _decibel(levels.sum(axis=1) / total)
    # The first of the whole is always 0: tell the slope of the attack's colour instead.
    colour = _decibel(attack / total)
    whole[0] = float(colour @ np.linspace(-1, 1, BAND_COUNT)) / BAND_COUNT
    return np.concatenate([colour, drops.ravel(), whole])


@cache
def _slot_edges() -> NDArray[np.int64]:
    return np.array([ONSET - SLOTS_FROM + round(edge * RATE_HZ / 1000) for edge in SLOTS_MS])


def _slots(stretch: Floats) -> Floats:
    """Follow each broad band through the first milliseconds, against the loudest of them."""
    waves = np.fft.irfft(np.fft.rfft(stretch * _slots_window()) * _broad_masks(), SLOTS_FRAMES, axis=1)
    edges = _slot_edges()
    power = np.add.reduceat(waves * waves, edges, axis=1)[:, :-1] / np.diff(edges)
    return _decibel(power / np.maximum(power.max(axis=1, keepdims=True), 1e-30)).ravel()


@cache
def _tone_windows() -> list[tuple[int, int, Floats]]:
    return [(ONSET + at, size, np.hanning(size)) for at, size in TONE_SPANS.values()]


def _tones(wave: Floats) -> list[float]:
    """Look for tones: flatness of the spectrum, its highest peak over its surroundings, and the strength of a pitch."""
    out: list[float] = []
    for start, size, window in _tone_windows():
        spectrum = np.fft.rfft(wave[start : start + size] * window)
        power = spectrum.real**2 + spectrum.imag**2
        low, high = (round(edge * size / RATE_HZ) for edge in (200.0, 5_000.0))
        inside = power[low:high] + 1e-12 * float(power.max()) + 1e-30
        logs = np.log(inside)
        # Against its own neighbourhood of an eighth of the band, so that colour is not taken for a tone.
        wide = max(3, inside.size // 8)
        total = np.concatenate(([0.0], np.cumsum(logs)))
        here = np.arange(inside.size)
        left, right = np.maximum(here - wide // 2, 0), np.minimum(here + wide // 2 + 1, inside.size)
        white = logs - (total[right] - total[left]) / (right - left)
        flatness = float(np.mean(white) - np.log(np.mean(np.exp(white))))
        power[low:high] = np.exp(np.minimum(white, 6.0))
        power[:low] = power[high:] = 0.0
        pitch = np.fft.irfft(power, size)
        shortest, longest = RATE_HZ // 1_000, RATE_HZ // 80
        strength = float(pitch[shortest : min(longest, size // 2)].max() / max(float(pitch[0]), 1e-30))
        out += [flatness, float(white.max()), strength]
    return out


def _line(count: int) -> Floats:
    """Prepare to fit a straight line: what levels are multiplied by and summed to give its slope."""
    x = np.arange(count) - (count - 1) / 2
    return np.asarray(x / (x**2).sum())


# For the first 100 ms and the following 300 ms of a level each 5 ms.
EARLY_LINE, LATE_LINE = _line(20), _line(60)


def _shape_of(wave: Floats) -> list[float]:
    """Describe the waveform: crest, kurtosis, rise, decay, roughness, and what is repeated."""
    blast, late = wave[ONSET : ONSET + 1_200], wave[ONSET + 1_800 : ONSET + 4_200]
    size = np.abs(blast)
    early_squares, late_squares = blast * blast, late * late
    power = float(early_squares.sum()) / early_squares.size + 1e-30
    late_power = float(late_squares.sum()) / late_squares.size + 1e-30
    peak_at = int(np.argmax(size[:600]))
    peak = float(size[peak_at]) + 1e-15
    fine = (wave * wave).reshape(-1, 12).sum(axis=1) + 1e-30  # each millisecond, 75 before the onset
    top = float(fine[75:525].max())
    level = _decibel(fine / top)
    coarse = _decibel(fine[75:525].reshape(90, 5).mean(axis=1) / top)
    slopes = [float(EARLY_LINE @ coarse[:20]) * 2, float(LATE_LINE @ coarse[20:80]) * 2]  # dB each 10 ms
    return [
        20 * float(np.log10(peak / np.sqrt(power))),
        float(np.log(early_squares @ early_squares / early_squares.size / power**2 + 1e-30)),
        float(np.log((late_squares @ late_squares + 1e-60) / late_squares.size / late_power**2)),
        float(np.argmax(size >= 0.5 * peak)) / 12,
        float(np.log1p(np.argmax(size >= 0.9 * peak) / 12)),
        float(np.log1p(peak_at / 12)),
        float(np.count_nonzero(level[75:525] > -10.0)) / 100,
        _crossings(blast),
        _crossings(late),
        *slopes,
        slopes[0] - slopes[1],
        *_roughness(coarse, level),
        *_repetition(level),
        float(level[30:70].max()),
        float(np.std(level[30:70])),
    ]


def _crossings(wave: Floats) -> float:
    """Say how often a wave changes its sign, in changes a sample."""
    below = np.signbit(wave)
    return int(np.count_nonzero(below[1:] != below[:-1])) / (wave.size - 1)


def _roughness(coarse: Floats, level: Floats) -> list[float]:
    """Say how unevenly the level falls, in steps of 5 ms and of 1 ms, and how much it varies in all."""
    steps = np.diff(coarse)
    fine = np.diff(level[80:280])
    return [float(np.abs(steps[2:60]).mean()), float(np.abs(fine).mean()), float(np.std(coarse[:80]))]


def _repetition(level: Floats) -> list[float]:
    """Find what comes again after the attack: the highest later peak, how many, and the strongest period."""
    attack = float(level[75:105].max())
    later = level[115:525]
    smooth = np.convolve(level[75:525], np.full(5, 0.2), "same")
    rising = smooth[5:-5] - np.minimum(smooth[:-10], smooth[10:])
    peaks = np.count_nonzero((rising[25:] > 6.0) & (smooth[30:-5] > -25.0)) / 10
    swing = smooth - smooth.mean()
    spectrum = np.fft.rfft(swing, 900)
    likeness = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 900)[25:225]
    own = max(float(swing @ swing), 1e-12)
    # A level that only falls is like itself at short lags: what counts is where likeness rises again.
    lowest = np.minimum.accumulate(likeness)
    again = int(np.argmax(likeness - lowest))
    return [
        float(later.max()) - attack,
        float(np.argmax(later)) / 100,
        float(peaks),
        float(likeness[again] - lowest[again]) / own,
        (25 + again) / 100,
    ]


def _flat_tops(onset: Onset) -> list[float]:
    """Say which share is at the limit, the clip's own and full scale, and which sign the strongest sample has."""
    whole, rate_hz = int(onset.snippet_onset), onset.sample_rate_hz
    wave = np.abs(np.asarray(onset.snippet[whole : whole + int(0.25 * rate_hz)], np.float64))
    near = np.asarray(onset.snippet[whole : whole + int(0.01 * rate_hz)], np.float64)
    if not near.size:
        return [0.0] * 4
    limit = 0.97 * float(wave.max()) + 1e-12
    strongest = near[int(np.argmax(np.abs(near)))]
    shares = [float(np.mean(np.abs(near) >= limit)), float(np.mean(wave >= limit))]
    logs = [float(np.log(share + 1e-4)) for share in shares]
    return [*logs, float(np.mean(np.abs(near) >= CLIP_LEVEL)), float(np.sign(strongest))]
