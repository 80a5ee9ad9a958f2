"""The network between node and broker: what it loses, doubles, delays and reorders."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Sensor, SiteConfig
from agls.intake import Intake
from agls.messages import ClockState, Detection, Rejection, UtcNs
from firmware_sim.faults import AnyFault, Duplication, Loss, Outage, Reordering
from firmware_sim.network import Network, filtered

NOW_NS = 1_700_000_000_000_000_000
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
ALL_DAY = {"start_s": 0.0, "end_s": 86_400.0}


def carried(faults: list[AnyFault], count: int = 2_000, every_s: float = 0.1) -> tuple[list[int], Counter[str]]:
    network: Network[int] = Network(faults, 7)
    out: list[int] = []
    for number in range(count):
        network.feed("a", number, number * every_s)
        out += [message for _, message in network.advance(number * every_s)]
    out += [message for _, message in network.advance(1e9)]
    return out, network.counts


def test_with_nothing_wrong_every_message_arrives_once_and_in_order() -> None:
    assert carried([])[0] == list(range(2_000))


def test_messages_are_lost_and_doubled_at_the_share_that_is_asked_for() -> None:
    out, counts = carried([Loss(**ALL_DAY, share=0.2), Duplication(**ALL_DAY, share=0.1)])
    assert counts["lost"] == pytest.approx(400, rel=0.15)
    assert counts["duplicated"] == pytest.approx(160, rel=0.25)
    assert len(out) == 2_000 - counts["lost"] + counts["duplicated"]


def test_reordering_loses_nothing() -> None:
    out, counts = carried([Reordering(**ALL_DAY, share=0.3, hold_s=1.0)])
    assert sorted(out) == list(range(2_000))
    assert out != sorted(out)
    assert counts["reordered"] == pytest.approx(600, rel=0.15)
    assert max(abs(place - number) for place, number in enumerate(out)) <= 10


def test_what_is_said_in_an_outage_arrives_after_it_and_in_order() -> None:
    network: Network[int] = Network([Outage(start_s=1.0, end_s=5.0), Outage(start_s=4.5, end_s=8.0)], 1)
    for number in range(4):
        network.feed("a", number, number * 1.0)
    assert [message for _, message in network.advance(7.9)] == [0]
    assert [message for _, message in network.advance(8.0)] == [1, 2, 3]
    assert [network.reachable("a", at_s) for at_s in (0.5, 1.0, 6.0, 8.0)] == [True, False, False, True]


@given(st.lists(st.floats(0.0, 300.0), max_size=20))
def test_advancing_more_often_changes_only_when_things_are_handed_out(extra: list[float]) -> None:
    faults: list[AnyFault] = [
        Loss(**ALL_DAY, share=0.2), Reordering(**ALL_DAY, hold_s=20.0), Outage(start_s=50.0, end_s=90.0)
    ]  # fmt: skip
    outs = []
    for moments in ([], sorted(extra)):
        network: Network[int] = Network(faults, 3)
        out: list[tuple[str, int]] = []
        asked = list(moments)
        for number in range(200):
            while asked and asked[0] <= number:
                out += network.advance(asked.pop(0))
            network.feed("a", number, float(number))
        outs.append(out + network.advance(1e9))
    assert outs[0] == outs[1]


def test_another_sensors_messages_change_nothing() -> None:
    fates = []
    for others in (False, True):
        network: Network[int] = Network([Loss(**ALL_DAY, share=0.5)], 3)
        for number in range(100):
            if others:
                network.feed("b", number, 0.0)
            network.feed("a", number, 0.0)
        fates.append([message for sensor_id, message in network.advance(1.0) if sensor_id == "a"])
    assert fates[0] == fates[1]


def test_a_fault_meets_only_the_sensor_and_the_time_it_names() -> None:
    network: Network[int] = Network([Loss(sensor_id="b", start_s=5.0, end_s=6.0, share=1.0)], 3)
    for sensor_id, at_s in (("a", 5.5), ("b", 4.9), ("b", 5.5), ("b", 6.0)):
        network.feed(sensor_id, 0, at_s)
    assert [sensor_id for sensor_id, _ in network.advance(10.0)] == ["b", "a", "b"]


def test_a_hub_takes_in_each_detection_once_whatever_the_network_doubles_and_reorders() -> None:
    intake = Intake(SiteConfig(name="here", sensor=(Sensor(sensor_id="pole", x_m=0, y_m=0, z_m=0),)))
    now_s, answers = [0.0], []
    network: Network[Detection] = Network([Duplication(**ALL_DAY, share=0.5), Reordering(**ALL_DAY, hold_s=3.0)], 1)
    send = filtered(lambda one: answers.append(intake.feed(one, NOW_NS)), network, "pole", lambda: now_s[0])
    for seq in range(50):
        now_s[0] = seq * 0.5
        send(Detection(sensor_id="pole", boot_id="b", seq=seq, toa_ns=UtcNs(NOW_NS), toa_sigma_s=1e-3, clock=CLOCK))
    answers += [intake.feed(one, NOW_NS) for _, one in network.advance(1e9)]
    taken = [answer.seq for answer in answers if isinstance(answer, Detection)]
    assert sorted(taken) == list(range(50)) != taken
    refused = [answer.reason for answer in answers if isinstance(answer, Rejection)]
    assert len(refused) == network.counts["duplicated"] > 10
