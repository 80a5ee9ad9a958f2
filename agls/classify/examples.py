"""Examples to learn from: what is heard in recordings, in other guises of them, and in sounds that are made.

Each recording is heard as it is and then as if made elsewhere with another recorder (`agls.classify.channel`), faster
or slower; each made sound (`agls.classify.synthesis`) in a place and with a recorder of its own. All of it passes the
very detector that a node runs, so that onsets lie where they will. Chance is drawn anew for each recording and each
made sound from the seed and its number: leaving one out changes no other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agls.classify import channel
from agls.classify.features import features
from agls.classify.recordings import LABELS, Hear, Recording
from agls.classify.synthesis import LENGTH_S, MAKERS, draw
from agls.messages import Label, Onset

Floats = NDArray[np.float64]
Tell = Callable[[str, int, int], None]

CLASSES: tuple[Label, ...] = LABELS
MADE = "made"
FOLDS = 4
PER_FILE_COUNT, PER_VARIANT_COUNT, PER_SCENE_COUNT = 12, 6, 4
VARIANTS_COUNT, GUN_VARIANTS_COUNT = 3, 12
VARIANT_S = 1.5
# What of a recording of shots is played elsewhere: from so long before the first to so long after the last.
AROUND_SHOTS_S = (1.5, 0.7)
VARIANT_HZ = 30_000.0  # what is faster is halved first, which no model hears
# How a made scene begins: mostly with a lead of background, now and then in the middle of the bang.
SCENE_S, LEADS_S, CUT_SHARE, BEGINS_AT_ONCE = 1.2, (0.08, 0.35), 0.25, 0.12
MADE_MATCH_S = 0.012
SHOT_SHARE = 0.35
# What is hard to tell from a shot, or varies much, is made more often; the rest counts 1.
OFTEN = {
    "firework": 4.0, "firecrackers": 2.0, "salute": 1.5, "bark": 1.5, "voice": 2.0, "drum": 2.0, "note": 1.5,
    "jackhammer": 2.5, "engine": 2.0, "steps": 1.5,
}  # fmt: skip
# How often the recorder stood near: little air, few echoes, far above the noise. Nobody stands beside a shell.
NEAR_SHARE, NEAR_SHARES = 0.5, {"firework": 0.08, "salute": 0.15, "firecrackers": 0.3, "thunder": 0.1, "backfire": 0.3}
NEAR_AIR, NEAR_WET_DB, NEAR_QUIET_DB = 0.1, (-18.0, 0.0), (25.0, 95.0)
# Between the rounds of a display the last ones still rumble and the crowd is heard.
QUIET_DB, DISPLAY_QUIET_DB = (8.0, 50.0), (6.0, 36.0)
BED_KINDS = {"Rain", "Sea waves", "Helicopter", "Chainsaw", "live fire"}
BED_S = 1.5


@dataclass(frozen=True)
class Table:
    """Examples as numbers.

    Attributes
    ----------
    rows : numpy.ndarray, shape (examples, feature_count), float32
        Features.
    labels : numpy.ndarray, shape (examples,)
        Index in `CLASSES`.
    collections : numpy.ndarray, shape (examples,)
        Where each is from.
    groups : numpy.ndarray, shape (examples,)
        What is held out as one.
    original : numpy.ndarray, shape (examples,), bool
        False for variants.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    collections: NDArray[np.str_]
    groups: NDArray[np.str_]
    original: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> "Table":
        """Keep the examples of a mask.

        Parameters
        ----------
        mask : numpy.ndarray, shape (examples,), bool
            True for those to keep.

        Returns
        -------
        Table
            The kept examples, in order.
        """
        return Table(self.rows[mask], self.labels[mask], self.collections[mask], self.groups[mask], self.original[mask])

    @property
    def folds(self) -> NDArray[np.int64]:
        """Deal each collection's groups into folds.

        Returns
        -------
        numpy.ndarray, shape (examples,)
            0 to `FOLDS` - 1.
        """
        groups = sorted(set(self.groups.tolist()))
        place = {name: [other for other in groups if _same_collection(name, other)].index(name) for name in groups}
        return np.array([place[name] % FOLDS for name in self.groups.tolist()], np.int64)


