"""Onsets: when impulsive sounds arrive in a stream, to a fraction of a sample, and how well that is known.

All on the same band-passed signal y (causal, so that nothing rings before its cause):

1. *Rise.* In frames of half a millisecond, the energy of the next 2 ms over that of the 20 ms before. A steady noise,
   however loud, does not rise; an echo or the next round of automatic fire does, over the tail of the one before.
2. *Pick.* Where around the steepest rise the sound first left the noise (`agls.sensor.pick`).
3. *Wave.* What its front looks like (`agls.sensor.wave`).

The stream is worked in chunks that start at fixed indices whatever blocks it arrives in, so that the same audio gives
the same onsets, bit for bit.
"""

from collections import Counter, deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agls.config import OnsetDetection
from agls.messages import Block, Onset, Wave
from agls.sensor.pick import QUIETEST, SILENCE, Pick, pick
from agls.sensor.wave import BEFORE_S, draw_fronts, judge_wave

Samples = NDArray[np.float32]

FRAME_S = 0.0005
CHUNK_FRAMES = 100
BAND_HZ = (300.0, 5000.0)
FILTER_S = 0.012

RISE_AFTER_S, RISE_BEFORE_S = 0.002, 0.020
MIN_RISE_DB = 6.0
NOISE_BEFORE_S = 0.030
# 1,200 rounds a minute are 50 ms apart; within the gap only a sound much stronger than the last counts as another, for
# a street scatters each for some tens of milliseconds. But an echo hides no round: where the last was weaker than one
# that went before, what is about as loud as that one counts.
MIN_GAP_S, ECHO_S = 0.040, 0.1
LOUDER_DB, LIKE_DB = 10.0, -3.0
SEARCH_BEFORE_S, SEARCH_AFTER_S = 0.004, 0.004
PEAK_AFTER_S = 0.005
LOOK_AHEAD_S = SEARCH_AFTER_S + RISE_AFTER_S + PEAK_AFTER_S + 2 * FRAME_S
# Before so much of a stream has been heard there is no noise to compare with: the filter still fills, then 30 ms.
DEAF_S = FILTER_S + NOISE_BEFORE_S + SEARCH_BEFORE_S
SNIPPET_BEFORE_S, SNIPPET_AFTER_S = 0.050, 0.450
# A second-order Butterworth low-pass delays by sqrt(2) over its angular corner frequency.
LOW_PASS_DELAY_S = 2**0.5 / (2 * np.pi * BAND_HZ[1])
# An 8-bit recording's full scale is 127/128.
CLIP_LEVEL = 0.985
# Half of what a cut front shows is less than half of the front. Where air dulled it over 80 to 500 m and 3 to 20 dB of
# it are cut off, that is so much too early (bench/picks.py).
CUT_EARLY_S, CUT_SIGMA_S = 4.5e-5, 3e-5
# A sound out of digital silence that has not faded to this share of its amplitude is a stream that starts.
FADED_SHARE = 0.3


def band_filter(rate_hz: float) -> NDArray[np.float64]:
    """Design the causal band-pass as a finite impulse response.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.

    Returns
    -------
    numpy.ndarray, shape (taps,)
        Second-order Butterworth high-pass and, where the rate leaves room, low-pass, cut where they have died away.
    """
    taps = round(FILTER_S * rate_hz)
    grid = np.exp(1j * np.linspace(0, np.pi, 4 * taps + 1))
    response = _butterworth(grid, BAND_HZ[0], rate_hz, high=True)
    if _has_low_pass(rate_hz):
        response = response * _butterworth(grid, BAND_HZ[1], rate_hz, high=False)
    impulse = np.fft.irfft(response)[:taps]
    fade = taps // 4
    impulse[-fade:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / (fade + 1))
    return np.asarray(impulse - impulse.mean(), dtype=np.float64)


def _butterworth(z: NDArray[np.complex128], corner_hz: float, rate_hz: float, *, high: bool) -> NDArray[np.complex128]:
    """Evaluate a second-order Butterworth filter (bilinear transform) on the unit circle."""
    warp = np.tan(np.pi * corner_hz / rate_hz)
    s = (1 - 1 / z) / (1 + 1 / z + 1e-300) / warp
    s = np.where(np.abs(z + 1) < 1e-9, 1e12, s)
    numerator = s**2 if high else np.ones_like(s)
    return np.asarray(numerator / (s**2 + np.sqrt(2) * s + 1), dtype=np.complex128)


