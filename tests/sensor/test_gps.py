"""gpsd: what it says is understood, what it should not say does no harm, and it may come, go and hang as it likes."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.messages import parse_utc
from agls.sensor.gps import MAX_LINE_BYTES, Gpsd, Receiver, with_gps
from agls.sensor.health import Machine

PATIENCE_S = 20.0
S = 10**9
NOON_NS = parse_utc("2026-11-20T12:00:00Z")
VERSION = {"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3, "proto_minor": 14}
TPV = {
    "class": "TPV", "device": "/dev/ttyACM0", "mode": 3, "time": "2026-11-20T12:00:00.000Z", "ept": 0.005,
    "lat": 40.4406, "lon": -79.9959, "altHAE": 230.1, "epx": 2.1, "epy": 2.6, "epv": 5.1, "eph": 3.4, "speed": 0.02,
}  # fmt: skip
SKY = {"class": "SKY", "device": "/dev/ttyACM0", "hdop": 0.9, "nSat": 14, "uSat": 9, "satellites": []}
PPS = {"class": "PPS", "device": "/dev/pps0", "real_sec": 1, "real_nsec": 0, "clock_sec": 1, "clock_nsec": 9}


def line(report: object) -> bytes:
    return json.dumps(report).encode() + b"\r\n"


def told(*reports: dict[str, Any], wall_ns: int = NOON_NS) -> Receiver:
    receiver = Receiver()
    for number, report in enumerate(reports):
        receiver.feed(line(report), number * S, wall_ns)
    return receiver


def test_place_satellites_and_pulse_are_known_with_their_ages() -> None:
    state = told(VERSION, SKY, TPV, PPS).state(5 * S)
    assert state.fix is not None
    assert (state.fix.latitude_deg, state.fix.longitude_deg, state.fix.sigma_m) == (40.4406, -79.9959, 3.4)
    assert (state.fix_age_s, state.pulse_age_s, state.satellites_count) == (3.0, 2.0, 9)


def test_a_receiver_without_a_fix_has_no_place_and_an_old_one_is_of_the_past() -> None:
    assert told(TPV | {"mode": 1}).state(S).fix is None
    known = told(TPV)
    assert known.state(9 * S).fix is not None
    assert known.state(11 * S).fix is None
    assert known.state(11 * S).fix_age_s == 11.0


def test_a_system_clock_set_back_an_hour_is_seen_against_the_receivers_time() -> None:
    assert told(TPV, wall_ns=NOON_NS - 3600 * S).state(0).system_ahead_s == -3600.0


@pytest.mark.parametrize(
    "said",
    [b"", b"{", b"[]", b"null", b'"TPV"', b'{"class":7}', b'{"class":"TPV","mode":"three"}', b"\xff\xfe", b"[" * 5000,
     line(TPV | {"lat": 95.0}), line(TPV | {"lat": "north"}), b'{"class":"TPV","mode":3,"lat":NaN,"lon":1}'],
    ids=range(12),
)  # fmt: skip
def test_what_no_gpsd_would_say_is_counted_and_changes_nothing(said: bytes) -> None:
    receiver = told(TPV)
    before = receiver.state(S)
    receiver.feed(said, S, NOON_NS)
    assert receiver.state(S) == before
    assert receiver.counts["gps.bad_line"] == 1


@given(
    said=st.one_of(st.binary(), st.dictionaries(st.sampled_from(list(TPV)), st.text() | st.floats() | st.integers()))
)
def test_no_line_whatever_it_holds_raises_or_gives_a_place_that_is_none(said: Any) -> None:
    receiver = Receiver()
    receiver.feed(said if isinstance(said, bytes) else line({"class": "TPV", "mode": 3} | said), 0, NOON_NS)
    fix = receiver.state(0).fix
    assert fix is None or (abs(fix.latitude_deg) <= 90 and abs(fix.longitude_deg) <= 180 and fix.sigma_m > 0)


def test_a_machine_tells_what_the_receiver_says_and_of_pulses_the_younger() -> None:
    machine = with_gps(Machine(temperature_c=50.0, pps_age_s=0.4), told(TPV, PPS).state(3 * S))
    assert (machine.temperature_c, machine.gps_age_s, machine.pps_age_s) == (50.0, 3.0, 0.4)
    assert machine.fix is not None


# ------------------------------------------------------------------------------------------------- over a real socket


class Peer:
    """Somebody at gpsd's port: does with each connection what it is told to."""

    def __init__(self, *turns: Callable[[socket.socket], None]) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.asked: list[bytes] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(turns,))
        self.thread.start()

    def _serve(self, turns: tuple[Callable[[socket.socket], None], ...]) -> None:
        for turn in turns:
            connection, _ = self.server.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                connection.sendall(line(VERSION))
                self.asked.append(connection.recv(1000))
                with suppress(OSError):
                    turn(connection)

    def hold(self) -> None:
        self.done.wait(PATIENCE_S)