def _same_collection(one: str, other: str) -> bool:
    return one.partition("/")[0] == other.partition("/")[0]


@dataclass(frozen=True, slots=True)
class _Example:
    row: Floats
    label: Label
    collection: str
    group: str
    original: bool


def tabulate(
    recordings: Sequence[Recording], hear: Hear, *, made_count: int, seed: int, tell: Tell = lambda *_: None
) -> Table:
    """Hear recordings and made sounds, and describe what was heard.

    Parameters
    ----------
    recordings : sequence of Recording
        Labelled recordings.
    hear : callable
        Gives the onsets of samples.
    made_count : int
        How many sounds to make.
    seed : int
        The same gives the same.
    tell : callable, optional
        Is told what is done: its name, how far, of how many.

    Returns
    -------
    Table
        Originals, variants and made examples.
    """
    beds = beds_of(recordings)
    found: list[_Example] = []
    for number, recording in enumerate(recordings):
        tell("recordings", number, len(recordings))
        found += _of_recording(recording, hear, beds, np.random.default_rng([seed, 0, number]))
    for number in range(made_count):
        tell("made sounds", number, made_count)
        found += _of_scene(number, hear, beds, np.random.default_rng([seed, 1, number]))
    rows = np.array([one.row for one in found], np.float32)
    labels = np.array([CLASSES.index(one.label) for one in found], np.int64)
    names = ([getattr(one, name) for one in found] for name in ("collection", "group", "original"))
    return Table(rows, labels, *(np.array(column) for column in names))


def beds_of(recordings: Iterable[Recording]) -> list[channel.Bed]:
    """Gather noise that lasts: rain, sea, motors, and streets before a shot.

    Parameters
    ----------
    recordings : iterable of Recording
        Where it may be found.

    Returns
    -------
    list of agls.classify.channel.Bed
        One of each recording taken; every fourth is.
    """
    fitting = [one for one in recordings if one.kind in BED_KINDS][::4]
    sounds = [(*one.read(), one.shots_s) for one in fitting]
    long_enough = [
        channel.Bed(wave[: round((BED_S if shots_s else 60.0) * rate_hz)].astype(np.float64), rate_hz)
        for wave, rate_hz, shots_s in sounds
        if not shots_s or min(shots_s) > BED_S + 0.1
    ]
    return [bed for bed in long_enough if bed.wave.size > bed.rate_hz]


def _of_recording(
    recording: Recording, hear: Hear, beds: Sequence[channel.Bed], rng: np.random.Generator
) -> Iterator[_Example]:
    """Describe a recording's impulses, and those of its variants."""
    wave, rate_hz = recording.read()
    about = recording.collection, recording.group
    for onset, label in _some(list(recording.named(hear(wave, rate_hz))), PER_FILE_COUNT):
        yield _Example(features(onset), label, *about, original=True)
    gun = recording.label == "gunshot"
    for _ in range(GUN_VARIANTS_COUNT if gun else VARIANTS_COUNT):
        start, stop = _span(recording, wave.size, rate_hz, rng)
        other, other_hz = _elsewhere(wave[start:stop].astype(np.float64), rate_hz, beds, rng)
        heard = hear(other.astype(np.float32), other_hz)
        # Played at another rate than it was taken at, it lasts longer or shorter.
        named = list(recording.named(heard, start / rate_hz, other.size / other_hz / ((stop - start) / rate_hz)))
        for onset, label in _some(named, PER_FILE_COUNT if gun or recording.shots_s else PER_VARIANT_COUNT):
            yield _Example(features(onset), label, *about, original=False)


