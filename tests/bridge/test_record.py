import msgspec
import pytest
from hypothesis import given

from agls.bridge.record import Correction, IncidentRecord, Place, finding_of, shown
from agls.errors import MessageError
from agls.messages import UtcNs, decode, encode
from tests.bridge.records import random_records, records

NOW_NS = 1_545_220_805_000_000_000


def record(incident, **otherwise) -> IncidentRecord:
    found = finding_of(incident(), NOW_NS)
    usual = IncidentRecord(
        incident="I1", revision=0, state="published", move="publish", at_ns=UtcNs(NOW_NS), site="Town",
        issuer="agls.example", exercise=False, first=found, latest=found, incident_type="WEAPON", priority=2,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **otherwise)


def said(**what) -> Correction:
    return Correction(at_ns=UtcNs(NOW_NS), author="Reviewer 3", reason="heard the clip", **what)


@given(records)
def test_every_record_travels_and_comes_back_the_same(one: IncidentRecord) -> None:
    assert decode(encode(one), IncidentRecord, max_bytes=10**6) == one


def test_the_same_seed_makes_the_same_records() -> None:
    assert list(random_records(20, seed=3)) == list(random_records(20, seed=3)) != list(random_records(20, seed=4))


def test_what_a_person_says_stands_beside_what_the_machine_found(incident) -> None:
    place = Place(x_m=1.0, y_m=2.0)
    corrected = record(incident, corrections=(said(round_count=5), said(place=place), said(round_count=4)))
    assert (shown(corrected).round_count, shown(corrected).place) == (4, place)
    assert corrected.first.round_count == corrected.latest.round_count == 3


@pytest.mark.parametrize(
    ("machine", "judged", "told"),
    [
        ("possible", None, "possible"),
        ("possible", "gunfire", "probable"),
        ("withdrawn", "gunfire", "probable"),
        ("probable", "not_gunfire", "withdrawn"),
        ("probable", "undecided", "probable"),
    ],
)
def test_the_last_judgement_of_a_person_decides_what_is_shown(incident, machine, judged, told) -> None:
    found = finding_of(incident(state=machine), NOW_NS)
    corrections = (said(judgement="undecided"), said(judgement=judged))
    assert shown(record(incident, latest=found, corrections=corrections)).verdict == told


@pytest.mark.parametrize("reason", ["two\nlines", "ends\n", "bell\x07", "\u2028", "x" * 501, "\ufffe"])
def test_what_not_every_format_can_hold_is_refused(incident, reason: str) -> None:
    bad = record(incident, corrections=(said(), msgspec.structs.replace(said(), reason=reason)))
    with pytest.raises(MessageError):
        decode(encode(bad), IncidentRecord, max_bytes=10**6)
