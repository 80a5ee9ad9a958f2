"""Couriers in virtual time: order, retries, dead letters, and nobody waits for another."""

import json
import random
import threading
import time
from collections import defaultdict
from itertools import pairwise

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agls.bridge import formats, people
from agls.bridge.outbox import Courier, Outbox
from agls.bridge.record import IncidentRecord
from agls.bridge.sender import Answer, open_sender
from agls.bridge.store import queue
from agls.config import Subscriber
from agls.errors import InputError

NOON_NS = 1_545_220_800_000_000_000
S = 10**9
HOUR_NS = 3600 * S
CAD = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/", max_delay_s=900.0)
RTCC = Subscriber(subscriber_id="rtcc", url="http://127.0.0.1:9/", told="every", max_delay_s=604_800.0)


class Peer:
    """A receiver that answers as told, and keeps what it took, once for each key."""

    def __init__(self, answer=lambda *_: Answer("sent", "HTTP 200")) -> None:
        self.answer = answer
        self.taken: list[tuple[str, dict]] = []
        self.tries = 0

    def send(self, document: bytes, key: str) -> Answer:
        self.tries += 1
        answer = self.answer(json.loads(document), key)
        if answer.outcome == "sent" and key not in [known for known, _ in self.taken]:
            self.taken.append((key, json.loads(document)))
        return answer

    def close(self) -> None:
        pass

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.taken]


def courier(book, subscriber: Subscriber, peer: Peer) -> Courier:
    return Courier(book, subscriber, peer, formats.load("cad")[0])


def run(one: Courier, from_ns: int, until_ns: int) -> None:
    """Let a courier work from one moment to another, as its thread would."""
    now_ns = from_ns
    while now_ns < until_ns:
        again_ns = one.turn(now_ns)
        if not again_ns:
            return
        now_ns = max(again_ns, now_ns + 1_000_000)


def dead(book) -> list[tuple[str, str]]:
    with book.engine.connect() as db:
        return [(one.key, one.answer) for one in queue.letters_of(db, state="dead")]


def state(book) -> list[tuple[str, str, str]]:
    with book.engine.connect() as db:
        return [(one.key, one.state, one.answer) for one in queue.letters_of(db)]


def test_a_document_arrives_once_and_its_answer_is_kept(open_book, said, incident) -> None:
    book, peer = open_book(subscriber=(CAD,)), Peer(lambda *_: Answer("sent", "HTTP 200", "26-17"))
    book.enter([said(incident(), 1.0)], NOON_NS + S)
    run(courier(book, CAD, peer), NOON_NS + 2 * S, NOON_NS + HOUR_NS)
    assert peer.keys == ["i20181219-1.0"]
    told = peer.taken[0][1]
    assert (told["status"], told["round_count"], told["exercise"]) == ("open", 3, False)
    assert told["caution"] == "unverified acoustic indication; not by itself grounds to stop a person"
    assert state(book) == [("i20181219-1.0", "delivered", "HTTP 200 26-17")]
    record = book.record("i20181219-1")
    assert (record.state, record.acknowledgements[0].call_number) == ("acknowledged", "26-17")


def test_every_stage_s_time_is_kept_and_a_budget_broken_is_said(open_book, said, incident) -> None:
    book, peer = open_book(subscriber=(CAD,)), Peer()
    batch = said(incident(), 3.0)
    book.enter([batch], NOON_NS + round(3.1 * S))
    one = courier(book, CAD, peer)
    run(one, NOON_NS + 9 * S, NOON_NS + HOUR_NS)
    record = book.record("i20181219-1")
    times = record.stages
    passed = [times.fired_ns, times.received_ns, times.due_ns, times.located_ns, times.stored_ns, times.sent_ns]
    assert [(at_ns - NOON_NS) / S for at_ns in passed] == [0.0, 2.0, 3.0, 3.05, 3.1, 9.0]
    assert [(over.stage, over.taken_s, over.budget_s) for over in record.overruns] == [("bridge", 5.95, 0.25)]
    assert one.counts["over_budget.bridge"] == 1


