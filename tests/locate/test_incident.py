"""Which shots are one incident, and what is said of it as shots come and go."""

import msgspec
import pytest

from agls.config import Gathering
from agls.locate.frame import Frame
from agls.locate.incident import Incidents
from agls.messages import Ellipse, Incident, Rejection, UtcNs
from tests import town
from tests.town import NOW_NS, S


def incidents(**gathering) -> Incidents:
    site = town.site(gathering=Gathering(**{"radius_m": 75.0, "gap_s": 30.0, "late_s": 120.0} | gathering))
    return Incidents(site, Frame.of_site(site))


def shot(number=0, after_s=0.0, **changes):
    moment = {"shot_id": f"shot-{number}", "origin_ns": UtcNs(NOW_NS + int(after_s * S)), "incident": ""}
    return town.shot(**moment | changes)


def fed(stage, one, now_ns=NOW_NS) -> Incident:
    told, incident = stage.feed(one, now_ns)
    assert told.incident == incident.incident
    return incident


def test_a_shot_opens_an_incident_and_the_next_nearby_joins_it() -> None:
    stage = incidents()
    first = fed(stage, shot(0))
    second = fed(stage, shot(1, 5.0, x_m=40.0))
    assert first.incident == second.incident
    assert (first.revision, second.revision) == (0, 1)
    assert (first.round_count, second.round_count) == (1, 2)
    assert second.shot_ids == ("shot-0", "shot-1")
    assert (second.first_shot_ns, second.last_shot_ns) == (NOW_NS, NOW_NS + 5 * S)


@pytest.mark.parametrize(("after_s", "x_m"), [(31.0, 10.0), (1.0, 90.0)], ids=["too late", "too far"])
def test_a_shot_far_off_in_time_or_place_opens_another(after_s: float, x_m: float) -> None:
    stage = incidents()
    assert fed(stage, shot(0)).incident != fed(stage, shot(1, after_s, x_m=x_m)).incident


def test_a_run_of_shots_stays_one_incident_however_long_it_lasts() -> None:
    stage = incidents()
    names = {fed(stage, shot(k, 25.0 * k, x_m=50.0 * k), NOW_NS + 25 * k * S).incident for k in range(12)}
    assert len(names) == 1


def test_a_revised_shot_is_counted_once() -> None:
    stage = incidents()
    fed(stage, shot(0))
    revised = fed(stage, shot(0, revision=1, x_m=14.0))
    assert (revised.round_count, revised.revision, revised.x_m) == (1, 1, 14.0)


def test_the_best_shot_lends_its_ellipse_as_shared_paths_do_not_average_out() -> None:
    stage = incidents()
    fed(stage, shot(0, ellipse=Ellipse(major_m=9.0, minor_m=3.0, azimuth_deg=10.0)))
    sharp = Ellipse(major_m=4.0, minor_m=2.0, azimuth_deg=20.0)
    assert fed(stage, shot(1, 1.0, ellipse=sharp)).ellipse == sharp
    assert fed(stage, shot(2, 2.0, ellipse=Ellipse(major_m=8.0, minor_m=8.0, azimuth_deg=0.0))).ellipse == sharp


@pytest.mark.parametrize(("p_gunshot", "state"), [(0.95, "probable"), (0.5, "possible")])
def test_the_state_is_what_sensors_heard(p_gunshot: float, state: str) -> None:
    assert fed(incidents(), shot(p_gunshot=p_gunshot)).state == state


def test_withdrawing_one_of_two_shots_leaves_one_round_and_withdrawing_both_withdraws_the_incident() -> None:
    stage = incidents()
    fed(stage, shot(0))
    fed(stage, shot(1, 1.0))
    after = fed(stage, shot(1, 1.0, state="withdrawn", revision=1))
    assert (after.state, after.round_count) == ("probable", 1)
    gone = fed(stage, shot(0, state="withdrawn", revision=1))
    assert (gone.state, gone.round_count) == ("withdrawn", 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"late": True}, "late"), ({"p_gunshot": 0.1}, "not_gunfire"), ({"state": "withdrawn"}, "withdrawn")],
)
def test_some_shots_open_nothing_and_the_reason_has_a_name(changes, reason: str) -> None:
    told, refusal = incidents().feed(shot(**changes), NOW_NS)
    assert isinstance(refusal, Rejection)
    assert (refusal.stage, refusal.reason, refusal.subject) == ("incident", reason, "shot-0")
    assert told.incident == ""


def test_incidents_nothing_can_join_any_more_are_forgotten() -> None:
    stage = incidents()
    for k in range(50):
        fed(stage, shot(k, 200.0 * k), NOW_NS + 200 * k * S)
        assert len(stage.open) <= 2


def test_the_same_shots_give_the_same_names() -> None:
    one, other = incidents(), incidents()
    assert msgspec.structs.asdict(fed(one, shot(0))) == msgspec.structs.asdict(fed(other, shot(0)))
