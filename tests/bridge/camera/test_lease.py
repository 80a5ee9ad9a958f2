import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agls.bridge.camera.lease import Denied, Home, Leases, Turn
from agls.config import Slewing
from agls.messages import UtcNs
from tests.bridge.camera.conftest import ASKED, NOW_NS

S = 10**9
CAMERAS = ["c", "d"]
POLICY = Slewing(hold_s=60.0, operator_s=60.0, least_hold_s=10.0, better_p=0.2)


def ask(leases: Leases, at_s: float, **otherwise) -> str:
    answer = leases.ask(msgspec.structs.replace(ASKED, **otherwise), NOW_NS + round(at_s * S))
    return answer.reason if isinstance(answer, Denied) else "granted"


def test_an_operator_is_not_overridden_unless_the_agency_says_so() -> None:
    for overrides, answers in ((False, ["operator", "operator"]), (True, ["operator", "granted"])):
        leases = Leases(msgspec.structs.replace(POLICY, override_operator=overrides), CAMERAS)
        leases.take("c", "Kim", NOW_NS)
        assert [ask(leases, 1, state=state) for state in ("possible", "probable")] == answers
        assert ask(leases, 1, camera_id="d") == "granted"


def test_an_operator_who_does_nothing_more_has_it_no_longer() -> None:
    leases = Leases(POLICY, CAMERAS)
    leases.take("c", "Kim", NOW_NS)
    leases.take("c", "Kim", NOW_NS + 50 * S)
    assert [ask(leases, at_s) for at_s in (70, 109, 111)] == ["operator", "operator", "granted"]


@pytest.mark.parametrize(
    ("first", "second", "at_s", "answer"),
    [
        ({"state": "possible"}, {"state": "probable"}, 1, "granted"),
        ({"state": "probable"}, {"state": "possible", "p_in_view": 1.0}, 30, "held"),
        ({"p_in_view": 0.5}, {"p_in_view": 0.6}, 30, "held"),
        ({"p_in_view": 0.5}, {"p_in_view": 0.8}, 30, "granted"),
        ({"p_in_view": 0.5}, {"p_in_view": 0.8}, 5, "held"),
        ({"p_in_view": 1.0}, {"p_in_view": 0.1}, 61, "granted"),
        ({"revision": 3}, {"incident": "i-1", "revision": 4, "p_in_view": 0.1}, 1, "granted"),
        ({"revision": 3}, {"incident": "i-1", "revision": 2}, 1, "old_revision"),
        ({}, {"camera_id": "none"}, 1, "unknown_camera"),
        ({}, {"not_after_ns": UtcNs(NOW_NS)}, 1, "too_late"),
    ],
)
def test_a_camera_leaves_an_incident_only_for_a_better_reason(first, second, at_s, answer) -> None:
    leases = Leases(POLICY, CAMERAS)
    assert ask(leases, 0, **first) == "granted"
    assert ask(leases, at_s, **{"incident": "i-2", **second}) == answer


def test_two_incidents_that_keep_asking_do_not_swing_a_camera_to_and_fro() -> None:
    leases = Leases(POLICY, CAMERAS)
    said = [
        (name, ask(leases, at_s, incident=name, revision=at_s, p_in_view=0.5 + 0.1 * (name == "i-2")))
        for at_s in range(120)
        for name in ("i-1", "i-2")
    ]
    assert {name for name, answer in said if answer == "granted"} == {"i-1"}


def test_a_camera_goes_home_when_its_time_is_over_and_again_until_it_is_there() -> None:
    leases = Leases(POLICY, CAMERAS)
    ask(leases, 0)
    assert leases.advance(NOW_NS + 59 * S) == []
    due_s = [at_s for at_s in range(60, 200) if leases.advance(NOW_NS + at_s * S) == [Home("c")]]
    assert due_s == [60, 65, 75, 95, 135, 195]
    leases.homed("c")
    assert leases.advance(NOW_NS + 1_000 * S) == []


def test_cameras_that_an_earlier_run_left_turned_go_home_at_once() -> None:
    assert Leases(POLICY, CAMERAS, ["d"]).advance(NOW_NS) == [Home("d")]


