import math
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.bridge.cad.event import CadDesk, headline
from agls.bridge.cad.pace import LIMIT_COUNT, SETTLED_NS, is_outside
from agls.config import Cad, Sensor, SiteConfig
from agls.messages import CadEvent, Ellipse, decode, encode

NOW_NS = 1_545_220_805_000_000_000
DAY_NS = 86_400 * 10**9
SITE = SiteConfig(
    name="Test", cad=Cad(incident_type="SHOTS-AC"), sensor=(Sensor(sensor_id="pole-elm-street", x_m=731.5, y_m=1.0),)
)
WIDE = Ellipse(major_m=100.0, minor_m=100.0, azimuth_deg=0.0)


def statuses(*revisions, every_s: float = 4.0) -> list[str]:
    """Tell revisions so many seconds apart; what is worth a message has been told by the end."""
    desk, out, now_ns = CadDesk(SITE), [], NOW_NS
    for incident in revisions:
        out += desk.feed(incident, now_ns)
        now_ns += round(every_s * 10**9)
    return [cad_event.status for cad_event in out + desk.advance(now_ns)]


def test_the_first_revision_opens_a_call(incident) -> None:
    [opened] = CadDesk(SITE).feed(incident(revision=4), NOW_NS)
    assert (opened.status, opened.revision, opened.incident_type) == ("open", 4, "SHOTS-AC")
    assert opened.caution == "unverified acoustic indication; not by itself grounds to stop a person"
    assert (opened.latitude_deg, opened.longitude_deg, opened.round_count) == (40.44062, -79.99589, 3)


def test_an_event_says_when_it_was_issued_and_that_is_told_as_text(incident) -> None:
    [opened] = CadDesk(SITE).feed(incident(), NOW_NS)
    assert opened.issued_ns == NOW_NS
    assert b'"issued":"2018-12-19T12:00:05.000000000Z"' in encode(opened)


def test_the_headline_reads_as_one_sentence(incident) -> None:
    assert headline(incident()) == (
        "Probable gunfire, 3 rounds, within 12 m of 40.44062, -79.99589, heard by 9 sensors"
    )
    assert headline(incident(state="possible", round_count=1)).startswith("Possible gunfire, 1 round, ")


def test_a_site_without_a_place_on_earth_speaks_of_metres(incident) -> None:
    local = incident(latitude_deg=None, longitude_deg=None, height_m=None, x_m=-0.2)
    [opened] = CadDesk(SITE).feed(local, NOW_NS)
    assert opened.latitude_deg is None
    assert "within 12 m of 0 m east and 45 m south of the site's origin" in opened.headline


def test_no_document_names_or_places_a_sensor(incident) -> None:
    [opened] = CadDesk(SITE).feed(incident(), NOW_NS)
    assert b"pole-elm-street" not in encode(opened)
    assert b"731.5" not in encode(opened)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, []),
        ({"p_gunshot": 0.99, "sensor_count": 12}, []),
        ({"x_m": 129.0}, []),
        ({"x_m": 130.5}, ["update"]),
        ({"round_count": 4}, []),
        ({"round_count": 5}, ["update"]),
        ({"round_count": 1}, ["update"]),
        ({"state": "possible"}, ["update"]),
        ({"state": "withdrawn"}, ["cancel"]),
    ],
)
def test_a_later_revision_speaks_only_of_what_a_dispatcher_cares_about(incident, change, status) -> None:
    assert statuses(incident(ellipse=WIDE), incident(revision=1, ellipse=WIDE, **change)) == ["open", *status]


def test_a_place_out_of_the_ellipse_told_before_is_an_update(incident) -> None:
    small = Ellipse(major_m=8.0, minor_m=2.0, azimuth_deg=90.0)
    assert statuses(incident(ellipse=small), incident(ellipse=small, revision=1, x_m=126.0)) == ["open"]
    assert statuses(incident(ellipse=small), incident(ellipse=small, revision=1, y_m=-41.0)) == ["open", "update"]


def test_small_steps_add_up_to_an_update(incident) -> None:
    steps = [incident(ellipse=WIDE, revision=step, x_m=120.0 + 4.0 * step) for step in range(4)]
    assert statuses(*steps) == ["open", "update"]


def test_a_revision_heard_again_or_too_late_says_nothing(incident) -> None:
    assert statuses(incident(revision=2), incident(revision=2), incident(revision=1, round_count=1)) == ["open"]


def test_dispatch_never_hears_of_what_was_withdrawn_before_it_knew(incident) -> None:
    assert statuses(incident(state="withdrawn"), incident(state="withdrawn", revision=1)) == []


def test_a_cancelled_call_that_comes_back_is_opened_under_its_old_id(incident) -> None:
    desk = CadDesk(SITE)
    states = ["probable", "withdrawn", "withdrawn", "probable"]
    said = [
        said
        for revision, state in enumerate(states)
        for said in desk.feed(incident(revision=revision, state=state), NOW_NS + revision * 4 * 10**9)
    ]
    assert [cad_event.status for cad_event in said] == ["open", "cancel", "open"]
    assert len({cad_event.cad_event_id for cad_event in said}) == 1


