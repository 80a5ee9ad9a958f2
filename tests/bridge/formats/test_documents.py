import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from agls.bridge import formats
from agls.bridge.exercise import EXAMPLE_NS, EXAMPLE_SITE, made_up
from agls.bridge.formats import _wording as wording
from agls.bridge.record import CAUTION, Correction, Disposition, IncidentRecord
from agls.config import Dialect
from agls.errors import InputError
from agls.messages import Ellipse, UtcNs
from bench.formats import DIALECTS, read_by_peers, unsaid
from bench.peers.environment import PeerAbsentError
from bench.schemas import Check, checks
from tests.bridge.records import random_records, records

USUAL = msgspec.structs.replace(made_up(EXAMPLE_SITE, EXAMPLE_NS), exercise=False)
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"
LINKED = Dialect(link="https://agls.example.gov/incidents/")


@pytest.fixture(scope="module")
def check(shared: Path) -> dict[str, Check]:
    return checks(shared / "schemas")


def written(name: str, record: IncidentRecord = USUAL, dialect: Dialect | None = None, **otherwise: Any) -> bytes:
    return formats.load(name, dialect)[0](msgspec.structs.replace(record, **otherwise))


def json_of(name: str, **otherwise: Any) -> Any:
    return json.loads(written(name, **otherwise))


def parsed(document: bytes | str) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314 - our own


def corrected(**what: Any) -> tuple[Correction, ...]:
    return (Correction(at_ns=UtcNs(EXAMPLE_NS + 10**10), author="Officer 12", reason="heard on 911", **what),)


@pytest.mark.parametrize("name", ["agls_incident", "cap", "cot", "eido", "eido-1.1", "radio"])
def test_documents_of_generated_incidents_keep_to_their_schema(check: dict[str, Check], name: str) -> None:
    document, _ = formats.load(name.partition("-")[0], DIALECTS.get(name))
    for record in random_records(40, 7):
        if name == "cot" and record.latest.place.latitude_deg is None:
            continue
        assert check[name](document(record)) == []


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("cap", lambda text: text.replace("-00:00<", "Z<", 1)),
        ("cap", lambda text: text.replace("<certainty>Likely", "<certainty>Sure")),
        ("cot", lambda text: text.replace('how="m-f"', "")),
        ("cot", lambda text: text.replace('angle="30"', 'angle="30.5"')),
        ("eido", lambda text: text.replace('"eidoVersion":"1.0"', '"eidoVersion":"1.1"')),
        ("eido-1.1", lambda text: text.replace('"cautionSeverity":"high"', '"cautionSeverity":"grave"')),
        ("agls_incident", lambda text: text.replace('"specversion":"1.0",', "")),
        ("agls_incident", lambda text: text.replace("[-79.99589,40.44062,", "[40.44062,-279.99589,")),
        ("radio", lambda text: text + "more\n"),
    ],
)
def test_a_spoilt_document_does_not_keep_to_its_schema(
    check: dict[str, Check], name: str, spoil: Callable[[str], str]
) -> None:
    text = written(name.partition("-")[0], dialect=DIALECTS.get(name)).decode()
    assert spoil(text) != text
    assert check[name](spoil(text).encode()) != []


@pytest.mark.parametrize("name", ["agls_incident", "cap", "cot", "eido", "radio"])
@settings(max_examples=25)
@given(record=records)
def test_every_document_says_address_intersection_distance_sensors_and_caution(
    name: str, record: IncidentRecord
) -> None:
    try:
        document = written(name, record)
    except InputError as refusal:
        assert name == "cot"
        assert record.incident in str(refusal)
        return
    assert unsaid(record, document) == []
    assert written(name, record) == document


def test_what_a_dispatcher_reads_first_is_what_and_where() -> None:
    assert wording.headline(USUAL) == "Probable gunfire, 3 rounds, 18 m northeast of 412 Pine St"
    assert wording.headline(msgspec.structs.replace(USUAL, exercise=True)).startswith("EXERCISE - ")
    assert wording.headline(msgspec.structs.replace(USUAL, telling="cancel")).startswith("Withdrawn: ")
    assert json_of("cad", exercise=True)["headline"].startswith("EXERCISE - ")


