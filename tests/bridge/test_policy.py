import json
import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.bridge.places import load_places, metres_apart, nearest
from agls.bridge.policy import Policies, at_prior, inside
from agls.bridge.record import Place
from agls.config import Gathering, Policy, Rule, SiteConfig
from agls.errors import InputError

SQUARE = ((-80.0, 40.4), (-79.9, 40.4), (-79.9, 40.5), (-80.0, 40.5), (-80.0, 40.4))
FIREWORKS = Rule(
    name="Fourth of July", dates=("07-04",), hours="20:00-02:00", prior_gunshot=0.02, statement="a night of fireworks"
)


def local_ns(text: str, zone: str = "US/Eastern") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


def policies(*rules: Rule, **policy: str) -> Policies:
    return Policies(SiteConfig(name="Town", rule=rules, policy=Policy(timezone="US/Eastern", **policy)))


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-07-04T19:59:59", False),
        ("2026-07-04T20:00:00", True),
        ("2026-07-05T01:59:59", True),  # it began on the fourth
        ("2026-07-05T02:00:00", False),
        ("2026-07-04T01:00:00", False),  # this one began on the third
    ],
)
def test_a_night_belongs_to_the_date_on_which_it_began(moment: str, holds: bool) -> None:
    ruling = policies(FIREWORKS).ruling(None, None, local_ns(moment))
    assert (ruling.statements == ("a night of fireworks",)) == holds
    assert ruling.prior_gunshot == (0.02 if holds else 0.5)