def test_a_dead_peer_is_waited_for_with_growing_pauses_and_hears_all_in_order(open_book, said, incident) -> None:
    book, tried = open_book(subscriber=(CAD,)), []

    def answer(_document, _key):
        return Answer("away", "refused") if len(tried) < 8 else Answer("sent", "HTTP 200")

    peer = Peer(answer)
    book.enter([said(incident(incident=f"I{n}", shot_ids=(f"s{n}",)), n / 10) for n in range(5)], NOON_NS)
    one, now_ns = courier(book, CAD, peer), NOON_NS + S
    while again_ns := one.turn(now_ns):
        tried.append(now_ns)
        now_ns = max(again_ns, now_ns)
    pauses_s = [(b - a) / S for a, b in pairwise(tried[:9])]
    assert all(
        0.5 * wanted <= pause <= 1.5 * wanted
        for pause, wanted in zip(pauses_s, (0.5, 1, 2, 4, 8, 16, 30, 30), strict=True)
    )
    assert peer.keys == [f"I{n}.0" for n in range(5)]


def test_a_refused_document_is_a_dead_letter_and_the_next_one_is_told(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD,))
    peer = Peer(lambda document, _: Answer("refused" if document["incident"] == "I1" else "sent", "HTTP 422"))
    book.enter([said(incident(incident=name, shot_ids=(f"s{name}",)), 1.0) for name in ("I1", "I2")], NOON_NS)
    run(courier(book, CAD, peer), NOON_NS + S, NOON_NS + HOUR_NS)
    assert peer.keys == ["I2.0"]
    assert dead(book) == [("I1.0", "HTTP 422")]


def test_a_document_that_troubles_its_peer_steps_aside_and_its_own_revisions_stay_behind_it(
    open_book, said, incident
) -> None:
    book = open_book(subscriber=(CAD,))
    peer = Peer(lambda _, key: Answer("troubled" if key == "I1.0" and peer.tries < 7 else "sent", "HTTP 500"))
    book.enter([said(incident(incident=name, shot_ids=(f"s{name}",)), 1.0) for name in ("I1", "I2")], NOON_NS)
    book.enter([said(incident(incident="I1", revision=1, round_count=9, shot_ids=("sI1",)), 2.0)], NOON_NS)
    one = courier(book, CAD, peer)
    one.turn(NOON_NS + 3 * S)
    book.enter([said(incident(incident="I1", revision=2, round_count=31, shot_ids=("sI1",)), 3.0)], NOON_NS)
    run(one, NOON_NS + 3 * S, NOON_NS + HOUR_NS)
    assert peer.keys == ["I2.0", "I1.0", "I1.1", "I1.2"]


def test_what_is_too_late_is_a_dead_letter_by_name_and_the_next_word_opens(open_book, said, incident) -> None:
    book, peer = open_book(subscriber=(CAD,)), Peer()
    book.enter([said(incident(), 1.0)], NOON_NS)
    book.enter([said(incident(revision=1, round_count=9), 500.0)], NOON_NS)
    run(courier(book, CAD, peer), NOON_NS + 1000 * S, NOON_NS + HOUR_NS)
    assert dead(book) == [("i20181219-1.0", "too_late")]
    assert [(key, told["status"]) for key, told in peer.taken] == [("i20181219-1.1", "open")]


def test_nothing_is_cancelled_that_was_never_told(open_book, said, incident) -> None:
    book, peer = open_book(subscriber=(CAD,)), Peer()
    book.enter([said(incident(), 1.0)], NOON_NS)
    book.enter([said(incident(revision=1, state="withdrawn"), 500.0)], NOON_NS)
    run(courier(book, CAD, peer), NOON_NS + 1000 * S, NOON_NS + HOUR_NS)
    assert dead(book) == [("i20181219-1.0", "too_late"), ("i20181219-1.1", "nothing_to_cancel")]
    assert peer.taken == []


def test_a_record_that_a_format_cannot_say_is_a_dead_letter_and_the_next_one_is_told(open_book, said, incident) -> None:
    def document(record: IncidentRecord) -> bytes:
        return b"{}" if record.incident == "I2" else 1 // 0  # type: ignore[return-value]

    book, peer = open_book(subscriber=(CAD,)), Peer()
    book.enter([said(incident(incident=name, shot_ids=(f"s{name}",)), 1.0) for name in ("I1", "I2")], NOON_NS)
    run(Courier(book, CAD, peer, document), NOON_NS + S, NOON_NS + HOUR_NS)
    assert peer.keys == ["I2.0"]
    assert dead(book) == [("I1.0", "unwritable: ZeroDivisionError")]