def test_what_only_a_reader_would_notice_is_told_once_it_has_settled(incident) -> None:
    desk = CadDesk(SITE)
    desk.feed(incident(), NOW_NS)
    assert desk.feed(incident(revision=1, round_count=4), NOW_NS + 10**9) == []
    assert desk.advance(NOW_NS + 10**9 + SETTLED_NS - 1) == []
    [last] = desk.advance(NOW_NS + 10**9 + SETTLED_NS)
    assert (last.status, last.round_count) == ("update", 4)


def test_sixty_rounds_in_ten_seconds_are_at_most_four_messages_and_the_last_state_is_told(incident) -> None:
    desk, said = CadDesk(SITE), []
    for round_number in range(60):
        shot_ns = NOW_NS + round_number * 10**9 // 6
        for revision, after_ns in enumerate((300_000_000, 1_500_000_000, 4_000_000_000)):
            told = incident(
                revision=3 * round_number + revision,
                round_count=round_number + 1,
                x_m=120.0 + 3 * ((7 * round_number) % 11),
                last_shot_ns=shot_ns,
            )
            said += desk.feed(told, max(shot_ns + after_ns, NOW_NS + 3 * round_number + revision))
    said += desk.advance(NOW_NS + 200 * 10**9)
    assert len(said) <= 4
    assert (said[-1].round_count, said[-1].revision) == (60, 179)
    assert all(b.issued_ns - a.issued_ns >= 3 * 10**9 for a, b in pairwise(said))


def test_old_incidents_are_forgotten(incident) -> None:
    desk = CadDesk(SITE)
    desk.feed(incident(), NOW_NS)
    desk.feed(incident(incident="i2", last_shot_ns=NOW_NS + DAY_NS), NOW_NS + DAY_NS)
    assert list(desk._watched) == ["i2"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["probable", "possible", "withdrawn"]),
            st.floats(-200, 200),
            st.integers(1, 60),
            st.floats(0.1, 80),
            st.floats(0, 8),
        ),
        min_size=1,
        max_size=18,
    )
)
def test_whatever_the_history_dispatch_knows_the_last_state(incident, history) -> None:
    revisions = [
        incident(
            revision=step,
            state=state,
            x_m=x_m,
            round_count=rounds,
            ellipse=Ellipse(major_m=major, minor_m=0.1, azimuth_deg=0.0),
        )
        for step, (state, x_m, rounds, major, _) in enumerate(history)
    ]
    steps_ns = [NOW_NS + round(gap_s * 10**9) for gap_s in accumulate(gap_s for *_, gap_s in history)]
    said = told(revisions, steps_ns, looks_ns=())
    assert said == told(revisions, steps_ns, looks_ns=range(NOW_NS, steps_ns[-1], 700_000_000))
    assert all(decode(encode(cad_event), CadEvent) == cad_event for cad_event in said)
    assert len(said) <= LIMIT_COUNT
    assert all(b.issued_ns - a.issued_ns >= 3 * 10**9 for a, b in pairwise(said))
    open_calls = [cad_event.status != "cancel" for cad_event in said][-1:] == [True]
    assert open_calls == (history[-1][0] != "withdrawn")
    if open_calls:
        assert said[-1].headline == headline(revisions[-1])


def told(revisions, steps_ns, looks_ns) -> list[CadEvent]:
    """Tell each revision at its time, and look in between as often as wanted, then until nothing can change."""
    desk, said = CadDesk(SITE), []
    steps = [(step_ns, 1, number) for number, step_ns in enumerate(steps_ns)] + [
        (look_ns, 0, 0) for look_ns in looks_ns
    ]
    for now_ns, is_revision, number in sorted(steps):
        said += desk.feed(revisions[number], now_ns) if is_revision else desk.advance(now_ns)
    return said + desk.advance(steps_ns[-1] + 1000 * 10**9)


@given(st.floats(0, 179.9), st.floats(0.5, 500), st.floats(0.5, 500), st.floats(0, 360))
def test_a_point_just_inside_or_outside_the_outline_is_told_apart(azimuth, one, other, around) -> None:
    ellipse = Ellipse(major_m=max(one, other), minor_m=min(one, other), azimuth_deg=azimuth)
    turn, phase = math.radians(azimuth), math.radians(around)
    along, across = ellipse.major_m * math.cos(phase), ellipse.minor_m * math.sin(phase)
    east = along * math.sin(turn) + across * math.cos(turn)
    north = along * math.cos(turn) - across * math.sin(turn)
    assert not is_outside(ellipse, 0.999 * east, 0.999 * north)
    assert is_outside(ellipse, 1.001 * east, 1.001 * north)