@given(st.floats(0.001, 0.999), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_prior_moves_the_odds_by_the_ratio_of_the_priors_odds(p: float, prior: float, other: float) -> None:
    moved = at_prior(p, prior, other)
    wanted = p / (1 - p) * other / (1 - other) * (1 - prior) / prior
    assert math.isclose(moved, wanted / (1 + wanted), abs_tol=2e-6)


def test_on_a_night_of_fireworks_the_same_evidence_is_less_and_it_is_said(incident) -> None:
    one = policies(FIREWORKS).judge(incident(p_gunshot=0.97, first_shot_ns=local_ns("2026-07-04T22:00:00")))
    assert (one.state, round(one.p_gunshot, 2)) == ("possible", 0.4)
    assert policies(FIREWORKS).judge(incident(p_gunshot=0.9)).state == "probable"


def test_in_a_zone_below_its_threshold_nobody_is_told(incident) -> None:
    rule = Rule(name="range", zone=SQUARE, possible_p=0.99)
    assert policies(rule).judge(incident()).state == "probable"
    beside = policies(Rule(name="range", zone=SQUARE, possible_p=0.98, probable_p=0.99))
    assert beside.judge(incident()).state == "withdrawn"
    assert beside.judge(incident(latitude_deg=41.0)).state == "probable"


def test_of_several_rules_the_last_has_the_last_word() -> None:
    first = Rule(name="a", review="before_dispatch", probable_p=0.8, statement="one")
    second = Rule(name="b", days=("mon", "fri"), review="none", statement="two")
    friday, sunday = local_ns("2026-11-20T12:00:00"), local_ns("2026-11-22T12:00:00")
    assert policies(first, second).ruling(None, None, friday).review is False
    assert policies(first, second).ruling(None, None, friday).statements == ("one", "two")
    assert policies(first, second).ruling(None, None, sunday).review is True
    assert policies(first, second).ruling(None, None, sunday).probable_p == 0.8


def test_without_rules_nothing_is_restated(incident) -> None:
    plain = Policies(SiteConfig(name="Town", gathering=Gathering(probable_p=0.99)))
    assert plain.judge(incident()) == incident()


@given(st.floats(-80.2, -79.7), st.floats(40.2, 40.7))
def test_a_point_is_inside_a_square_when_it_is_between_its_sides(x: float, y: float) -> None:
    assert inside(SQUARE, x, y) == (-80.0 <= x < -79.9 and 40.4 <= y < 40.5)


def test_the_clock_is_the_site_s(incident) -> None:
    noon = Rule(name="noon", hours="12:00-13:00", statement="noon")
    at_ns = round(datetime(2026, 1, 1, 17, 30, tzinfo=UTC).timestamp()) * 10**9
    assert policies(noon).ruling(None, None, at_ns).statements == ("noon",)


# ------------------------------------------------------------------------------------------------------- places


def geojson(*features) -> str:
    made = [
        {"type": "Feature", "properties": {"name": name}, "geometry": {"type": kind, "coordinates": at}}
        for name, kind, at in features
    ]
    return json.dumps({"type": "FeatureCollection", "features": made})


def at(latitude_deg: float, longitude_deg: float) -> Place:
    return Place(x_m=0.0, y_m=0.0, latitude_deg=latitude_deg, longitude_deg=longitude_deg)


def test_the_nearest_address_is_named_with_distance_and_direction(tmp_path) -> None:
    (tmp_path / "a.geojson").write_text(
        geojson(("12 Elm Street", "Point", [-80.0, 40.0]), ("99 Far Lane", "Point", [-80.01, 40.0]))
    )
    places = load_places(Policy(address_file="a.geojson"), tmp_path)
    found = nearest(places.addresses, at(40.0009, -80.0))
    assert (found.name, found.bearing_deg) == ("12 Elm Street", 0.0)
    assert abs(found.distance_m - 100) < 1
    assert nearest(places.addresses, at(41.0, -80.0)) is None
    assert nearest(places.addresses, Place(x_m=0.0, y_m=0.0)) is None
    assert nearest(places.intersections, at(40.0, -80.0)) is None


def test_distances_agree_with_the_ellipsoid() -> None:
    import pyproj

    geod = pyproj.Geod(ellps="WGS84")
    for one, other in [((40.44, -79.99), (40.4405, -79.986)), ((-33.9, 179.9995), (-33.9, -179.9995))]:
        wanted = geod.inv(one[1], one[0], other[1], other[0])[2]
        assert abs(metres_apart(one, other) - wanted) < 0.006 * wanted


def test_a_beat_with_a_hole_does_not_hold_what_is_in_it(tmp_path) -> None:
    hole = [[-79.96, 40.44], [-79.94, 40.44], [-79.94, 40.46], [-79.96, 40.46], [-79.96, 40.44]]
    (tmp_path / "b.geojson").write_text(geojson(("Zone 2", "Polygon", [[list(c) for c in SQUARE], hole])))
    places = load_places(Policy(beat_file="b.geojson"), tmp_path)
    assert [places.beat(at(40.42, -79.95)), places.beat(at(40.45, -79.95)), places.beat(at(41, -79))] == [
        "Zone 2",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (geojson(("B", "Polygon", [[[0, 0], [1, 0], [1, 1], [0, 1]]])), "open ring"),
        (geojson(("B", "Polygon", [[[0, 0], [1, 0], [0, 0]]])), "fewer than four"),
        (geojson(("B", "Point", [0, 0])), "must be a Polygon"),
        (geojson(("B", "Polygon", [[[0, 0], [1, 95], [1, 1], [0, 0]]])), "longitude, latitude"),
        (geojson(("B", "Polygon", [[[0, 0], ["x"], [1, 1], [0, 0]]])), "longitude, latitude"),
        ('{"features": [{}]}', "needs a geometry"),
        ('{"features": 3}', "list of features"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_of_beats_that_is_none_is_refused_in_a_sentence(tmp_path, content: str, complaint: str) -> None:
    (tmp_path / "beats.geojson").write_text(content)
    with pytest.raises(InputError, match=complaint) as refusal:
        load_places(Policy(beat_file="beats.geojson"), tmp_path)
    assert "beats.geojson" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused_in_a_sentence(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*cannot be read"):
        load_places(Policy(address_file="nowhere.geojson"), tmp_path)