def test_a_store_that_is_away_loses_nothing_and_what_was_said_is_said_again_under_its_key(
    open_book, said, incident, monkeypatch
) -> None:
    book, peer = open_book(subscriber=(CAD,)), Peer()
    book.enter([said(incident(), 1.0)], NOON_NS)
    one = courier(book, CAD, peer)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "delivered", _away)
        one.turn(NOON_NS + S)
    assert one.counts["store_away"] == 1
    run(one, NOON_NS + 2 * S, NOON_NS + HOUR_NS)
    assert (peer.tries, peer.keys) == (2, ["i20181219-1.0"])


def _away(*_: object, **__: object) -> None:
    raise sa.exc.OperationalError("select 1", {}, Exception("gone"))


def test_probable_gunfire_is_told_first_and_none_of_500_incidents_is_lost(open_book, said, incident) -> None:
    book, chance = open_book(subscriber=(msgspec.structs.replace(CAD, max_delay_s=36_000.0),)), random.Random(3)  # noqa: S311
    waiting: dict[str, bool] = {}  # of what is queued, whether it is probable
    behind: list[str] = []

    def answer(document, _key):
        is_probable = waiting.pop(document["incident"])
        if not is_probable and any(waiting.values()):
            behind.append(document["incident"])
        return Answer("sent", "HTTP 200")

    peer = Peer(answer)
    one, now_ns, done_ns = courier(book, book.subscribers[0], peer), NOON_NS, NOON_NS
    for number in range(500):
        now_ns += HOUR_NS // 500
        name, is_probable = f"I{number:03d}", chance.random() < 0.5
        told = incident(
            incident=name, state="probable" if is_probable else "possible", shot_ids=(f"s{number}",),
            first_shot_ns=now_ns - 3 * S, last_shot_ns=now_ns - 3 * S,
        )  # fmt: skip
        book.enter([said(told, (now_ns - NOON_NS) / S)], now_ns)
        waiting[name] = is_probable
        while done_ns < now_ns:  # a dispatcher who takes twelve seconds for each
            one.turn(now_ns)
            done_ns += 12 * S
    run(one, now_ns, now_ns + HOUR_NS)
    assert (len(peer.keys), behind, waiting) == (500, [], {})


def test_a_day_with_a_dead_peer_is_told_in_order_as_far_as_it_is_worth_it_and_others_never_waited(
    open_book, said, incident
) -> None:
    cad = msgspec.structs.replace(CAD, max_delay_s=3600.0)
    book, up_ns = open_book(subscriber=(cad, RTCC)), NOON_NS + 24 * HOUR_NS
    cad_peer, rtcc_peer = Peer(), Peer()
    couriers = courier(book, cad, cad_peer), courier(book, RTCC, rtcc_peer)
    now_ns, again_ns = NOON_NS, [0, 0]
    cad_peer.answer = lambda *_: Answer("away", "refused") if now_ns < up_ns else Answer("sent", "HTTP 200")
    for number in range(200):
        now_ns = NOON_NS + number * 24 * HOUR_NS // 200
        told = incident(
            incident=f"I{number:03d}", shot_ids=(f"s{number}",), first_shot_ns=now_ns - S, last_shot_ns=now_ns - S
        )
        book.enter([said(told, (now_ns - NOON_NS) / S)], now_ns)
        for which, one in enumerate(couriers):
            for _ in range(3):
                if again_ns[which] <= now_ns:
                    again_ns[which] = one.turn(now_ns)
        assert len(rtcc_peer.keys) == number + 1
    now_ns = up_ns
    run(couriers[0], up_ns, up_ns + HOUR_NS)
    late = [number for number in range(200) if number * 24 * HOUR_NS // 200 + HOUR_NS < up_ns - NOON_NS]
    assert cad_peer.keys == [f"I{number:03d}.0" for number in range(200) if number not in late]
    assert len(cad_peer.keys) >= 8
    assert dead(book) == [(f"I{number:03d}.0", "too_late") for number in late]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["sent", "lost", "troubled", "away", "later"])), max_size=40
    )
)
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_whatever_befalls_a_peer_it_hears_each_incident_in_order_once_and_all_of_it(
    open_book, said, incident, history
) -> None:
    """``lost``: the peer took it and its answer was lost. ``later``: an incident changes meanwhile."""
    book, revisions = open_book(subscriber=(CAD,)), defaultdict(int)
    _forget(book)
    outcomes = [outcome for _, outcome in history]

    def answer(_document, key):
        outcome = outcomes.pop(0) if outcomes else "sent"
        if outcome == "lost":
            peer.taken += [] if key in peer.keys else [(key, _document)]
            return Answer("away", "lost")
        return Answer("sent" if outcome == "later" else outcome, outcome)

    peer = Peer(answer)
    one, now_ns = courier(book, CAD, peer), NOON_NS + S
    for which, _ in [*history, (0, "later")]:
        name = f"I{which}"
        told = incident(
            incident=name, revision=revisions[name], round_count=1 + revisions[name], shot_ids=(f"s{name}",)
        )
        book.enter([said(told, (now_ns - NOON_NS) / S)], now_ns)
        revisions[name] += 1
        now_ns = max(one.turn(now_ns), now_ns) + 10_000_000
    run(one, now_ns, now_ns + 200 * S)
    heard = defaultdict(list)
    for key in peer.keys:
        heard[key.split(".")[0]].append(int(key.split(".")[1]))
    assert heard == {name: list(range(count)) for name, count in revisions.items()}