def test_a_withdrawn_incident_gives_its_cameras_back() -> None:
    leases = Leases(POLICY, CAMERAS)
    ask(leases, 0)
    leases.end("i-2")
    assert leases.advance(NOW_NS + S) == []
    leases.end("i-1")
    assert leases.advance(NOW_NS + S) == [Home("c")]


class Shift(RuleBasedStateMachine):
    """A shift at the RTCC: incidents ask, operators take and release, cameras fail to go home, orders come late.

    A model of its own remembers who is at which camera and where each head was last sent; the leases must agree with
    it, and when everybody has left, no head may be where an incident sent it.
    """

    @initialize(overrides=st.booleans())
    def begin(self, overrides: bool) -> None:
        policy = msgspec.structs.replace(POLICY, override_operator=overrides)
        self.overrides, self.leases, self.now_ns = overrides, Leases(policy, CAMERAS), NOW_NS
        self.operated_until: dict[str, int] = {}
        self.sent_by_us = dict.fromkeys(CAMERAS, False)
        self.queued: list[Turn | Home] = []
        self.revision = 0

    @rule(
        camera=st.sampled_from(CAMERAS), incident=st.sampled_from(["i-1", "i-2", "i-3"]), p=st.floats(0, 1),
        state=st.sampled_from(["probable", "possible"]), hold_s=st.floats(0, 100),
    )  # fmt: skip
    def an_incident_asks(self, camera: str, incident: str, p: float, state: str, hold_s: float) -> None:
        self.revision += 1
        request = msgspec.structs.replace(
            ASKED, camera_id=camera, incident=incident, p_in_view=p, state=state, hold_s=hold_s, revision=self.revision
        )
        answer = self.leases.ask(request, self.now_ns)
        at_it = self.now_ns < self.operated_until.get(camera, 0)
        if at_it and not (self.overrides and state == "probable"):
            assert answer == Denied(request, "operator")
        if isinstance(answer, Turn):
            self.operated_until.pop(camera, None)
            self.queued.append(answer)

    @rule(camera=st.sampled_from(CAMERAS))
    def an_operator_takes(self, camera: str) -> None:
        assert self.leases.take(camera, "Kim", self.now_ns)
        self.operated_until[camera] = self.now_ns + 60 * S

    @rule(camera=st.sampled_from(CAMERAS))
    def an_operator_releases(self, camera: str) -> None:
        self.leases.release(camera)
        self.operated_until.pop(camera, None)

    @rule(incident=st.sampled_from(["i-1", "i-2", "i-3"]))
    def an_incident_is_withdrawn(self, incident: str) -> None:
        self.leases.end(incident)

    @rule(seconds=st.floats(0, 130))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        self.queued += self.leases.advance(self.now_ns)

    @rule(fails=st.booleans(), which=st.integers(0, 5))
    def a_camera_follows(self, fails: bool, which: int) -> None:
        if self.queued:
            self._follow(self.queued.pop(which % len(self.queued)), fails=fails)

    def _follow(self, order: Turn | Home, *, fails: bool = False) -> None:
        if not self.leases.is_current(order):
            return
        camera = order.request.camera_id if isinstance(order, Turn) else order.camera_id
        assert self.now_ns >= self.operated_until.get(camera, 0), "an operator was overridden"
        if isinstance(order, Turn):
            self.sent_by_us[camera] = True  # a move that fails may have moved it all the same
        elif not fails:
            self.leases.homed(camera)
            self.sent_by_us[camera] = False

    @invariant()
    def a_head_that_was_sent_away_is_known_to_be(self) -> None:
        if hasattr(self, "leases"):
            known = {one.camera_id for one in self.leases.holdings() if one.is_away}
            assert {camera for camera, sent in self.sent_by_us.items() if sent} <= known

    def teardown(self) -> None:
        """Let everybody leave: all heads must have gone home."""
        if not hasattr(self, "leases"):
            return
        for _ in range(10):
            self.time_passes(130.0)
            while self.queued:
                self._follow(self.queued.pop(0))
        assert not any(self.sent_by_us.values())
        assert not any(one.is_away or one.operator or one.incident for one in self.leases.holdings())


TestShift = Shift.TestCase
TestShift.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
