"""Turn the audio of a recording into detections: by nodes, as live, or by correlation where that is asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agls.classify.model import Model
from agls.config import Microphone, NodeConfig, Sensor
from agls.errors import InputError
from agls.messages import NS_PER_S, ClockState, Detection, UtcNs
from agls.pipeline import Node
from agls.replay.agls_csv import number_detections
from agls.replay.correlate import correlate, loudest_s
from agls.replay.dataset import Call, Recording, Track, boot_id_of
from agls.sensor.capture import FileSource

# Slower than sound in any air outdoors, so that no true delay lies beyond; and half a clock disagreement.
SLOWEST_M_S, CLOCK_SLACK_S = 300.0, 2e-3
# A peak this many times the rms of its surroundings is no accident of noise (pure noise reaches about 4).
MIN_STRENGTH = 5.0
# Agreement with the delays expected of the fixture is 0.3-0.8 ms.
CORRELATION_SIGMA_S = 5e-4


def listen(recording: Recording, model: Model) -> tuple[Detection, ...]:
    """Hear a recording.

    Parameters
    ----------
    recording : Recording
        With detections, tracks or calls.
    model : Model
        Judges impulses.

    Returns
    -------
    tuple of Detection
        In order of time of arrival.

    Raises
    ------
    InputError
        If an audio file cannot be heard whole.
    """
    if recording.calls:
        return line_up(recording)
    if not recording.tracks:
        return recording.detections
    boot_id = boot_id_of(recording.name)
    heard = [detection for track in recording.tracks for detection in _hear(track, model, boot_id)]
    return tuple(sorted(heard, key=lambda one: (one.toa_ns, one.sensor_id, one.seq)))


def _hear(track: Track, model: Model, boot_id: str) -> list[Detection]:
    """Run one node over one file."""
    with FileSource(track.path, start_ns=track.start_ns, clock_sigma_s=track.clock_sigma_s) as source:
        # The node is told what a field tech would have set for this device.
        microphone = Microphone(sample_rate_hz=round(source.sample_rate_hz), full_scale_db_spl=track.full_scale_db_spl)
        node = Node(NodeConfig(sensor_id=track.sensor_id, microphone=microphone), source.clock, model, boot_id)
        heard = [detection for block in source.blocks() for detection in node.feed(block)]
        return heard + node.finish()


def line_up(recording: Recording) -> tuple[Detection, ...]:
    """Find when each call reached each recorder, by correlation with the first.

    Parameters
    ----------
    recording : Recording
        With tracks and calls.

    Returns
    -------
    tuple of Detection
        One for each recorder whose window holds the call, in order of time of arrival.

    Raises
    ------
    InputError
        If a file cannot be read, or its sampling rate is not that of the others.
    """
    tracks = {track.sensor_id: track for track in recording.tracks}
    sensors = {sensor.sensor_id: sensor for sensor in recording.site.sensor}
    detections = [detection for call in recording.calls for detection in _line_up_call(call, tracks, sensors)]
    return number_detections(recording.name, detections)


def _line_up_call(call: Call, tracks: dict[str, Track], sensors: dict[str, Sensor]) -> list[Detection]:
    reference_id = call.sensor_ids[0]
    reference, rate_hz = _window(tracks[reference_id], call)
    arrival_ns = call.start_ns + round(loudest_s(reference, rate_hz) * NS_PER_S)
    detections = []
    for sensor_id in call.sensor_ids:
        window, own_rate_hz = _window(tracks[sensor_id], call)
        if own_rate_hz != rate_hz:
            raise InputError(
                f"{tracks[sensor_id].path}: has {own_rate_hz:g} samples a second; {rate_hz:g} as in"
                f" {tracks[reference_id].path.name} is accepted"
            )
        max_delay_s = _distance_m(sensors[reference_id], sensors[sensor_id]) / SLOWEST_M_S + CLOCK_SLACK_S
        found = correlate(reference, window, rate_hz, max_delay_s)
        if found.strength >= MIN_STRENGTH or sensor_id == reference_id:
            delay_s = 0.0 if sensor_id == reference_id else found.delay_s
            detections.append(_detection(sensor_id, arrival_ns + round(delay_s * NS_PER_S), tracks[sensor_id]))
    return detections


def _detection(sensor_id: str, toa_ns: int, track: Track) -> Detection:
    return Detection(
        sensor_id=sensor_id,
        boot_id="unnumbered",
        seq=0,
        toa_ns=UtcNs(toa_ns),
        toa_sigma_s=CORRELATION_SIGMA_S,
        clock=ClockState(mode="file", sigma_s=track.clock_sigma_s),
    )


def _window(track: Track, call: Call) -> tuple[NDArray[np.float64], float]:
    """Cut a call's window out of a track; what lies beyond the file is silence."""
    with FileSource(track.path) as source:
        rate_hz, blocks = source.sample_rate_hz, [block.samples for block in source.blocks()]
    samples = np.concatenate(blocks).astype(np.float64)
    first = round((call.start_ns - track.start_ns) / NS_PER_S * rate_hz)
    window = np.zeros(round((call.end_ns - call.start_ns) / NS_PER_S * rate_hz))
    begin, end = max(first, 0), min(first + len(window), len(samples))
    if begin >= end:
        raise InputError(
            f"{track.path}: holds {len(samples) / rate_hz:.3f} s of sound, none of it in the window that begins"
            f" {first / rate_hz:.3f} s into it; a window inside the file is accepted"
        )
    window[begin - first : end - first] = samples[begin:end]
    return window, rate_hz


def _distance_m(one: Sensor, other: Sensor) -> float:
    pairs: Sequence[tuple[float | None, float | None]] = (
        (one.x_m, other.x_m),
        (one.y_m, other.y_m),
        (one.z_m, other.z_m),
    )
    return float(np.sqrt(sum(((a or 0.0) - (b or 0.0)) ** 2 for a, b in pairs)))