@contextmanager
def listening(peer: Peer, **more: float) -> Iterator[Gpsd]:
    gpsd = Gpsd(peer.address, first_pause_s=0.05, **more)
    try:
        yield gpsd
    finally:
        gpsd.close()
        peer.done.set()
        peer.thread.join(PATIENCE_S)
        peer.server.close()


def until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def gone(connection: socket.socket) -> None:
    """Wait until the other side goes."""
    connection.recv(1)


def in_pieces(connection: socket.socket) -> None:
    for one in line(TPV) + line(PPS):
        connection.sendall(bytes([one]))


def test_gpsd_is_asked_for_json_and_pulses_and_heard_however_it_cuts_its_lines() -> None:
    peer = Peer(lambda connection: (in_pieces(connection), peer.hold())[0])
    with listening(peer) as gpsd:
        until(lambda: gpsd.state().fix and gpsd.state().pulse_age_s is not None)
        assert gpsd.trouble == ""
    assert peer.asked[0].startswith(b'?WATCH={"enable":true,"json":true')
    assert b'"pps":true' in peer.asked[0]


def test_a_gpsd_that_ends_falls_silent_or_never_ends_its_line_is_asked_anew() -> None:
    peer = Peer(
        lambda connection: connection.close(),
        gone,
        lambda connection: (connection.sendall(b"x" * (2 * MAX_LINE_BYTES)), gone(connection))[0],
        lambda connection: (connection.sendall(line(TPV)), peer.hold())[0],
    )
    with listening(peer, silent_s=0.2) as gpsd:
        until(lambda: gpsd.state().fix)
        counts = gpsd.counts
    assert counts["gps.lost"] >= 1
    assert counts["gps.silent"] >= 1
    assert counts["gps.too_long"] == 1


def test_where_there_is_no_gpsd_that_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    gpsd = Gpsd(address, first_pause_s=0.05)
    until(lambda: gpsd.counts["gps.unreachable"] >= 2)
    assert "cannot be reached" in gpsd.trouble
    gpsd.close()


def sentence(body: str) -> str:
    check = 0
    for one in body.encode():
        check ^= one
    return f"${body}*{check:02X}\r\n"


def test_the_real_gpsd_is_understood() -> None:
    if not shutil.which("gpsd"):
        pytest.skip("gpsd is not installed (apt install gpsd)")
    # A receiver of NMEA at a UDP port, which gpsd listens to without any device.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found, socket.create_server(("127.0.0.1", 0)) as free:
        found.bind(("127.0.0.1", 0))
        source, port = found.getsockname()[1], free.getsockname()[1]
    daemon = subprocess.Popen(
        ["gpsd", "-N", "-n", "-S", str(port), f"udp://127.0.0.1:{source}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    stop = threading.Event()

    def _receive() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            while not stop.wait(0.1):
                now = time.gmtime()
                moment, day = time.strftime("%H%M%S.00", now), time.strftime("%d%m%y", now)
                place = "4026.4360,N,07959.7540,W"
                line.sendto(
                    (
                        sentence(f"GPRMC,{moment},A,{place},0.0,0.0,{day},,,A")
                        + sentence(f"GPGGA,{moment},{place},1,09,0.9,230.0,M,-33.0,M,,")
                        + sentence("GPGSA,A,3,01,02,03,04,05,06,07,08,09,,,,1.5,0.9,1.2")
                    ).encode(),
                    ("127.0.0.1", source),
                )

    teller = threading.Thread(target=_receive)
    teller.start()
    gpsd = Gpsd(f"127.0.0.1:{port}", first_pause_s=0.1)
    try:
        until(lambda: gpsd.state().fix)
        state = gpsd.state()
    finally:
        gpsd.close()
        stop.set()
        teller.join()
        daemon.terminate()
        daemon.communicate(timeout=PATIENCE_S)
    assert state.fix is not None
    assert state.fix.latitude_deg == pytest.approx(40.4406)
    assert state.fix.longitude_deg == pytest.approx(-79.9959)
    assert state.system_ahead_s == pytest.approx(0, abs=3)
    assert gpsd.counts["gps.bad_line"] == 0