class OverlapSave:
    """Filter a stream in chunks of one size, by Fourier transform.

    Parameters
    ----------
    impulse : numpy.ndarray, shape (taps,)
        The filter.
    chunk : int
        Samples per chunk, at least `taps`.
    """

    def __init__(self, impulse: NDArray[np.float64], chunk: int) -> None:
        self._taps = impulse.size
        self._length = _smooth_length(chunk + self._taps - 1)
        self._response = np.fft.rfft(impulse, self._length).astype(np.complex64)
        self._history: Samples | None = None

    def __call__(self, chunk: Samples) -> Samples:
        """Filter the next chunk.

        Parameters
        ----------
        chunk : numpy.ndarray, shape (chunk,), float32
            The samples that follow.

        Returns
        -------
        numpy.ndarray, shape (chunk,), float32
            The filtered samples; before the first, the stream is taken to have stood still.
        """
        if self._history is None:
            self._history = np.full(self._taps - 1, chunk[0], np.float32)
        work: Samples = np.concatenate((self._history, chunk))
        self._history = work[-(self._taps - 1) :]
        filtered = np.fft.irfft(np.fft.rfft(work, self._length) * self._response, self._length)
        return filtered.astype(np.float32, copy=False)[self._taps - 1 : self._taps - 1 + chunk.size]


def _smooth_length(at_least: int) -> int:
    """Find the next length with no prime factor above 5, which transforms fast."""
    length = at_least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