@given(st.floats(0, 1))
def test_nothing_is_said_to_be_certain(p: float) -> None:
    assert wording.percent(p) not in ("0 %", "100 %")


def test_the_radio_line_is_one_line_with_all_of_it() -> None:
    assert written("radio").decode() == (
        "Probable gunfire, 3 rounds; 18 m northeast of 412 Pine St; 40 m south of Pine St & 4th Ave; beat K2; "
        f"within 12 m (95 %) of 40.44062, -79.99589; heard by 9 sensors; {CAUTION}\n"
    )


@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(1, 3000), st.floats(0, 1), st.floats(0, 179.9))
def test_the_ellipse_is_drawn_where_a_geodesic_says(
    latitude_deg: float, longitude_deg: float, major_m: float, share: float, azimuth_deg: float
) -> None:
    place = msgspec.structs.replace(USUAL.latest.place, latitude_deg=latitude_deg, longitude_deg=longitude_deg)
    ellipse = Ellipse(major_m=major_m, minor_m=share * major_m, azimuth_deg=azimuth_deg)
    corners = wording.ring(msgspec.structs.replace(USUAL.latest, place=place), ellipse)
    for longitude, latitude in corners:
        azimuth, _, distance_m = Geod(ellps="WGS84").inv(longitude_deg, latitude_deg, longitude, latitude)
        turn = math.radians(azimuth - azimuth_deg)
        along_m, across_m = distance_m * math.cos(turn), distance_m * math.sin(turn)
        radius = math.hypot(along_m / major_m, across_m / max(share * major_m, 1.0))
        assert radius <= 1.05 + 0.1 / major_m
    assert (corners[0] == corners[-1]).all()


def test_the_incident_event_is_a_feature_in_an_envelope_with_what_is_shown_and_the_whole_record() -> None:
    place = msgspec.structs.replace(USUAL.latest.place, latitude_deg=40.5)
    said = json_of("agls_incident", corrections=corrected(place=place, round_count=5))
    assert (said["type"], said["subject"]) == ("agls.incident/1", USUAL.incident)
    assert said["id"] == f"{USUAL.incident}.0"
    assert said["source"].endswith("/live")
    feature = said["data"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [-79.99589, 40.5, 230.0]}
    told = feature["properties"]
    assert (told["round_count"], told["latest"]["round_count"], told["first"]["round_count"]) == (5, 3, 3)
    assert told["caution"] == CAUTION


def test_an_exercise_is_one_in_every_format() -> None:
    exercise = {"exercise": True, "site": "Example City"}
    assert json_of("agls_incident", **exercise)["source"].endswith("/exercise")
    cap = parsed(written("cap", **exercise))
    assert cap.findtext(f"{CAP}status") == "Exercise"
    assert cap.findtext(f"{CAP}note")
    cot = parsed(written("cot", **exercise))
    assert (cot.get("how"), cot.get("opex")) == ("m-s", "e-Example-City")
    assert json_of("eido", **exercise)["incidentComponent"]["incidentTypeInternalText"].startswith("EXERCISE - ")
    assert written("radio", **exercise).startswith(b"EXERCISE, EXERCISE: ")


@pytest.mark.parametrize(
    ("telling", "kind", "certainty"),
    [("open", "Alert", "Likely"), ("update", "Update", "Likely"), ("cancel", "Cancel", "Unlikely")],
)
def test_a_cap_alert_refers_to_the_first_one(telling: str, kind: str, certainty: str) -> None:
    alert = parsed(written("cap", telling=telling, revision=4))
    first = f"localhost,{USUAL.incident}.0,2026-01-01T00:00:00-00:00"
    assert alert.findtext(f"{CAP}msgType") == kind
    assert alert.findtext(f"{CAP}references") == (None if telling == "open" else first)
    assert alert.findtext(f".//{CAP}certainty") == certainty
    assert alert.findtext(f".//{CAP}circle") == "40.440620,-79.995890 0.011"


