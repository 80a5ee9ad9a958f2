"""A fleet: what it says, how each message is accounted for, and that a broker bears it."""

import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.broker import EmbeddedBroker
from agls.config import Mqtt, check_site
from agls.errors import InputError
from agls.messages import Ack, Detection
from agls.transport import Connection, topic
from firmware_sim import fleet as fleets
from firmware_sim.crowd import allow_files
from firmware_sim.fleet import (
    EXAMPLE_FLEET,
    Fleet,
    Group,
    Shots,
    load_fleet,
    main,
    run_fleet,
    sensor_ids,
    site_of,
    utterances,
)
from firmware_sim.ledger import Ledger, least_rate_per_s

FLEET = Fleet(
    name="few",
    duration_s=3.0,
    connect_per_s=200,
    group=(
        Group(name="quiet", count=20, detections_per_min=30.0, heartbeat_s=1.0),
        Group(name="busy", count=5, detections_per_min=240.0, heartbeat_s=0.0),
    ),
    shots=Shots(per_min=60.0, audible_m=900.0),
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as embedded:
        yield embedded


# ------------------------------------------------------------------------------------------------ what is to be said


def test_the_same_file_says_the_same_and_another_seed_something_else() -> None:
    assert list(utterances(FLEET)) == list(utterances(FLEET))
    other: Fleet = msgspec.structs.replace(FLEET, seed=2)
    assert list(utterances(FLEET)) != list(utterances(other))


def test_what_is_said_comes_in_order_of_time() -> None:
    said = list(utterances(FLEET))
    assert all(a.at_s <= b.at_s for a, b in pairwise(said))
    assert said[0].at_s >= 0


def test_the_example_is_ten_thousand_nodes_and_two_thousand_messages_a_second() -> None:
    fleet = load_fleet(EXAMPLE_FLEET)
    brief: Fleet = msgspec.structs.replace(fleet, duration_s=10.0)
    assert len(sensor_ids(fleet)) == 10_000
    assert fleet.duration_s == 300
    assert sum(1 for _ in utterances(brief)) == pytest.approx(20_333, rel=0.03)


def test_each_node_sends_its_heartbeats_at_its_interval() -> None:
    beats: dict[int, list[float]] = {}
    for said in utterances(FLEET):
        if said.heartbeat:
            beats.setdefault(said.node, []).append(said.at_s)
    assert sorted(beats) == list(range(20))
    assert all(np.allclose(np.diff(at_s), 1.0) for at_s in beats.values())


def test_a_shot_is_reported_by_all_in_earshot_as_sound_travels() -> None:
    alone: Fleet = msgspec.structs.replace(
        FLEET, duration_s=60.0, group=(Group(name="n", count=100, detections_per_min=0.0, heartbeat_s=0.0),)
    )
    alone = msgspec.structs.replace(alone, shots=Shots(per_min=2.0, audible_m=1_000.0))
    said = list(utterances(alone))
    at_m = fleets.places_m(alone)
    gaps = np.flatnonzero(np.diff([one.toa_s for one in said]) > 3.5)
    first = said[: gaps[0] + 1] if gaps.size else said
    # Any two of the first shot's nodes differ by no more than the sound needs from one to the other.
    for a, b in pairwise(first):
        assert abs(a.toa_s - b.toa_s) <= np.hypot(*(at_m[a.node] - at_m[b.node])) / 340.0 + 0.01
    assert len({one.node for one in first}) == len(first) >= 4


def test_the_hub_of_a_fleet_is_told_where_every_node_stands() -> None:
    site = check_site(site_of(FLEET, Mqtt()), "site")
    assert [sensor.sensor_id for sensor in site.sensor] == sensor_ids(FLEET)


# ---------------------------------------------------------------------------------------------------- what became of it


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_a_ledger_knows_what_was_lost_doubled_and_late_in_any_order(
    order: list[int], lost: set[int], doubled: set[int]
) -> None:
    ledger = Ledger(late_s=5.5)
    for seq in range(12):
        ledger.publish(("a", "detection", seq), 0.0)
    arrived = [seq for seq in order if seq not in lost]
    for at_s, seq in enumerate(arrived):
        ledger.receive(("a", "detection", seq), float(at_s))
    for seq in doubled - lost:
        ledger.receive(("a", "detection", seq), 20.0)
    assert {key[2] for key in ledger.pending} == lost
    assert (ledger.received, ledger.duplicates) == (len(arrived), len(doubled - lost))
    assert ledger.late == max(0, len(arrived) - 6)
    assert ledger.strange == 0


def test_what_nobody_published_is_strange() -> None:
    ledger = Ledger(late_s=1.0)
    ledger.publish(("a", "detection", 0), 0.0)
    ledger.receive(("a", "detection", 1), 0.1)
    ledger.receive(("b", "detection", 0), 0.1)
    assert (ledger.received, ledger.duplicates, ledger.strange) == (0, 0, 2)


def test_the_least_rate_is_that_of_the_worst_ten_seconds() -> None:
    at_s = np.concatenate([np.linspace(0, 9.99, 100), np.linspace(10, 19.99, 30), np.linspace(20, 29.99, 100)])
    assert least_rate_per_s(at_s, 0.0, 30.0) == 3.0


# ------------------------------------------------------------------------------------------------------------- live


def test_the_broker_bears_a_small_fleet_and_every_message_is_accounted_for(broker: EmbeddedBroker) -> None:
    account = run_fleet(FLEET, broker.mqtt)
    kinds = Counter(said.heartbeat for said in utterances(FLEET))
    assert account.nodes == 25
    assert account.published == kinds.total() > 150
    assert account.complete
    assert (account.received, account.acknowledged) == (account.published, account.published)
    assert account.puback_s["p50"] <= account.puback_s["max"]


def acknowledge(mqtt: Mqtt, ended: threading.Event) -> None:
    """Be a hub that loses every sensor's first detection, and asks for it once it has seen the next."""
    newest: dict[str, int] = {}
    asked: set[str] = set()
    with Connection(mqtt, client_id="hub", subscriptions=[topic("detection", "+")]) as hub:
        while not ended.is_set():
            for received in hub.take(0.05):
                one = received.record
                assert isinstance(one, Detection)
                newest[one.sensor_id] = max(newest.get(one.sensor_id, 0), one.seq + 1)
                missing = (0,) if one.sensor_id not in asked and one.seq else ()
                asked |= {one.sensor_id} if missing else set()
                hub.publish(
                    Ack(
                        sensor_id=one.sensor_id,
                        boot_id=one.boot_id,
                        next_seq=newest[one.sensor_id] if missing or one.sensor_id in asked else 0,
                        missing=missing,
                    )
                )


def test_nodes_send_again_what_a_hub_misses_and_forget_what_it_has(broker: EmbeddedBroker) -> None:
    ended = threading.Event()
    hub = threading.Thread(target=acknowledge, args=(broker.mqtt, ended))
    hub.start()
    few = Fleet(name="few", duration_s=4.0, hub=True, group=(Group(name="n", count=5, detections_per_min=60.0),))
    account = run_fleet(few, broker.mqtt)
    ended.set()
    hub.join()
    spoken = Counter(said.node for said in utterances(few) if not said.heartbeat)
    twice = [node for node, count in spoken.items() if count > 1]
    assert account.complete
    assert account.resent == len(twice) == account.duplicates
    assert account.hub_acknowledged == sum(spoken[node] for node in twice)


def test_a_fleet_that_is_stopped_accounts_for_what_it_said(broker: EmbeddedBroker) -> None:
    stop = threading.Event()
    threading.Timer(1.5, stop.set).start()
    account = run_fleet(msgspec.structs.replace(FLEET, duration_s=1_000.0), broker.mqtt, stop)
    assert account.talked_s < 100
    assert account.published >= account.received > 0


def test_the_topics_are_those_of_the_transport() -> None:
    assert list(fleets.TOPICS) == [topic("detection", "+"), topic("heartbeat", "+")]


def test_a_broker_that_is_not_there_is_named_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(EXAMPLE_FLEET), "--broker", "127.0.0.1:1"]) == 2
    says = capsys.readouterr().err
    assert says.startswith("agls: mqtt://127.0.0.1:1: ")
    assert says.count("\n") == 1


def test_wrong_credentials_end_a_fleet_with_a_sentence(broker: EmbeddedBroker) -> None:
    with pytest.raises(InputError, match=r"it refuses clients without mqtt\.username"):
        run_fleet(FLEET, Mqtt(url=broker.mqtt.url))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("count = 6000", "count = 0", r"line 8: group\[0\].count is 0, .*from 1 to 60000"),
        ("detections_per_min = 6\n", "per_hour = 6\n", r"line 9: group\[0\] has no key per_hour"),
        ('"yard"', '"street"', r'group\[1\].name is "street", which another group has'),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(EXAMPLE_FLEET.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        load_fleet(path)


def test_more_connections_than_the_system_allows_are_refused_before_any_is_made() -> None:
    with pytest.raises(InputError, match=r"open files, but the system allows"):
        allow_files(10**9)
