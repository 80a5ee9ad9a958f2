"""Sources of audio: whatever hands over blocks of samples, with the clock that goes with them.

A `Source` is a microphone, a file or the simulator; the node does not know which. Files are read as a stream, so that
an hour of audio needs no more memory than a second.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from agls.errors import InputError
from agls.messages import Block, ClockState
from agls.sensor.clock import SampleClock, SteadyClock

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG")
# A WAV written to a pipe cannot know its length; these sizes say so.
UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


class Source(Protocol):
    """Anything that hears: a microphone, a file, the simulator.

    Attributes
    ----------
    clock : SampleClock
        Turns the sample indices of its blocks into UTC.
    """

    @property
    def clock(self) -> SampleClock:
        """The clock that stamps this source's samples.

        Returns
        -------
        SampleClock
            The same one as long as the source lives.
        """

    def blocks(self) -> Iterator[Block]:
        """Hand over what is heard, in order.

        Yields
        ------
        Block
            The next samples, or none where time passes without any; ends where the source ends.
        """

    def close(self) -> None:
        """Let go of the device or file; `blocks` ends."""


class FileSource:
    """Read a WAV, FLAC or OGG file as a microphone would have heard it, its channels averaged to one.

    Parameters
    ----------
    path : pathlib.Path
        The file: any sample format, 8 to 192 kHz.
    start_ns : int
        When its first sample was taken, UTC [ns].
    clock_sigma_s : float
        Standard deviation of that moment [s].
    block_frames : int
        Samples per block.
    realtime : bool
        Whether to hand over each block only when it would have been heard.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, or is shorter than its header promises.
    """

    def __init__(
        self,
        path: Path,
        start_ns: int = 0,
        clock_sigma_s: float = 1e-4,
        block_frames: int = 1000,
        realtime: bool = False,
    ) -> None:
        self.path = Path(path)
        self._block_frames = block_frames
        self._realtime = realtime
        self._file = _open(self.path)
        self.sample_rate_hz = float(self._file.samplerate)
        self.frames = int(self._file.frames)
        self.clock = SteadyClock(start_ns, self.sample_rate_hz, ClockState(mode="file", sigma_s=clock_sigma_s))

    def __enter__(self) -> "FileSource":
        """Use as a context manager that closes the file.

        Returns
        -------
        FileSource
            Itself.
        """
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def blocks(self) -> Iterator[Block]:
        """Read the file from where it stands to its end.

        Yields
        ------
        Block
            The next samples; only the last may be shorter than `block_frames`.

        Raises
        ------
        InputError
            If a sample is not a finite number, or the file ends early or cannot be decoded.
        """
        index = 0
        started = time.monotonic()
        while not self._file.closed:
            samples = self._read(index)
            if not samples.size:
                break
            if self._realtime:
                time.sleep(max(0.0, started + (index + samples.size) / self.sample_rate_hz - time.monotonic()))
            yield Block(samples=samples, first_index=index, sample_rate_hz=self.sample_rate_hz)
            index += samples.size
        self.close()

    def close(self) -> None:
        """Close the file; `blocks` ends."""
        self._file.close()

    def _read(self, index: int) -> NDArray[np.float32]:
        """Read the next block and average its channels."""
        try:
            frames = self._file.read(self._block_frames, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise InputError(f"{self.path}: cannot be decoded after {index} samples ({_reason(error)})") from None
        if len(frames) < self._block_frames and index + len(frames) < self.frames:
            raise InputError(
                f"{self.path}: ends after {index + len(frames)} of the {self.frames} samples its header promises;"
                " give the complete file"
            )
        samples: NDArray[np.float32] = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
        if not np.isfinite(samples).all():
            bad = index + int(np.flatnonzero(~np.isfinite(samples))[0])
            raise InputError(f"{self.path}: sample {bad} is not a finite number; samples from -1 to 1 are accepted")
        return samples


def _open(path: Path) -> Any:
    """Open an audio file, refusing what could not be heard whole."""
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a WAV, FLAC or OGG file") from None
    if not path.is_file():
        raise InputError(f"{path}: is not a file; give a WAV, FLAC or OGG file")
    if size_bytes == 0:
        raise InputError(f"{path}: is empty (0 bytes); give a WAV, FLAC or OGG file with at least one sample")
    try:
        _refuse_truncated_wav(path, size_bytes)
        file = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise InputError(f"{path}: is not a readable WAV, FLAC or OGG file ({_reason(error)})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a WAV, FLAC or OGG file") from None
    refusal = _refusal(file)
    if refusal:
        file.close()
        raise InputError(f"{path}: {refusal}")
    return file


def _refusal(file: Any) -> str:
    """Say why an opened file is of no use, or nothing."""
    if file.format not in FORMATS:
        return f"is of format {file.format}; WAV, FLAC and OGG are accepted"
    if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
        return f"has {file.samplerate} samples a second; {MIN_RATE_HZ} to {MAX_RATE_HZ} are accepted"
    if file.frames <= 0:
        return "holds no samples; at least one is needed"
    return ""


def _reason(error: Exception) -> str:
    """Give libsndfile's own words for what went wrong, without its file name and full stop."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _refuse_truncated_wav(path: Path, size_bytes: int) -> None:
    """Raise if the data chunk of a WAV says it is longer than the file; libsndfile would silently read less."""
    with path.open("rb") as file:
        promised_bytes, found_bytes = _data_chunk(file, size_bytes)
    if promised_bytes > found_bytes:
        raise InputError(
            f"{path}: is truncated: its header promises {promised_bytes} bytes of samples, {found_bytes} are there;"
            " give the complete file"
        )


def _data_chunk(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Find the data chunk of a RIFF WAVE file: bytes promised, bytes there; zeros where there is nothing to compare."""
    riff = file.read(12)
    if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return 0, 0
    while len(head := file.read(8)) == 8:
        length = struct.unpack("<I", head[4:])[0]
        if head[:4] == b"data":
            return (0, 0) if length in UNKNOWN_SIZES else (length, size_bytes - file.tell())
        file.seek(length + length % 2, 1)
    return 0, 0
