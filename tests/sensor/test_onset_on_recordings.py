"""Onsets in real gunfire: the Pittsburgh live-fire tests, measured as the vendor's own stamps are."""

import itertools
import json
from collections import defaultdict
from datetime import datetime

import numpy as np
import pytest

from agls.sensor.listen import onsets_of

MATCH_S = 0.015


def moment_s(text):
    return datetime.fromisoformat(text).timestamp()


def arrivals(root):
    """List the vendor's arrivals at sensors with audio: (test folder, shot, sensor), wave file, time in it."""
    for tuples in sorted(root.rglob("*.nlos-tuples.json")):
        test = tuples.name.split(".")[0]
        pulses = {one["pulse_uuid"]: one for one in json.loads(tuples.with_name(f"{test}.allpulses.json").read_text())}
        starts = {}
        for path in tuples.parent.glob(f"{test}.audio.*.json"):
            about = json.loads(path.read_text())
            starts[about["serial_number"]] = moment_s(about["timestamp"]), path.with_suffix(".wav")
        for one in json.loads(tuples.read_text()):
            for pulse in (pulses[uuid] for uuid in one["pulse_uuids"] if uuid in pulses):
                if pulse["serial_number"] in starts:
                    start_s, wave = starts[pulse["serial_number"]]
                    key = (tuples.parent, one["shot_index"], pulse["serial_number"])
                    yield key, wave, moment_s(pulse["arrival_time_utc"]) - start_s


def spread_us(times_s):
    """Measure the scatter of shot-to-shot differences in time of arrival, for each pair of sensors of a position."""
    differences = defaultdict(list)
    for (folder, shot, first), time_s in times_s.items():
        for second in {sensor for other, _, sensor in times_s if other == folder and sensor > first}:
            keys = [(folder, shot + 1, first), (folder, shot, second), (folder, shot + 1, second)]
            if all(key in times_s for key in keys):
                change_s = times_s[keys[0]] - times_s[keys[2]] - time_s + times_s[keys[1]]
                differences[folder.parent, first, second].append(change_s)
    pairs = [np.array(some) for some in differences.values() if len(some) >= 3]
    scatter = [1.4826e6 * np.median(np.abs(some - np.median(some))) / np.sqrt(2) for some in pairs]
    every = np.array(list(itertools.chain(*differences.values())))
    return float(np.median(scatter)), float(np.mean(np.abs(every) > 2e-3))


@pytest.fixture(scope="module")
def measured(shared):
    """Match onsets to the vendor's arrivals: those found, their number, and the vendor's own times."""
    found, vendor, heard = {}, {}, {}
    count = 0
    for key, wave, time_s in arrivals(shared / "data" / "shotspotter-pittsburgh"):
        if wave not in heard:
            heard[wave] = np.array([onset.index / onset.sample_rate_hz for onset in onsets_of(wave)])
        count += 1
        vendor[key] = time_s
        near = heard[wave][np.abs(heard[wave] - time_s) <= MATCH_S]
        if near.size:
            found[key] = float(near[np.argmin(np.abs(near - time_s))])
    if not count:
        pytest.skip("needs shotspotter-pittsburgh among the shared recordings")
    return found, vendor


def test_nine_in_ten_of_the_vendors_arrivals_are_heard(measured):
    found, vendor = measured
    assert len(found) >= 0.9 * len(vendor)


def test_times_scatter_less_from_shot_to_shot_than_the_vendors_own(measured):
    found, vendor = measured
    median_us, share_over_2_ms = spread_us(found)
    assert median_us <= 130
    assert share_over_2_ms <= 0.08
    assert spread_us(vendor)[0] > 400
