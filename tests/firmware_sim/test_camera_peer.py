"""A client that others wrote drives the simulated camera: onvif-python, in an environment of its own."""

import json
import subprocess
import time

import pytest

from bench.peers.environment import HERE, PeerAbsentError, python
from firmware_sim.camera.describe import Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.service import Serving
from tests.firmware_sim.soap_client import DEGREES, PASSWORD

MAIN = {"ProfileToken": "main"}
HALF = {**MAIN, "Position": {"PanTilt": {"x": 0.5, "y": 0.2}, "Zoom": {"x": 0.5}}}
IN_DEGREES = {**MAIN, "Position": {"PanTilt": {"x": -30.0, "y": -12.5, "space": DEGREES}}}
STEPS = [
    ["devicemgmt", "GetSystemDateAndTime", {}], ["devicemgmt", "GetCapabilities", {}],
    ["devicemgmt", "GetServices", {"IncludeCapability": False}], ["devicemgmt", "GetDeviceInformation", {}],
    ["media", "GetProfiles", {}], ["media", "GetProfile", MAIN],
    ["ptz", "GetServiceCapabilities", {}], ["ptz", "GetNodes", {}], ["ptz", "GetNode", {"NodeToken": "ptz-node"}],
    ["ptz", "GetConfigurations", {}], ["ptz", "GetConfigurationOptions", {"ConfigurationToken": "ptz"}],
    ["ptz", "AbsoluteMove", HALF], ["wait"],
    ["ptz", "AbsoluteMove", IN_DEGREES], ["wait"],
    ["ptz", "SetPreset", {**MAIN, "PresetName": "Main & 5th"}],
    ["ptz", "RelativeMove", {**MAIN, "Translation": {"PanTilt": {"x": 0.1, "y": 0.0}}}], ["wait"],
    ["ptz", "ContinuousMove", {**MAIN, "Velocity": {"PanTilt": {"x": 0.2, "y": 0.0}}}], ["ptz", "Stop", MAIN], ["wait"],
    ["ptz", "GetPresets", MAIN], ["ptz", "GotoPreset", {**MAIN, "PresetToken": "1"}], ["wait"],
    ["ptz", "SetHomePosition", MAIN], ["ptz", "RemovePreset", {**MAIN, "PresetToken": "1"}],
    ["ptz", "GotoHomePosition", MAIN],
    ["ptz", "AbsoluteMove", {**MAIN, "Position": {"PanTilt": {"x": 2.0, "y": 0.0}}}],
]  # fmt: skip
MOVE_AND_LOOK = [["ptz", "AbsoluteMove", HALF], ["wait"]]
BROKEN = {
    "odd_address": Faults(odd_address=True),
    "no_get_services": Faults(no_get_services=True),
    "unadvertised": Faults(unadvertised=True),
    "frozen_status": Faults(frozen_status=True),
    "answers_401": Faults(answers_401=True),
    "malformed_http": Faults(malformed_http=True),
    "clock_skew": Faults(clock_skew_s=3_600.0, time_window_s=10.0),
}


@pytest.fixture(scope="module")
def driven() -> dict[str, list]:
    """Drive a sound camera and some broken ones in one go, for the client takes seconds to begin."""
    try:
        interpreter = python("onvif")
    except PeerAbsentError as error:
        pytest.skip(f"needs onvif-python in .venv-peers-onvif, which could not be made: {error}")
    cameras = {"sound": Serving(Setup(), PASSWORD, clock=lambda: 20.0 * time.monotonic())}
    cameras |= {
        name: Serving(Setup(faults=faults), PASSWORD, clock=lambda: 20.0 * time.monotonic())
        for name, faults in BROKEN.items()
    }
    account = {"host": "127.0.0.1", "username": "agls", "password": PASSWORD}
    asked = [
        {**account, "port": one.port, "http_digest": name == "answers_401", "schema": name == "sound",
         "steps": STEPS if name == "sound" else MOVE_AND_LOOK}
        for name, one in cameras.items()
    ]  # fmt: skip
    try:
        command = [str(interpreter), "-W", "ignore", str(HERE / "drive_onvif.py")]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120)
    finally:
        for one in cameras.values():
            one.close()
    assert done.returncode == 0, done.stderr[-2_000:]
    return dict(zip(cameras, json.loads(done.stdout), strict=True))


def answers(driven: dict[str, list], *step: object) -> list:
    """Find what a sound camera answered to a step."""
    return [answer for asked, answer in zip(STEPS, driven["sound"], strict=False) if asked[: len(step)] == list(step)]


def test_the_peer_moves_the_head_and_reads_where_it_is(driven) -> None:
    places = [answer["Position"]["PanTilt"] for answer in answers(driven, "wait")]
    assert (places[0]["x"], places[0]["y"]) == pytest.approx((0.5, 0.2), abs=1e-3)
    assert (180 * places[1]["x"], 55 * places[1]["y"] - 35) == pytest.approx((-30.0, -12.5), abs=0.02)
    assert places[2]["x"] == pytest.approx(-30 / 180 + 0.1, abs=1e-3)
    assert places[3]["x"] > places[2]["x"]
    assert places[4]["x"] == pytest.approx(-30 / 180, abs=1e-3)


def test_the_peer_reads_presets_and_is_refused_what_is_out_of_bounds(driven) -> None:
    assert [preset["Name"] for preset in answers(driven, "ptz", "GetPresets")[0]] == ["Main & 5th"]
    failed = [answer for answer in driven["sound"][:-1] if isinstance(answer, dict) and "failed" in answer]
    assert len(failed) == 1
    assert "InvalidPosition" in failed[0]["failed"]


def test_every_answer_is_valid_by_the_schema_of_onvif(driven) -> None:
    judged = driven["sound"][-1]
    assert judged["invalid"] == []
    assert judged["judged"] >= len(STEPS) - 1


@pytest.mark.parametrize("name", ["odd_address", "no_get_services", "unadvertised", "answers_401"])
def test_the_peer_copes_with_cameras_that_are_merely_odd(driven, name: str) -> None:
    assert driven[name][1]["Position"]["PanTilt"]["x"] == pytest.approx(0.5, abs=1e-3)


def test_the_peer_meets_the_faults_it_cannot_cope_with(driven) -> None:
    assert driven["frozen_status"][1]["Position"]["PanTilt"]["x"] == pytest.approx(0.0, abs=1e-3)
    assert "failed" in driven["malformed_http"][0]
    assert "NotAuthorized" in driven["clock_skew"][0]["failed"]
