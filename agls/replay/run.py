"""Replay a dataset: read it, hear it, locate what was heard, write the results, and only then score them.

The stages are those that run live: a `pipeline.Node` for each audio file, one `pipeline.Hub` for each recording. The
hub receives each detection at the moment of its arrival, in order, so that replaying a dataset gives the same bytes.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from agls.classify.model import load_model
from agls.errors import InputError
from agls.messages import NS_PER_S, Detection, Outbound, Rejection, Shot, encode
from agls.pipeline import Hub
from agls.replay.compare import Changes, Row, compare, read_shots
from agls.replay.dataset import Choice, Dataset, Recording
from agls.replay.listen import listen
from agls.replay.read import read_dataset
from agls.sinks import OutFolder

# Below any sound speed outdoors, so that no arrival is still under way when time has passed on.
_SLOWEST_M_S = 250.0
_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Located:
    """What the hub made of one recording.

    Attributes
    ----------
    recording : Recording
        The recording.
    detections_count : int
        Detections it was given.
    shots : tuple of Shot
        The last revision of each shot that was not withdrawn, in order of origin time.
    rejections : collections.Counter
        How often which "no" was said.
    """

    recording: Recording
    detections_count: int
    shots: tuple[Shot, ...]
    rejections: Counter[str]


@dataclass(slots=True)
class ReplaySummary:
    """What a replay did; its text is what the command prints.

    Attributes
    ----------
    source : str
        What the recordings were read from.
    recordings_count, detections_count, shots_count : int
        Recordings done, detections heard, shots located.
    refused : list of str
        A sentence for each thing that could not be used.
    notes : list of str
        What a reader of the results should know.
    score : dict or None
        What ``score.json`` holds; None where the dataset has no truth.
    changes : Changes or None
        What an earlier replay had otherwise; None if none was named.
    """

    source: str
    recordings_count: int = 0
    detections_count: int = 0
    shots_count: int = 0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    score: dict[str, object] | None = None
    changes: Changes | None = None

    def __str__(self) -> str:
        """Tell the outcome in a few lines.

        Returns
        -------
        str
            Counts, the score where there is one, the changes where they were asked for.
        """
        from agls.replay.report import score_lines

        outcome = f"{self.detections_count} detections, {self.shots_count} shots; {len(self.refused)} refused"
        lines = [f"Replayed {self.recordings_count} recordings from {self.source}: {outcome}."]
        lines += self.notes
        lines += score_lines(self.score) if self.score else []
        lines += self.changes.lines() if self.changes else []
        return "\n".join(lines)


def replay(
    dataset: Path,
    out: Path,
    *,
    source: Choice | None = None,
    realtime: bool = False,
    against: Path | None = None,
) -> ReplaySummary:
    """Run a recorded dataset through the pipeline that runs live.

    Parameters
    ----------
    dataset : pathlib.Path
        The dataset's folder.
    out : pathlib.Path
        Folder for ``detections.jsonl``, ``shots.csv``, ``incidents.geojson``, ``report.html`` and, where the dataset
        holds the truth, ``score.json``.
    source : str, optional
        ``audio`` or ``detections``; if not given, audio where a recording has audio, else detections.
    realtime : bool
        Whether detections reach the hub as fast as they once arrived, not as fast as possible.
    against : pathlib.Path, optional
        What an earlier replay wrote, to list shots gained, lost and moved.

    Returns
    -------
    ReplaySummary
        What was done, and a sentence for each recording that was refused.

    Raises
    ------
    InputError
        If nothing of the dataset can be used, or `out` or `against` cannot.
    """
    old = read_shots(against) if against is not None else None
    recorded = read_dataset(dataset, source)
    refused = list(recorded.refused)
    sink = OutFolder(out)
    located = _locate_all(recorded, sink, out, refused, realtime)
    sink.close()
    return _conclude(recorded, located, refused, out, old)


def replay_journal(journal: Path, out: Path) -> None:
    """Replay what a hub once heard, from its journal: the same outputs again, byte for byte.

    Parameters
    ----------
    journal : pathlib.Path
        A JSONL file that a hub wrote.
    out : pathlib.Path
        Folder for the outputs.

    Raises
    ------
    InputError
        If it is no journal.
    """
    from agls.hub import replay_into
    from agls.journal import read_journal

    # Its header first: a wrong file must not cost what an earlier replay left in the folder.
    next(read_journal(journal))
    replay_into(journal, OutFolder(out))


def _locate_all(recorded: Dataset, sink: OutFolder, out: Path, refused: list[str], realtime: bool) -> list[Located]:
    """Hear and locate one recording after the other; nothing here has seen the truth."""
    model = load_model()
    located = []
    with _whole_file(out / "detections.jsonl") as lines:
        for recording in _progress(recorded.recordings):
            found = []
            try:
                detections = listen(recording, model)
                for item in run_hub(recording, detections, realtime=realtime):
                    sink.write(item, recording.name)
                    found.append(item)
                    if realtime:
                        sink.flush()
            except InputError as error:
                refused.append(f"recording {recording.name}: {error}")
                continue
            lines.writelines(_line(recording.name, detection) for detection in detections)
            located.append(_gather(recording, detections, found))
    return located


def run_hub(recording: Recording, detections: Sequence[Detection], *, realtime: bool = False) -> Iterator[Outbound]:
    """Give a recording's detections to a hub of its own.

    Parameters
    ----------
    recording : Recording
        With the site.
    detections : sequence of Detection
        In order of time of arrival.
    realtime : bool
        Whether to wait between them as long as they once did.

    Yields
    ------
    Outbound
        What the hub says, in order.
    """
    hub = Hub(recording.site)
    if not detections:
        return
    clock = _Pace(detections[0].toa_ns) if realtime else None
    for detection in detections:
        for now_ns in clock.ticks(detection.toa_ns) if clock else ():
            yield from hub.advance(now_ns)
        yield from hub.feed(detection, detection.toa_ns)
    locating = recording.site.locating
    wait_s = locating.max_range_m / _SLOWEST_M_S + locating.settle_s + 2 * recording.site.gathering.gap_s
    yield from hub.advance(detections[-1].toa_ns + round(wait_s * NS_PER_S))


class _Pace:
    """Recorded time that runs as fast as the wall clock."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._ahead_ns = time.monotonic_ns() - start_ns

    def ticks(self, until_ns: int) -> Iterator[int]:
        """Wait until a moment comes, telling the time on the way."""
        while self._now_ns < until_ns:
            self._now_ns = min(self._now_ns + round(_TICK_S * NS_PER_S), until_ns)
            time.sleep(max(0.0, (self._now_ns + self._ahead_ns - time.monotonic_ns()) / NS_PER_S))
            yield self._now_ns


