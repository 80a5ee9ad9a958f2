"""What a pole may know of people: as little as finding gunshots needs. Held by construction, and by tests.

- Sound lives in memory only, for less than `RING_S`, and is gone with the next sounds.
- No record that travels has room for sound (`agls.messages`); nothing here listens for connections, and the one thing
  that a node is ever told is an `Ack`. There is nothing to switch on from afar.
- Of one impulse at most a kibibyte leaves the node, of at most twenty a second.
- Only where the node's own file asks for it (``[clips]``), the sound of what was judged a gunshot is kept on the node:
  from `BEFORE_S` before its onset to `AFTER_S` after. What lay around it is not muted but never written. A filter would
  not do: speech through a 300 Hz high-pass is still understood.

``agls sensor privacy-report NODE.toml`` prints what left the node in the last 24 hours, and what it keeps.
"""

import argparse
import json
import os
import re
import time
import wave
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agls.config import Clips, NodeConfig, load_node
from agls.errors import InputError
from agls.messages import NS_PER_S, Detection, Onset, format_utc
from agls.sensor.store import read_left

RING_S = 10.0
BEFORE_S, AFTER_S = 0.020, 0.250
DAY_NS = 86_400 * NS_PER_S
# A clip's own name; nothing else in the folder is ever touched.
NAME = re.compile(r"agls-clip-(\d{19})-[A-Za-z0-9_.-]+\.wav")
MAX_CLIPS_COUNT = 1_000
HOUR_S = 3600.0
SAID_OF = {
    "detection": "when, how loud and how likely what one impulse was; at most 1 KiB each, 20 a second",
    "preliminary": "the same, told early",
    "heartbeat": "loudness, clock and machine, some times a minute",
    "status": "that the node is there or not, its version and model",
}


def clip(onset: Onset) -> NDArray[np.float32]:
    """Cut out what may be kept of an impulse.

    Parameters
    ----------
    onset : Onset
        The impulse.

    Returns
    -------
    numpy.ndarray, shape (frames,), float32
        From 20 ms before the onset to 250 ms after, as far as it was heard.
    """
    start = onset.snippet_onset - BEFORE_S * onset.sample_rate_hz
    stop = onset.snippet_onset + AFTER_S * onset.sample_rate_hz
    return onset.snippet[max(0, int(np.ceil(start))) : max(0, int(stop) + 1)]


