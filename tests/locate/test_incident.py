"""Which shots are one incident, and what is said of it as shots come and go."""

from itertools import permutations

import msgspec
import pytest

from agls.config import Gathering
from agls.locate.evidence import of_nodes, probability, ranked, total
from agls.locate.frame import Frame
from agls.locate.incident import REFUSED_COUNT, Incidents
from agls.messages import Ellipse, Incident, Reason, Rejection, UtcNs
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


# ------------------------------------------------------------------------------------------------- p and its reasons


def judged(number, after_s, llr, **changes):
    """Make a shot that eight sensors judge alike."""
    reasons = ranked(of_nodes([llr] * 8))
    return shot(number, after_s, reasons=reasons, p_gunshot=probability(total(reasons), 0.5), **changes)


def test_an_incidents_probability_is_its_prior_and_its_reasons_and_nothing_else() -> None:
    found = fed(incidents(prior_gunshot=0.2), judged(0, 0.0, 1.5))
    assert found.reasons
    assert found.p_gunshot == pytest.approx(probability(total(found.reasons), 0.2), abs=1e-4)


def test_sounds_of_the_spot_that_are_no_gunfire_count_against_it_whichever_comes_first() -> None:
    shots = [judged(0, 0.0, 1.2), judged(1, 1.0, -1.5, x_m=12.0), judged(2, 2.0, 1.0)]
    alone = fed(incidents(), shots[0])
    last = []
    for order in permutations(shots):
        stage = incidents()
        told = [item for one in order for item in stage.feed(one, NOW_NS)]
        last.append([item for item in told if isinstance(item, Incident)][-1])
    assert {(one.p_gunshot, one.reasons, one.round_count) for one in last} == {(last[0].p_gunshot, last[0].reasons, 2)}
    assert last[0].p_gunshot < alone.p_gunshot


def test_no_gunfire_elsewhere_says_nothing_of_it() -> None:
    stage = incidents()
    before = fed(stage, judged(0, 0.0, 1.2))
    assert len(stage.feed(judged(1, 1.0, -3.0, x_m=70.0), NOW_NS)) == 2
    assert fed(stage, judged(0, 0.0, 1.2)).reasons == before.reasons


def test_bangs_of_the_spot_within_the_hour_before_are_counted_and_older_ones_are_not() -> None:
    stage = incidents()
    for k, after_s in enumerate((-4000.0, -2000.0, -100.0)):
        stage.feed(judged(k, after_s, -2.0), NOW_NS + round(after_s * S))
    found = fed(stage, judged(9, 0.0, 2.0))
    assert [one.count for one in found.reasons if one.kind == "repetition"] == [2]


def test_an_incident_that_becomes_less_than_possible_is_withdrawn() -> None:
    stage = incidents()
    fed(stage, judged(0, 0.0, 0.3))
    told = stage.feed(judged(1, 1.0, -3.0), NOW_NS)
    assert (told[-1].state, told[-1].p_gunshot < 0.3) == ("withdrawn", True)


def test_what_was_no_gunfire_is_kept_bounded() -> None:
    stage = incidents()
    for k in range(REFUSED_COUNT + 50):
        stage.feed(judged(k, 0.01 * k, -3.0), NOW_NS)
    assert len(stage.refused) <= REFUSED_COUNT + 1


def test_an_even_burst_as_loud_as_a_gun_is_told_even_where_nodes_take_no_round_for_gunfire_and_a_tool_is_not() -> None:
    def state_of(level_nats: float) -> str:
        stage, said = incidents(), []
        level = Reason(kind="level", nats=level_nats, words="so loud", count=150)
        for k in range(8):
            reasons = (*of_nodes([-1.0] * 6), level)
            one = shot(k, 0.085 * k, p_gunshot=0.1, reasons=reasons)
            said += [item for item in stage.feed(one, NOW_NS) if isinstance(item, Incident)]
        return said[-1].state if said else "nothing"

    assert state_of(0.7) in ("possible", "probable")
    assert state_of(-0.8) == "nothing"