def _gather(recording: Recording, detections: Sequence[Detection], found: Iterable[Outbound]) -> Located:
    """Keep the last revision of each shot, and count what was refused."""
    shots: dict[str, Shot] = {}
    rejections: Counter[str] = Counter()
    for item in found:
        if isinstance(item, Shot) and item.revision >= shots.get(item.shot_id, item).revision:
            shots[item.shot_id] = item
        elif isinstance(item, Rejection):
            rejections[f"{item.stage}.{item.reason}"] += 1
    kept = [shot for shot in shots.values() if shot.state == "located"]
    kept.sort(key=lambda shot: (shot.origin_ns, shot.shot_id))
    return Located(recording, len(detections), tuple(kept), rejections)


# ---------------------------------------------------------------------------------- after everything is located


def _conclude(
    recorded: Dataset, located: Sequence[Located], refused: list[str], out: Path, old: list[Row] | None
) -> ReplaySummary:
    """Open the truth, score, compare and report."""
    from agls.replay.report import render
    from agls.replay.score import score_recording, summarise
    from agls.replay.truth import TrueShot, read_truth

    truth, faults = read_truth(recorded.path, recorded.kind)
    refused += faults
    # A truth that lists no shot at all says that nothing was fired: whatever is called gunfire is a false alarm.
    silent = recorded.kind == "agls" and not (truth or faults) and (recorded.path / "truth.csv").exists()
    by_recording: dict[str, list[TrueShot]] = {item.recording.name: [] for item in located} if silent else {}
    for shot in truth:
        by_recording.setdefault(shot.recording, []).append(shot)
    scores = {
        item.recording.name: score_recording(item.recording.name, by_recording[item.recording.name], item.shots)
        for item in located
        if item.recording.name in by_recording
    }
    summary = ReplaySummary(_source_told(located), len(located), refused=refused, notes=list(recorded.notes))
    summary.detections_count = sum(item.detections_count for item in located)
    summary.shots_count = sum(len(item.shots) for item in located)
    summary.score = summarise(list(scores.values())) if scores else None
    summary.changes = compare(old, read_shots(out)) if old is not None else None
    if summary.score is not None:
        _put(out / "score.json", json.dumps(summary.score, indent=2, allow_nan=False) + "\n")
    else:
        (out / "score.json").unlink(missing_ok=True)
    _put(out / "report.html", render(recorded.path.resolve().name, located, scores, summary))
    return summary


def _source_told(located: Sequence[Located]) -> str:
    audio = sum(bool(item.recording.tracks) for item in located)
    if 0 < audio < len(located):
        return f"audio ({audio}) and detections ({len(located) - audio})"
    return "audio" if audio else "detections"


# --------------------------------------------------------------------------------------------------------- output


def _line(recording: str, detection: Detection) -> str:
    return f'{{"recording":{json.dumps(recording)},{encode(detection).decode()[1:]}\n'


@contextmanager
def _whole_file(path: Path) -> "Iterator[TextIO]":
    """Write a file under another name, and rename it once it is whole."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        yield file
    part.replace(path)


def _put(path: Path, text: str) -> None:
    with _whole_file(path) as file:
        file.write(text)


def _progress(recordings: Sequence[Recording]) -> Iterator[Recording]:
    """Go through recordings, with a bar on a terminal and nothing in a pipe."""
    shown = sys.stderr.isatty()
    for done, recording in enumerate(recordings):
        if shown:
            filled = 40 * done // len(recordings)
            print(f"\r[{'#' * filled:<40}] {done}/{len(recordings)} {recording.name:<24.24}", end="", file=sys.stderr)
        yield recording
    if shown:
        print(f"\r{'':<90}\r", end="", file=sys.stderr)