class ClipKeeper:
    """Keep the sound of gunshots on the node for a while, where its owner asked for it.

    Parameters
    ----------
    settings : Clips
        Where, and for how long; without a folder nothing is kept.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(self, settings: Clips) -> None:
        self._folder = Path(settings.folder) if settings.folder else None
        self._keep_ns = round(settings.keep_h * HOUR_S * NS_PER_S)
        self.kept_count = self.failed_count = 0
        if self._folder:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"clips.folder {self._folder} cannot be made ({error.strerror}); name another, or none"
                ) from None

    def keep(self, onset: Onset, detection: Detection) -> None:
        """Keep what may be kept of an impulse, if it was judged a gunshot.

        Parameters
        ----------
        onset : Onset
            The impulse.
        detection : Detection
            What it was judged to be.
        """
        if not self._folder or detection.llr.get("gunshot", 0.0) <= 0 or detection.toa_ns < 0:
            return
        path = self._folder / f"agls-clip-{detection.toa_ns:019d}-{detection.sensor_id}.wav"
        try:
            _write_wave(path, clip(onset), round(onset.sample_rate_hz))
            self.kept_count += 1
        except OSError:
            self.failed_count += 1

    def purge(self, now_ns: int) -> None:
        """Delete clips that are old enough.

        Parameters
        ----------
        now_ns : int
            UTC.
        """
        found = sorted(clips_in(self._folder)) if self._folder else []
        for number, (at_ns, path) in enumerate(found):
            # One from the future was written before the clock was set back: its age is not known, so it goes.
            is_due = not -self._keep_ns <= now_ns - at_ns < self._keep_ns
            if is_due or number < len(found) - MAX_CLIPS_COUNT:
                path.unlink(missing_ok=True)


def clips_in(folder: Path) -> list[tuple[int, Path]]:
    """List the clips in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    Returns
    -------
    list of tuple
        Of each its time of arrival, UTC [ns], and its file.
    """
    found = [(NAME.fullmatch(path.name), path) for path in folder.glob("agls-clip-*.wav")]
    return [(int(match[1]), path) for match, path in found if match]


def _write_wave(path: Path, samples: NDArray[np.float32], rate_hz: int) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        private = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


# ------------------------------------------------------------------------------------------------------ the report


@dataclass(frozen=True, slots=True)
class Left:
    """What of one kind left the node.

    Attributes
    ----------
    kind : str
        Such as ``detection``.
    messages_count : int
        How many.
    size_bytes : int
        How much in all.
    """

    kind: str
    messages_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PrivacyReport:
    """What left a node, and what it keeps of what it heard.

    Attributes
    ----------
    sensor_id : str
        The node.
    since_ns, until_ns : int
        The time it is about, UTC [ns].
    left : tuple of Left
        What was sent.
    audio_bytes : int
        How much of that was sound: no message can hold any.
    clips_count : int
        Clips kept on the node.
    oldest_clip : str
        When the oldest was heard; empty where there is none.
    clips_folder : str
        Where; empty where none are kept.
    """

    sensor_id: str
    since_ns: int
    until_ns: int
    left: tuple[Left, ...]
    audio_bytes: Literal[0]
    clips_count: int
    oldest_clip: str
    clips_folder: str

    def __str__(self) -> str:
        """Say it to people."""
        lines = [f"{self.sensor_id}: what left this node from {_minute(self.since_ns)} to {_minute(self.until_ns)}"]
        for one in self.left:
            amount = f"{one.messages_count:>8} messages {one.size_bytes / 1024:>10.1f} KiB"
            lines.append(f"  {one.kind:<12}{amount}   {SAID_OF.get(one.kind, '')}".rstrip())
        if not self.left:
            lines.append("  nothing")
        lines.append("  sound              0 messages        0.0 KiB   no message has room for it")
        if self.clips_folder:
            oldest = f", the oldest of {self.oldest_clip}" if self.clips_count else ""
            lines.append(f"kept here, never sent: {self.clips_count} clips of gunshots{oldest}, in {self.clips_folder}")
        else:
            lines.append("kept here: no sound at all (clips.folder is empty)")
        return "\n".join(lines)


def privacy_report(config: NodeConfig, now_ns: int) -> PrivacyReport:
    """Say what left a node in the last 24 hours, and what it keeps of what it heard.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    now_ns : int
        UTC.

    Returns
    -------
    PrivacyReport
        Counted in whole hours: the one that began 24 hours ago is in it.

    Raises
    ------
    InputError
        If the node keeps no outbox on disk, or it cannot be read.
    """
    if not config.outbox_file:
        raise InputError(
            "outbox_file is empty, so nothing is written down of what leaves the node; "
            "name a file, as `agls sensor init` does"
        )
    since_ns = now_ns - DAY_NS
    left = tuple(Left(*row) for row in read_left(Path(config.outbox_file), since_ns))
    clips = clips_in(Path(config.clips.folder)) if config.clips.folder else []
    return PrivacyReport(
        sensor_id=config.sensor_id,
        since_ns=since_ns,
        until_ns=now_ns,
        left=left,
        audio_bytes=0,
        clips_count=len(clips),
        oldest_clip=_minute(min(clips)[0]) if clips else "",
        clips_folder=config.clips.folder,
    )


def _minute(moment_ns: int) -> str:
    return f"{format_utc(moment_ns)[:16]}Z"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls sensor privacy-report``.
    """
    parser.add_argument("node", type=Path, metavar="NODE.toml", help="the node's file")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the report.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.
    """
    report = privacy_report(load_node(arguments.node), time.time_ns())
    if arguments.json:
        times = {"since": format_utc(report.since_ns), "until": format_utc(report.until_ns)}
        plain = {name: value for name, value in asdict(report).items() if not name.endswith("_ns")}
        print(json.dumps(times | plain, indent=2))
    else:
        print(report)
    return 0
