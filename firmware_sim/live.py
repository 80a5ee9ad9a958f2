"""The simulated city, live: sources that hand over audio as the wall clock passes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agls.messages import NS_PER_S, Block, ClockState
from agls.sensor.clock import Known
from firmware_sim.clock import host_of, ticks_of
from firmware_sim.delivery import Gap, absences, gaps
from firmware_sim.device import HALF_RANGE, Recorder, clock_error_s
from firmware_sim.scene import Ear, Scene, load_scene

BLOCK_FRAMES = 1_000
FULL_SCALE = np.float32(1 / HALF_RANGE)
LEAD_S = 1.5  # how far ahead a scene is set to begin, so that every sensor is ready


class SimulatedClock:
    """The clock of a node that has learnt the rate of its converter, and errs as its computer's clock does.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    start_ns : int
        When the scene begins, UTC [ns].
    """

    def __init__(self, scene: Scene, ear: Ear, start_ns: int) -> None:
        self._start_ns = start_ns
        self._ticks, self._host = ticks_of(scene, ear), host_of(scene, ear)
        self._error_s = clock_error_s(scene, ear)
        self._sigma_s = scene.device.clock_sigma_s
        self.now_s = 0.0
        """How far the scene has been heard [s]."""

    @property
    def state(self) -> ClockState:
        """Where the time comes from, and its standard deviation; what the node cannot know is not in it.

        Returns
        -------
        ClockState
            As of what was heard last.
        """
        held_over_s = self._host.sync(self.now_s).sigma_s if self._host.mode == "pps_chrony" else 0.0
        return ClockState(mode="simulated", sigma_s=max(self._sigma_s, held_over_s))

    def known(self, index: float) -> Known:  # noqa: ARG002 - as every clock
        """Say whether the time of a sample is known: always.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        Known
            That it is.
        """
        return "yes"

    def state_at(self, index: float) -> ClockState:  # noqa: ARG002 - as every clock
        """Say how well the time of a sample is known: as any other's.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        ClockState
            `state`.
        """
        return self.state

    def utc_ns(self, index: float) -> int:
        """Say when a sample was taken.

        Parameters
        ----------
        index : float
            Index of the sample, with its fraction.

        Returns
        -------
        int
            Nanoseconds since the Unix epoch, UTC.
        """
        true_s = self._ticks.time_s(index)
        return self._start_ns + round((true_s + self._error_s + self._host.fault_error_s(true_s)) * NS_PER_S)


class SimulatedSource:
    """A simulated microphone that plays its scene again and again, paced by the wall clock.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    start_ns : int
        When the scene begins, UTC [ns].
    paced : bool
        Whether to wait until each block would have been heard.
    """

    def __init__(self, scene: Scene, ear: Ear, start_ns: int, paced: bool = True) -> None:
        self._rate_hz = scene.device.sample_rate_hz
        self._ticks = ticks_of(scene, ear)
        self._recorder = Recorder(scene, ear, repeats=True, ticks=self._ticks)
        index = self._ticks.index_at
        away = [Gap(round(index(start_s)), round(index(end_s))) for start_s, end_s in absences(scene, ear)]
        self._gaps = sorted([*gaps(scene, ear, self._ticks), *away], key=lambda gap: gap.first)
        self._start_ns = start_ns
        self._paced = paced
        self._closed = threading.Event()
        self.late_s = 0.0
        self.clock = SimulatedClock(scene, ear, start_ns)

    def blocks(self) -> Iterator[Block]:
        """Hand over the scene from its beginning.

        Yields
        ------
        Block
            The next samples, each block once its last sample has been heard; ends when the source is closed.
        """
        # The wall clock is read once: a step of it later must not change the pace.
        start_s = time.monotonic() + (self._start_ns - time.time_ns()) / NS_PER_S
        first = 0
        while not self._closed.is_set():
            first, lost = self._after_gaps(first)
            samples = self._recorder.samples(first, BLOCK_FRAMES).astype(np.float32) * FULL_SCALE
            heard_s = self._ticks.time_s(first + BLOCK_FRAMES)
            wait_s = start_s + heard_s - time.monotonic()
            if self._paced and wait_s > 0 and self._closed.wait(wait_s):
                return
            self.late_s = max(self.late_s, -wait_s)
            self.clock.now_s = heard_s
            yield Block(samples=samples, first_index=first, sample_rate_hz=float(self._rate_hz), lost=lost)
            first += BLOCK_FRAMES

    def _after_gaps(self, first: int) -> tuple[int, bool]:
        """Skip what is lost: a block that would meet it begins after it."""
        lost = False
        for gap in self._gaps:
            if gap.first < first + BLOCK_FRAMES and gap.end > first:
                first, lost = gap.end, True
        return first, lost

    def close(self) -> None:
        """Stop: `blocks` ends at once, whatever it waits for."""
        self._closed.set()


def sources(scene: Scene, start_ns: int | None = None) -> dict[str, SimulatedSource]:
    """Make a live source for every sensor of a scene, all beginning at the same moment.

    Parameters
    ----------
    scene : Scene
        The scene.
    start_ns : int, optional
        When the scene begins, UTC [ns]; a moment from now if not given.

    Returns
    -------
    dict of str to SimulatedSource
        By `sensor_id`.
    """
    begin_ns = time.time_ns() + round(LEAD_S * NS_PER_S) if start_ns is None else start_ns
    return {ear.sensor_id: SimulatedSource(scene, ear, begin_ns) for ear in scene.sensor}


def open_source(scene_path: Path, sensor_id: str, start_ns: int) -> SimulatedSource:
    """Make the live source of one sensor, in whatever process it is to run.

    Parameters
    ----------
    scene_path : pathlib.Path
        The scene file.
    sensor_id : str
        One of its sensors.
    start_ns : int
        When the scene begins, UTC [ns].

    Returns
    -------
    SimulatedSource
        The source.
    """
    scene = load_scene(scene_path)
    ear = next(ear for ear in scene.sensor if ear.sensor_id == sensor_id)
    return SimulatedSource(scene, ear, start_ns)