def test_only_what_a_person_judged_gunfire_is_observed() -> None:
    reviewed = parsed(written("cap", corrections=corrected(judgement="gunfire")))
    assert reviewed.findtext(f".//{CAP}certainty") == "Observed"
    said = Disposition(at_ns=UtcNs(EXAMPLE_NS), author="Unit 7", reason="nothing found", outcome="unfounded")
    unfounded = parsed(written("cap", corrections=corrected(judgement="gunfire"), disposition=said))
    assert unfounded.findtext(f".//{CAP}certainty") == "Likely"


def test_cursor_on_target_gives_one_sigma_and_stops_showing_what_is_taken_back() -> None:
    shot = parsed(written("cot"))
    point = shot.find("point")
    assert point is not None
    assert float(point.attrib["ce"]) == pytest.approx(11.2 / 2.4477, abs=0.01)
    assert point.attrib["hae"] == "230.0"
    taken_back = parsed(written("cot", telling="cancel", revision=3))
    assert taken_back.attrib["uid"] == shot.attrib["uid"]
    assert taken_back.attrib["stale"] == taken_back.attrib["time"]
    assert datetime.fromisoformat(shot.attrib["stale"]) > datetime.fromisoformat(shot.attrib["time"])


def test_cursor_on_target_refuses_a_place_that_is_not_on_earth() -> None:
    nowhere = msgspec.structs.replace(
        USUAL.latest, place=msgspec.structs.replace(USUAL.latest.place, latitude_deg=None)
    )
    with pytest.raises(InputError, match="no place on Earth"):
        written("cot", latest=nowhere)


def test_an_eido_is_a_weapon_until_a_person_judged_it() -> None:
    assert json_of("eido")["incidentComponent"]["incidentTypeCommonRegistryText"] == "WEAPON"
    judged = json_of("eido", corrections=corrected(judgement="gunfire"))["incidentComponent"]
    assert judged["incidentTypeCommonRegistryText"] == "SHOOT"
    own = json.loads(written("eido", dialect=Dialect(eido_type="WEAP2")))["incidentComponent"]
    assert own["incidentTypeCommonRegistryText"] == "WEAP2"


def test_an_eido_has_what_the_draft_adds_only_where_the_receiver_agreed_to_the_draft() -> None:
    added = {"cautionComponent", "externalInformationSourceComponent"}
    draft = msgspec.structs.replace(LINKED, eido_profile="1.1")
    assert not added & set(json.loads(written("eido", dialect=LINKED)))
    assert added <= set(json.loads(written("eido", dialect=draft)))


def test_an_eido_that_moved_keeps_its_first_place() -> None:
    place = msgspec.structs.replace(USUAL.latest.place, x_m=40.0, latitude_deg=40.441)
    moved = json_of("eido", latest=msgspec.structs.replace(USUAL.latest, place=place))
    kinds = [part["locationTypeDescriptionRegistryText"] for part in moved["locationComponent"]]
    assert kinds == ["InitialIncident", "CurrentIncident"]
    assert "40.4406200" in moved["locationComponent"][0]["locationByValue"]
    assert moved["incidentComponent"]["incidentStatusCommonRegistryText"] == ["Active", "NewLocation"]
    for part in moved["locationComponent"]:
        parsed(part["locationByValue"])


@pytest.mark.parametrize(("what", "status"), [({"telling": "cancel"}, "Cancelled"), ({"state": "closed"}, "Closed")])
def test_an_eido_says_that_it_is_over(what: dict[str, str], status: str) -> None:
    assert json_of("eido", **what)["incidentComponent"]["incidentStatusCommonRegistryText"] == [status]


def test_a_second_implementation_reads_our_cloud_events_as_they_were_written() -> None:
    document, _ = formats.load("agls_incident")
    try:
        found = read_by_peers([document(record) for record in random_records(30, 3)])
    except PeerAbsentError as absent:
        pytest.skip(f"needs cloudevents in .venv-peers-formats, which could not be made: {absent}")
    assert found == {"read": 30, "same": 30, "wrong": []}