def _some(named: list[tuple[Onset, Label]], count: int) -> list[tuple[Onset, Label]]:
    """Take impulses evenly over a recording, so that a busy one does not outweigh the rest."""
    return named[:: max(1, -(-len(named) // count))]


def _span(recording: Recording, frames: int, rate_hz: float, rng: np.random.Generator) -> tuple[int, int]:
    """Choose what of a recording is played elsewhere: what is around its shots, all of a gun's, else a piece."""
    if recording.shots_s:
        first_s, last_s = min(recording.shots_s) - AROUND_SHOTS_S[0], max(recording.shots_s) + AROUND_SHOTS_S[1]
        return max(0, round(first_s * rate_hz)), min(frames, round(last_s * rate_hz))
    length = min(frames, round(VARIANT_S * rate_hz))
    start = 0 if recording.label == "gunshot" else int(rng.integers(0, frames - length + 1))
    return start, start + length


def _elsewhere(
    wave: Floats, rate_hz: float, beds: Sequence[channel.Bed], rng: np.random.Generator
) -> tuple[Floats, float]:
    """Play a recording faster or slower, perhaps in another place, to another recorder."""
    if rate_hz > VARIANT_HZ:
        half = wave.size // 4 * 2
        wave, rate_hz = np.fft.irfft(np.fft.rfft(wave, 2 * half)[: half // 2 + 1], half) / 2, rate_hz / 2
    played_hz = rate_hz * float(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
    if rng.random() < 0.6:
        wave = channel.through_air(wave, played_hz, rng, 0.5)
    return channel.recorded(wave, played_hz, rng, beds, (12.0, 80.0)), played_hz


def _of_scene(number: int, hear: Hear, beds: Sequence[channel.Bed], rng: np.random.Generator) -> Iterator[_Example]:
    """Make a sound, record it and describe what was heard."""
    kind = drawn_kind(rng)
    wave, rate_hz, begins_s = scene(kind, beds, rng)
    heard = list(hear(wave.astype(np.float32), rate_hz))
    if begins_s:
        near = np.array(begins_s)
        heard = [onset for onset in heard if np.abs(near - onset.index / rate_hz).min() < MADE_MATCH_S]
    # Any of them: what comes later follows what went before.
    for at in sorted(rng.permutation(len(heard))[:PER_SCENE_COUNT].tolist()):
        onset = heard[at]
        yield _Example(features(onset), MAKERS[kind][0], MADE, f"{MADE}/{number % FOLDS}", original=False)


def drawn_kind(rng: np.random.Generator) -> str:
    """Draw what to make: a shot for a third, else something that is none.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    str
        A name in `agls.classify.synthesis.MAKERS`.
    """
    if rng.random() < SHOT_SHARE:
        return "shot"
    others = [kind for kind in MAKERS if kind != "shot"]
    shares = np.array([OFTEN.get(kind, 1.0) for kind in others])
    return others[int(rng.choice(len(others), p=shares / shares.sum()))]


def scene(kind: str, beds: Sequence[channel.Bed], rng: np.random.Generator) -> tuple[Floats, float, tuple[float, ...]]:
    """Make a sound somewhere and record it.

    Parameters
    ----------
    kind : str
        What.
    beds : sequence of agls.classify.channel.Bed
        Noise that may be behind it.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    wave : numpy.ndarray, shape (frames,), float64
        The recording.
    rate_hz : float
        Its sampling rate.
    begins_s : tuple of float
        When its impulses begin; empty where every impulse counts.
    """
    rate_hz = float(rng.choice(channel.RATES_HZ))
    dry = draw(rng, rate_hz, kind)
    lead = 0 if rng.random() < BEGINS_AT_ONCE else round(rng.uniform(*LEADS_S) * rate_hz)
    wave = np.zeros(round(SCENE_S * rate_hz))
    wave[lead : lead + round(LENGTH_S * rate_hz)] = dry.wave
    if rng.random() < NEAR_SHARES.get(kind, NEAR_SHARE):
        wave = channel.through_air(wave, rate_hz, rng, NEAR_AIR * dry.far, rng.uniform(*NEAR_WET_DB))
        quiet_db = NEAR_QUIET_DB
    else:
        wave = channel.through_air(wave, rate_hz, rng, dry.far)
        quiet_db = DISPLAY_QUIET_DB if kind == "firework" else QUIET_DB
    wave = channel.recorded(wave, rate_hz, rng, beds, quiet_db)
    if rng.random() < CUT_SHARE:
        wave = wave[: lead + round(rng.uniform(0.06, 1.0) * rate_hz)]
    return wave, rate_hz, tuple(begin_s + lead / rate_hz for begin_s in dry.begins_s)
