"""Listen to a recording: a file in, its onsets out, in constant memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agls.config import OnsetDetection
from agls.messages import Block, Onset
from agls.sensor.capture import FileSource
from agls.sensor.onset import OnsetDetector

# A clip may begin in the middle of its bang. It is heard as if what is quietest in its beginning had gone before.
LEAD_S = 0.2
BEGINNING_S, QUIETEST_S = 1.0, 0.05
FILE_FRAMES = 1000  # samples in a block of `FileSource`


def onsets_of(path: Path, settings: OnsetDetection | None = None, full_scale_db_spl: float = 120.0) -> Iterator[Onset]:
    """Find the impulsive sounds of a recording.

    Parameters
    ----------
    path : pathlib.Path
        A WAV, FLAC or OGG file of any length and rate.
    settings : OnsetDetection or None
        When a sound counts; None for the defaults.
    full_scale_db_spl : float
        Sound pressure level that reaches full scale [dB].

    Yields
    ------
    Onset
        In order of time; `index` counts from the file's first sample.

    Raises
    ------
    InputError
        If the file cannot be read to its end.
    """
    with FileSource(path) as source:
        detector = OnsetDetector(settings or OnsetDetection(), full_scale_db_spl)
        for block in _with_lead(source.blocks(), source.sample_rate_hz):
            yield from detector.feed(block)
        yield from detector.finish()


def onsets_in(
    samples: NDArray[np.float32],
    rate_hz: float,
    settings: OnsetDetection | None = None,
    full_scale_db_spl: float = 120.0,
) -> list[Onset]:
    """Find the impulsive sounds of samples at hand, as `onsets_of` does those of a file.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        One channel, full scale 1.
    rate_hz : float
        Sampling rate.
    settings : OnsetDetection or None
        When a sound counts; None for the defaults.
    full_scale_db_spl : float
        Sound pressure level that reaches full scale [dB].

    Returns
    -------
    list of Onset
        In order of time; `index` counts from the first sample.
    """
    detector = OnsetDetector(settings or OnsetDetection(), full_scale_db_spl)
    wave = np.asarray(samples, np.float32)
    # The beginning by itself, as long as a file's blocks would make it.
    edge = -(-round(BEGINNING_S * rate_hz) // FILE_FRAMES) * FILE_FRAMES
    parts = [(at, part) for at, part in ((0, wave[:edge]), (edge, wave[edge:])) if part.size]
    blocks = _with_lead(
        iter([Block(samples=part, first_index=at, sample_rate_hz=rate_hz) for at, part in parts]), rate_hz
    )
    return [onset for block in blocks for onset in detector.feed(block)] + detector.finish()


def _with_lead(blocks: Iterator[Block], rate_hz: float) -> Iterator[Block]:
    """Hand over blocks after a lead of noise like the quietest part of their beginning, at negative indices."""
    beginning: list[Block] = []
    frames = 0
    for block in blocks:
        beginning.append(block)
        frames += block.samples.size
        if frames >= BEGINNING_S * rate_hz:
            break
    if beginning:
        lead = lead_in(np.concatenate([block.samples for block in beginning]), rate_hz)
        yield Block(samples=lead, first_index=-lead.size, sample_rate_hz=rate_hz)
    yield from beginning
    yield from blocks


def lead_in(beginning: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Make noise of the level and colour of the quietest stretch of a recording's beginning.

    Parameters
    ----------
    beginning : numpy.ndarray, shape (frames,), float32
        The first second, or less.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    numpy.ndarray, shape (lead_frames,), float32
        A fifth of a second; the same for the same beginning.
    """
    span = max(2, min(beginning.size, round(QUIETEST_S * rate_hz)))
    pieces = np.resize(beginning, (max(1, beginning.size // span), span)).astype(np.float64)
    pieces -= pieces.mean(axis=1, keepdims=True)
    quietest = pieces[np.argmin((np.diff(pieces, axis=1) ** 2).sum(axis=1))]
    frames = round(LEAD_S * rate_hz)
    # Random phases keep the spectrum and lose the sound itself.
    size = np.abs(np.fft.rfft(quietest * np.hanning(span)))
    grid = np.interp(np.linspace(0, 1, frames // 2 + 1), np.linspace(0, 1, size.size), size)
    turn = np.exp(2j * np.pi * np.random.default_rng(0).random(grid.size))
    noise = np.fft.irfft(grid * turn, frames)
    loudness = np.sqrt(np.mean(quietest**2) / max(float(np.mean(noise**2)), 1e-30))
    return np.asarray(np.median(beginning) + noise * loudness, np.float32)