class Tape:
    """Keep the last samples of a stream, found by their index in it.

    Parameters
    ----------
    keep : int
        Samples that stay within reach.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.end = 0
        self._store: Samples = np.zeros(4 * keep, np.float32)
        self._used = 0

    def append(self, samples: Samples) -> None:
        """Add the samples that follow.

        Parameters
        ----------
        samples : numpy.ndarray, shape (frames,), float32
            At most twice `keep`.
        """
        if self._used + samples.size > self._store.size:
            kept = min(self.keep, self._used)
            self._store[:kept] = self._store[self._used - kept : self._used].copy()
            self._used = kept
        self._store[self._used : self._used + samples.size] = samples
        self._used += samples.size
        self.end += samples.size

    def between(self, start: int, stop: int) -> Samples:
        """Give a stretch of the stream, as far as it is within reach.

        Parameters
        ----------
        start, stop : int
            Indices in the stream, the second one past the last.

        Returns
        -------
        numpy.ndarray, shape (frames,), float32
            A view that holds until the next `append`.
        """
        offset = self._used - self.end
        return self._store[max(0, start + offset) : max(0, stop + offset)]


def pick_near(band: Tape, rise: int, rate_hz: float) -> Pick:
    """Find the first arrival near a rise of energy.

    Parameters
    ----------
    band : Tape
        The band-passed signal.
    rise : int
        Sample index of the frame where the energy rises.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    Pick
        The arrival, less the filter's delay.
    """
    start = max(0, rise - round(SEARCH_BEFORE_S * rate_hz))
    near = band.between(start, rise + round(PEAK_AFTER_S * rate_hz)).astype(np.float64)
    before = band.between(max(0, start - round(NOISE_BEFORE_S * rate_hz)), start).astype(np.float64)
    found = pick(near, before, rate_hz)
    delay_s = LOW_PASS_DELAY_S if _has_low_pass(rate_hz) else 0.0
    return replace(found, index=start + found.index - delay_s * rate_hz)


def _has_low_pass(rate_hz: float) -> bool:
    """Whether the rate leaves room for the upper corner of the band."""
    return BAND_HZ[1] < 0.4 * rate_hz


class OnsetDetector:
    """Find impulsive sounds in a stream of blocks.

    Parameters
    ----------
    settings : OnsetDetection
        When a sound counts.
    full_scale_db_spl : float
        Sound pressure level that reaches full scale [dB].

    Attributes
    ----------
    counts : collections.Counter
        Sounds that were not reported, by reason: ``below_snr``, ``rate_limited``, ``from_nothing`` (a dead signal
        came to life), ``too_early`` (no noise was heard yet that they could rise above).
    """

    def __init__(self, settings: OnsetDetection, full_scale_db_spl: float) -> None:
        self._settings = settings
        self._full_scale_db_spl = full_scale_db_spl
        self._stream: _Stream | None = None
        self._expected = 0
        self.counts: Counter[str] = Counter()

    def feed(self, block: Block) -> list[Onset]:
        """Hear a block.

        Parameters
        ----------
        block : Block
            The samples that follow; after lost ones, another rate or a jump of the index a new stream begins.

        Returns
        -------
        list of Onset
            The onsets whose snippets are now complete, in order of time.
        """
        out: list[Onset] = []
        stream = self._stream
        jumped = block.lost or block.first_index != self._expected
        if stream is None or jumped or stream.rate_hz != block.sample_rate_hz:
            out = self.finish()
            stream = self._stream = _Stream(
                self._settings, self._full_scale_db_spl, block.sample_rate_hz, block.first_index, self.counts
            )
        self._expected = block.first_index + block.samples.size
        return out + stream.feed(block.samples)

    def early(self) -> list[Onset]:
        """Hand over what was found but still waits for its snippet, each once; `feed` hands it over again.

        Returns
        -------
        list of Onset
            In order of time, with the little of their snippets that was heard so far.
        """
        return self._stream.early() if self._stream is not None else []

    def finish(self) -> list[Onset]:
        """Decide what still waits for samples; a block fed afterwards begins a new stream.

        Returns
        -------
        list of Onset
            The last onsets, their snippets as long as the samples reach.
        """
        stream, self._stream = self._stream, None
        return stream.finish() if stream is not None else []


def _begins_from_nothing(onset: Onset) -> bool:
    """Whether a dead signal came to life, which is no arrival: constant before, and no decay after."""
    if not _is_from_nothing(onset):
        return False
    whole, span = int(onset.snippet_onset), round(0.05 * onset.sample_rate_hz)
    first, last = onset.snippet[whole : whole + span], onset.snippet[whole + span :][-4 * span :]
    return bool(last.size > span and np.std(last) > FADED_SHARE * np.std(first))


def _is_from_nothing(onset: Onset) -> bool:
    """Whether the signal was dead before: constant."""
    whole, span = int(onset.snippet_onset), round(0.05 * onset.sample_rate_hz)
    before = onset.snippet[max(0, whole - span) : max(0, whole - span // 10)]
    return bool(before.size and np.ptp(before) == 0)


class _Stream:
    """One unbroken run of samples at one rate."""

    def __init__(
        self, settings: OnsetDetection, full_scale_db_spl: float, rate_hz: float, first_index: int, counts: Counter[str]
    ) -> None:
        self.rate_hz = rate_hz
        self._settings = settings
        self._full_scale_db_spl = full_scale_db_spl
        self._first_index = first_index
        self._counts = counts
        self._frame = max(1, round(rate_hz * FRAME_S))
        self._chunk = self._frame * CHUNK_FRAMES
        taps = band_filter(rate_hz)
        self._filter = OverlapSave(taps, self._chunk)
        self._fronts = draw_fronts(rate_hz, taps.tobytes())
        reach = self._samples(SNIPPET_BEFORE_S + SNIPPET_AFTER_S + NOISE_BEFORE_S) + 2 * self._chunk
        self._raw, self._band = Tape(reach), Tape(reach)
        self._energy = Tape(2 * CHUNK_FRAMES)
        self._pending: list[Samples] = []
        self._pending_frames = 0
        self._examined = 0
        self._heard: deque[Pick] = deque()
        self._found: deque[Pick] = deque()
        self._emitted: deque[float] = deque()
        self._early_end = -np.inf  # index of the last that was handed over early

    def feed(self, samples: Samples) -> list[Onset]:
        """Take samples in; work off every chunk that is full."""
        self._pending.append(samples)
        self._pending_frames += samples.size
        if self._pending_frames < self._chunk:
            return []
        waiting = np.concatenate(self._pending)
        full = waiting.size - waiting.size % self._chunk
        self._pending = [waiting[full:]]
        self._pending_frames = waiting.size - full
        out: list[Onset] = []
        for start in range(0, full, self._chunk):
            self._take(waiting[start : start + self._chunk])
            out += self._emit(self._raw.end)
        return out

    def early(self) -> list[Onset]:
        """Hand over those found since the last call; none that may turn out to begin from nothing."""
        new = [found for found in self._found if found.index > self._early_end]
        if new:
            self._early_end = new[-1].index
        return [onset for onset in (self._onset(found, self._raw.end) for found in new) if not _is_from_nothing(onset)]

    def finish(self) -> list[Onset]:
        """Work off what is left, as if the last sample went on for a while."""
        rest = np.concatenate([np.zeros(0, np.float32), *self._pending])
        end = self._raw.end + rest.size
        if not end:
            return []
        hold = rest[-1] if rest.size else self._raw.between(end - 1, end)[0]
        padded = np.full(2 * self._chunk, hold, np.float32)
        padded[: rest.size] = rest
        for start in (0, self._chunk):
            self._take(padded[start : start + self._chunk], end)
        return self._emit(end, last=True)

    def _samples(self, duration_s: float) -> int:
        return max(1, round(duration_s * self.rate_hz))

    def _frames(self, duration_s: float) -> int:
        return max(1, round(duration_s * self.rate_hz / self._frame))

    def _take(self, chunk: Samples, end: int | None = None) -> None:
        """Filter a chunk and examine the frames whose surroundings are now known."""
        self._raw.append(chunk)
        band = self._filter(chunk)
        self._band.append(band)
        frames = band.reshape(CHUNK_FRAMES, self._frame)
        self._energy.append(np.einsum("ij,ij->i", frames, frames) / np.float32(self._frame))
        stop = self._energy.end - self._frames(LOOK_AHEAD_S)
        if end is not None:
            stop = min(stop, end // self._frame - self._frames(RISE_AFTER_S))
        self._examine(max(self._examined, self._frames(RISE_AFTER_S)), stop)

    def _examine(self, start: int, stop: int) -> None:
        """Look for rises that begin in frames start to stop."""
        if stop <= start:
            return
        after, before, search = (self._frames(s) for s in (RISE_AFTER_S, RISE_BEFORE_S, SEARCH_AFTER_S))
        first = max(0, start - before)
        energy = self._energy.between(first, stop + search + after).astype(np.float64) + QUIETEST**2
        total = np.concatenate(([0.0], np.cumsum(energy)))
        here = np.arange(start - first, min(stop + search - first, energy.size - after + 1))
        lead = np.maximum(here - before, 0)
        rise = (total[here + after] - total[here]) / after * (here - lead) / (total[here] - total[lead])
        steep = np.flatnonzero(rise[: stop - start] >= 10 ** (MIN_RISE_DB / 10))
        at = 0
        for place in steep:
            if place >= at:
                best = int(place) + int(np.argmax(rise[place : place + search]))
                self._consider((start + best) * self._frame)
                at = best + after
        self._examined = max(stop, start + at)

    def _consider(self, rise: int) -> None:
        """Pick the arrival at a rise, and keep it if it counts."""
        if rise < self._samples(DEAF_S):
            self._counts["too_early"] += 1
            return
        found = pick_near(self._band, rise, self.rate_hz)
        while self._heard and self._heard[0].index <= found.index - ECHO_S * self.rate_hz:
            self._heard.popleft()
        if self._heard and self._is_masked(found):
            return
        if found.snr_db < self._settings.min_snr_db:
            self._counts["below_snr"] += 1
            return
        self._heard.append(found)
        while self._emitted and self._emitted[0] <= found.index - self.rate_hz:
            self._emitted.popleft()
        if len(self._emitted) >= self._settings.max_rate_per_s:
            self._counts["rate_limited"] += 1
            return
        self._emitted.append(found.index)
        self._found.append(found)

    def _is_masked(self, found: Pick) -> bool:
        """Whether a sound is lost in what the last one left behind."""
        last = self._heard[-1]
        gap_s = (found.index - last.index) / self.rate_hz
        if not RISE_AFTER_S <= gap_s < MIN_GAP_S:
            return gap_s < RISE_AFTER_S
        like = max(one.peak for one in self._heard) * 10 ** (LIKE_DB / 20)
        louder = last.peak * 10 ** (LOUDER_DB / 20)
        return found.peak < (min(like, louder) if last.peak < like else louder)

    def _emit(self, end: int, *, last: bool = False) -> list[Onset]:
        """Hand over the onsets whose snippets are complete."""
        out: list[Onset] = []
        after = self._samples(SNIPPET_AFTER_S)
        while self._found and (last or int(self._found[0].index) + after <= end):
            onset = self._onset(self._found.popleft(), end)
            if _begins_from_nothing(onset):
                self._counts["from_nothing"] += 1
            else:
                out.append(onset)
        return out

    def _onset(self, found: Pick, end: int) -> Onset:
        whole = int(found.index)
        start = max(0, whole - self._samples(SNIPPET_BEFORE_S))
        snippet = self._raw.between(start, min(end, whole + self._samples(SNIPPET_AFTER_S))).copy()
        near = np.abs(self._raw.between(whole, min(end, whole + self._samples(PEAK_AFTER_S))))
        peak = float(near.max(initial=SILENCE))
        clipped = peak >= CLIP_LEVEL
        index = found.index + clipped * CUT_EARLY_S * self.rate_hz
        return Onset(
            index=self._first_index + index,
            sigma_s=float(np.hypot(found.sigma_s, clipped * CUT_SIGMA_S)),
            level_db=self._full_scale_db_spl + 20 * float(np.log10(max(peak, SILENCE))),
            snr_db=found.snr_db,
            clipped=clipped,
            wave=self._wave(found, end),
            snippet=snippet,
            snippet_onset=index - start,
            sample_rate_hz=self.rate_hz,
        )

    def _wave(self, found: Pick, end: int) -> Wave:
        start = round(found.index - BEFORE_S * self.rate_hz)
        front = self._band.between(start, min(end, start + self._fronts.blasts.shape[1]))
        return judge_wave(front.astype(np.float64), self._fronts)