def _forget(book) -> None:
    from agls.bridge.store import tables

    with book.engine.begin() as db:
        for table in reversed(tables.metadata.sorted_tables):
            if table is not tables.realm:
                db.execute(sa.delete(table))


# ------------------------------------------------------------------------------------------------------- threads


def test_a_subscriber_that_stops_answering_delays_nobody(open_book, said, incident, monkeypatch) -> None:
    book, released = open_book(subscriber=(CAD, RTCC)), threading.Event()
    stuck, quick = Peer(lambda *_: (released.wait(30), Answer("sent", "HTTP 200"))[1]), Peer()
    heard = threading.Event()
    quick.answer = lambda *_: (heard.set(), Answer("sent", "HTTP 200"))[1]
    peers = {"cad": stuck, "rtcc": quick}
    monkeypatch.setattr(
        "agls.bridge.outbox.open_sender", lambda one: (peers[one.subscriber_id], formats.load("cad")[0])
    )
    outbox, now_ns = Outbox(book), time.time_ns()
    outbox.start()
    told = incident(first_shot_ns=now_ns - S, last_shot_ns=now_ns - S)
    book.enter([said(told, (now_ns - NOON_NS) / S)], now_ns)
    outbox.wake()
    try:
        assert heard.wait(20)
        assert stuck.taken == []
    finally:
        released.set()
        outbox.close()
    assert outbox.counts["rtcc.delivered"] == 1


@pytest.mark.parametrize(
    ("otherwise", "complaint"),
    [
        ({"kind": "pigeon"}, "kind = 'pigeon'; accepted are .*webhook"),
        ({"format": "poem"}, "format = 'poem'; accepted are .*cad"),
        ({"url": "gopher://x"}, "not usable"),
    ],
)
def test_a_subscriber_that_cannot_be_reached_as_its_table_says_is_refused_in_a_sentence(otherwise, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        open_sender(msgspec.structs.replace(CAD, **otherwise))


def test_an_acknowledgement_in_an_answer_is_noted_once(open_book, said, incident) -> None:
    book, peer = open_book(subscriber=(CAD, RTCC)), Peer(lambda *_: Answer("sent", "HTTP 200", "26-17"))
    book.enter([said(incident(), 1.0)], NOON_NS)
    people.correct(book, "i20181219-1", "R", "x", round_count=9, now_ns=NOON_NS + 2 * S)
    run(courier(book, CAD, peer), NOON_NS + 3 * S, NOON_NS + HOUR_NS)
    assert peer.keys == ["i20181219-1.0", "i20181219-1.1"]
    assert len(book.record("i20181219-1").acknowledgements) == 1
