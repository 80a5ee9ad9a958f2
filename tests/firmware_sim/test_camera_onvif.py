"""One camera without a socket: what it answers, whom it lets in, and every fault of its own."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.errors import InputError
from firmware_sim.camera.describe import Place, Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.head import HeadModel, Mount
from firmware_sim.camera.onvif import Answer, Camera
from tests.firmware_sim.soap_client import DEGREES, PASSWORD, request, steered, to_degrees, token

NOW_S = 1_800_000_000.0
STATUS = ("tptz:GetStatus", steered())
PRESETS = ("tptz:GetPresets", steered())


def camera(**faults) -> Camera:
    """Make a camera with faults."""
    return Camera(Setup(faults=Faults(**faults)), PASSWORD, "http://camera.example")


def ask(asked: Camera, operation: str, inner: str = "", now_s: float = 0.0, **login) -> Answer:
    """Ask as the one who may."""
    return asked.answer(request(operation, inner, token(NOW_S, **login)), "", now_s, NOW_S)


def seen(asked: Camera, now_s: float) -> tuple[float, float]:
    """Read the position that the status tells [deg]."""
    told = re.search(r'<tt:PanTilt x="([^"]*)" y="([^"]*)"', ask(asked, *STATUS, now_s=now_s).body)
    return 180.0 * float(told[1]), 55.0 * float(told[2]) - 35.0


# ----------------------------------------------------------------------------------------------------- as it should


def test_an_absolute_move_in_degrees_ends_there_and_the_status_says_so() -> None:
    one = camera()
    assert ask(one, "tptz:AbsoluteMove", to_degrees(90, -20)).status == 200
    assert "MOVING" in ask(one, *STATUS, now_s=0.1).body
    assert seen(one, 5.0) == pytest.approx((90, -20), abs=0.01)
    assert "MOVING" not in ask(one, *STATUS, now_s=5.0).body


def test_generic_space_goes_from_limit_to_limit() -> None:
    one = camera()
    at = '<tt:PanTilt x="1" y="-1"/><tt:Zoom x="0.5"/>'
    ask(one, "tptz:AbsoluteMove", steered(f"<tptz:Position>{at}</tptz:Position>"))
    pose = one.pose(10.0)
    assert (pose.pan_deg, pose.tilt_deg, pose.zoom) == (180.0, -90.0, 0.5)


def test_a_position_out_of_bounds_is_refused_by_name_and_nothing_moves() -> None:
    one = camera()
    refused = ask(one, "tptz:AbsoluteMove", to_degrees(90, 45))
    assert refused.status == 400
    assert "ter:InvalidPosition" in refused.body
    assert not one.pose(0.1).turning


def test_a_relative_move_stops_at_the_limit_and_half_a_picture_is_half_the_view() -> None:
    one = camera()
    space = "http://www.onvif.org/ver10/tptz/PanTiltSpaces/TranslationSpaceFov"
    ask(
        one,
        "tptz:RelativeMove",
        steered(f'<tptz:Translation><tt:PanTilt x="1" y="0" space="{space}"/></tptz:Translation>'),
    )
    assert one.pose(10.0).pan_deg == pytest.approx(30.0)
    ask(one, "tptz:RelativeMove", steered('<tptz:Translation><tt:PanTilt x="1" y="1"/></tptz:Translation>'), 10.0)
    assert (one.pose(20.0).pan_deg, one.pose(20.0).tilt_deg) == (180.0, 20.0)


def test_a_continuous_move_ends_with_its_timeout_and_with_a_stop() -> None:
    one = camera()
    move = steered('<tptz:Velocity><tt:PanTilt x="0.1" y="0"/></tptz:Velocity><tptz:Timeout>PT2S</tptz:Timeout>')
    ask(one, "tptz:ContinuousMove", move)
    assert one.pose(10.0).pan_deg == pytest.approx(60.0)
    ask(one, "tptz:ContinuousMove", move, 10.0)
    ask(one, "tptz:Stop", steered(), 10.5)
    assert one.pose(20.0).pan_deg == pytest.approx(75.0, abs=1.0)


def test_a_preset_is_stored_told_gone_to_and_forgotten() -> None:
    one = camera()
    ask(one, "tptz:AbsoluteMove", to_degrees(45, -10))
    stored = ask(one, "tptz:SetPreset", steered("<tptz:PresetName>Main &amp; 5th</tptz:PresetName>"), 10.0).body
    number = re.search(r"<tptz:PresetToken>(\w+)<", stored)[1]
    assert "Main &amp; 5th" in ask(one, *PRESETS, now_s=10.0).body
    ask(one, "tptz:GotoHomePosition", steered(), 11.0)
    assert one.pose(20.0).pan_deg == 0.0
    ask(one, "tptz:GotoPreset", steered(f"<tptz:PresetToken>{number}</tptz:PresetToken>"), 20.0)
    assert one.pose(30.0).pan_deg == pytest.approx(45.0)
    ask(one, "tptz:RemovePreset", steered(f"<tptz:PresetToken>{number}</tptz:PresetToken>"), 30.0)
    assert (
        "ter:NoToken"
        in ask(one, "tptz:GotoPreset", steered(f"<tptz:PresetToken>{number}</tptz:PresetToken>"), 31.0).body
    )


def test_geo_move_looks_at_the_place_through_a_crooked_mount() -> None:
    place, mount = Place(latitude_deg=40.44, longitude_deg=-79.99, height_m=240.0), Mount(yaw_deg=-90, roll_deg=2)
    one = Camera(Setup(geo_move=True, place=place, mount=mount), PASSWORD)
    ask(one, "tptz:GeoMove", steered('<tptz:Target lat="40.44" lon="-80.0" elevation="240"/>'))
    pose = one.pose(10.0)
    assert abs(pose.pan_deg) < 0.1  # the target is due west, where the mount looks
    assert 'GeoMove="true"' in ask(one, "tptz:GetNodes", now_s=10.0).body
    assert "ter:ActionNotSupported" in ask(camera(), "tptz:GeoMove", steered('<tptz:Target lat="1" lon="1"/>')).body


def test_a_camera_without_degrees_neither_lists_nor_takes_them() -> None:
    one = Camera(Setup(degrees=False), PASSWORD)
    assert DEGREES not in ask(one, "tptz:GetNodes").body
    assert "ter:SpaceNotSupported" in ask(one, "tptz:AbsoluteMove", to_degrees(1, 1)).body


# -------------------------------------------------------------------------------------------------- bad requests


def test_a_document_type_is_refused_unread() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + request("tds:GetServices")
    assert "document type" in camera().answer(bomb, "", 0.0, NOW_S).body


TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.one_of(st.binary(max_size=200), TEXTS.map(lambda text: request("tptz:GetStatus", text))))
def test_any_bytes_are_answered_by_a_fault(received) -> None:
    answer = camera().answer(received, "", 0.0, NOW_S)
    assert answer.status in (400, 500)
    assert "Fault" in answer.body


@pytest.mark.parametrize("inner", [
    "", "<tptz:Position/>", '<tptz:Position><tt:PanTilt x="nan" y="0"/></tptz:Position>',
    '<tptz:Position><tt:PanTilt x="1"/></tptz:Position>',
    '<tptz:Position><tt:PanTilt x="0" y="0" space="http://elsewhere"/></tptz:Position>',
])  # fmt: skip
def test_a_move_that_is_none_is_refused(inner: str) -> None:
    assert "ter:InvalidArgVal" in ask(camera(), "tptz:AbsoluteMove", steered(inner)).body


def test_an_unknown_profile_and_an_unknown_operation_are_named() -> None:
    assert "ter:NoProfile" in ask(camera(), "tptz:GetStatus", steered(profile="third")).body
    assert "ter:ActionNotSupported" in ask(camera(), "tptz:Dance").body


@pytest.mark.parametrize("login", [{"password": "wrong"}, {"user": "root"}, {"password": "wrong", "text": True}])
def test_who_does_not_know_the_password_is_refused(login) -> None:
    refused = ask(camera(), *STATUS, **login)
    assert "ter:NotAuthorized" in refused.body


def test_the_clock_and_the_services_are_told_to_anybody() -> None:
    for operation in ("tds:GetSystemDateAndTime", "tds:GetServices", "tds:GetCapabilities"):
        assert camera().answer(request(operation), "", 0.0, NOW_S).status == 200
    assert camera().answer(request("trt:GetProfiles"), "", 0.0, NOW_S).status == 400


@pytest.mark.parametrize(("wrong", "says"), [
    (HeadModel(pan_min_deg=10, pan_max_deg=-10), "pan_min_deg"),
    (HeadModel(home_tilt_deg=80), "home_tilt_deg"),
    (HeadModel(hfov_min_deg=70), "hfov_min_deg"),
    (HeadModel(endless=True, pan_max_deg=90), "endless"),
])  # fmt: skip
def test_a_head_that_contradicts_itself_is_refused_in_a_sentence(wrong: HeadModel, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Camera(Setup(head=wrong), PASSWORD)


# ------------------------------------------------------------------------------------------------- the fault list


def test_config_on_sub_only_moves_by_the_second_profile_alone() -> None:
    one = camera(config_on_sub_only=True)
    assert ask(one, "trt:GetProfiles").body.count("<tt:PTZConfiguration") == 1
    assert "ter:NoPTZProfile" in ask(one, *STATUS).body
    assert ask(one, "tptz:GetStatus", steered(profile="sub")).status == 200


def test_unadvertised_ptz_works_all_the_same() -> None:
    one = camera(unadvertised=True)
    for operation in ("tds:GetServices", "tds:GetCapabilities"):
        assert "/onvif/PTZ" not in ask(one, operation).body
    assert ask(one, *STATUS).status == 200


@pytest.mark.parametrize(("kind", "listed", "default", "zoom"), [
    ("empty", 0, False, False), ("default_only", 0, True, False), ("pan_only", 2, True, False), ("full", 2, True, True),
])  # fmt: skip
def test_spaces_may_be_missing(kind, listed, default, zoom) -> None:
    one = camera(spaces=kind)
    nodes = ask(one, "tptz:GetNodes").body
    assert nodes.count("<tt:AbsolutePanTiltPositionSpace>") == listed
    assert ("AbsoluteZoomPositionSpace" in nodes) == zoom
    assert ("DefaultAbsolutePantTiltPositionSpace" in ask(one, "tptz:GetConfigurations").body) == default
    assert (
        ask(one, "tptz:AbsoluteMove", steered('<tptz:Position><tt:PanTilt x="0" y="0"/></tptz:Position>')).status == 200
    )


def test_flat_ranges_have_min_equal_to_max() -> None:
    ranges = re.findall(
        r"<tt:Min>([^<]*)</tt:Min><tt:Max>([^<]*)</tt:Max>", ask(camera(flat_ranges=True), "tptz:GetNodes").body
    )
    assert ranges
    assert all(low == high for low, high in ranges)


def test_odd_addresses_and_missing_get_services_and_get_presets() -> None:
    assert "192.0.2.1:8999" in ask(camera(odd_address=True), "tds:GetServices").body
    hidden = camera(no_get_services=True, no_get_presets=True)
    assert "ter:ActionNotSupported" in ask(hidden, "tds:GetServices").body
    assert "ter:ActionNotSupported" in ask(hidden, *PRESETS).body
    assert ask(hidden, "tds:GetCapabilities").status == 200


def test_three_hundred_presets_with_encoded_names() -> None:
    told = ask(camera(many_presets=True, percent_names=True), *PRESETS).body
    assert told.count("<tptz:Preset ") == 300
    assert "Preset%20300" in told


@pytest.mark.parametrize(("kind", "inner"), [("bare", "1"), ("empty", "")])
def test_set_preset_answers_less_than_it_should(kind: str, inner: str) -> None:
    one = camera(set_preset_answer=kind)
    assert f"<tptz:SetPresetResponse>{inner}</tptz:SetPresetResponse>" in ask(one, "tptz:SetPreset", steered()).body
    assert len(one.presets) == 1


def test_a_slow_preset_and_jitter_wait_before_they_answer() -> None:
    one = Camera(Setup(presets={"gate": (10.0, 0.0, 0.0)}, faults=Faults(goto_preset_s=5.0)), PASSWORD)
    assert ask(one, "tptz:GotoPreset", steered("<tptz:PresetToken>1</tptz:PresetToken>")).wait_s == 5.0
    waits = [ask(camera(jitter_s=0.8), *STATUS).wait_s for _ in range(3)]
    assert all(0.1 <= wait <= 0.8 for wait in waits)


def test_moves_may_be_ignored_and_the_status_may_be_frozen() -> None:
    deaf, frozen = camera(ignores_moves=True), camera(frozen_status=True)
    for one in (deaf, frozen):
        assert ask(one, "tptz:AbsoluteMove", to_degrees(90, 0)).status == 200
        assert seen(one, 10.0) == pytest.approx((0, 0), abs=1e-3)
        assert "MOVING" not in ask(one, *STATUS, now_s=0.1).body
    assert (deaf.pose(10.0).pan_deg, frozen.pose(10.0).pan_deg) == (0.0, 90.0)


def test_an_answer_to_a_zoom_breaks_off() -> None:
    zoom = steered('<tptz:Position><tt:Zoom x="0.5"/></tptz:Position>')
    assert "</s:Envelope>" not in ask(camera(malformed_zoom=True), "tptz:AbsoluteMove", zoom).body


def test_a_skewed_clock_refuses_tokens_until_the_client_allows_for_it() -> None:
    one = camera(clock_skew_s=3_600.0, time_window_s=5.0)
    assert "ter:NotAuthorized" in ask(one, *STATUS).body
    allowed = one.answer(request(*STATUS, token(NOW_S + 3_600.0)), "", 0.0, NOW_S)
    assert allowed.status == 200


def test_text_only_and_strict_nonces() -> None:
    assert "ter:NotAuthorized" in ask(camera(text_password_only=True), *STATUS).body
    assert ask(camera(text_password_only=True), *STATUS, text=True).status == 200
    strict = camera(strict_nonce=True)
    assert [ask(strict, *STATUS).status for _ in range(2)] == [200, 400]
    assert ask(strict, *STATUS, nonce=b"another").status == 200


def test_401_instead_of_a_fault() -> None:
    refused = ask(camera(answers_401=True), *STATUS)
    assert (refused.status, refused.body) == (401, "")
    assert refused.challenge.startswith("Digest realm=")


@pytest.mark.parametrize("status", [200, 400, 500])
def test_faults_come_with_any_status(status: int) -> None:
    refused = ask(camera(fault_status=status), "tptz:Dance")
    assert refused.status == status
    assert "Fault" in refused.body


def test_too_many_questions_make_it_restart_and_turn_home() -> None:
    one = camera(reboot_rate_per_s=5.0, reboot_s=10.0)
    ask(one, "tptz:AbsoluteMove", to_degrees(90, 0))
    assert not any(one.gone(5.0 + k) for k in range(10))
    assert [one.gone(20.0 + 0.01 * k) for k in range(8)] == [False] * 5 + [True] * 3
    assert one.gone(29.9)
    assert not one.gone(30.2)
    assert math.isclose(one.pose(30.2).pan_deg, 0.0)
