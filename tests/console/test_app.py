import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import pytest

from agls.broker import EmbeddedBroker
from agls.config import Camera, Mqtt, Origin, Sensor, SiteConfig
from agls.console.app import Serving, run_console, serve, site_map
from agls.console.board import Board
from agls.errors import InputError
from agls.fleet import Fleet, write_fleet
from agls.messages import Ellipse, Incident, UtcNs
from agls.transport import Connection

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SITE = SiteConfig(
    name="Bridge <b>Street</b>",
    origin=Origin(latitude_deg=40.44, longitude_deg=-80.0, height_m=240.0),
    sensor=(
        Sensor(sensor_id="pole-1", x_m=0.0, y_m=0.0, z_m=5.0),
        Sensor(sensor_id="pole-2", x_m=400.0, y_m=90.0, z_m=5.0),
    ),
    camera=(Camera(camera_id="cam-1", latitude_deg=40.441, longitude_deg=-80.0, height_m=250.0),),
)
HEARD = Incident(
    incident="i1", revision=0, state="probable", first_shot_ns=UtcNs(1_763_640_000 * 10**9),
    last_shot_ns=UtcNs(1_763_640_001 * 10**9), round_count=3, x_m=200.0, y_m=40.0, z_m=1.0, latitude_deg=40.44036,
    longitude_deg=-79.99764, height_m=241.0, ellipse=Ellipse(major_m=11.2, minor_m=6.0, azimuth_deg=30.0),
    p_gunshot=0.97, sensor_count=9, shot_ids=("s1",),
)  # fmt: skip


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def page(board: Board) -> Iterator[Serving]:
    with serve(SITE, board, 0, threading.Event()) as page:
        yield page
    assert not page._thread.is_alive()


def get(page: Serving, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class Stream:
    """The page's stream, read as a browser would."""

    def __init__(self, page: Serving, path: str = "/stream", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()

    def next(self) -> tuple[str, dict]:
        said: dict[str, str] = {}
        while "data" not in said:
            line = self.answer.readline().decode()
            assert line, "the stream ended"
            name, _, value = line.strip().partition(": ")
            said[name] = value
        return said["id"], json.loads(said["data"])

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self.connection.close()


@pytest.mark.parametrize("path", ["/", "/console.js", "/stream.js", "/console.css", "/api/state", "/nothing-here"])
def test_every_answer_keeps_the_page_to_itself(page, path) -> None:
    answer, body = get(page, path)
    assert answer.status == (404 if path == "/nothing-here" else 200)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert body


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_of_its_own(page) -> None:
    html = get(page, "/")[1].decode()
    assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["/console.css", "/console.js"]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", html)
    for path in ("/console.js", "/stream.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", get(page, path)[1].decode()
        )


def test_a_site_elsewhere_that_points_its_name_at_this_machine_learns_nothing(page) -> None:
    answer, body = get(page, "/api/state", Host="evil.example")
    assert answer.status == 400
    assert b"pole-1" not in body


def test_the_state_tells_the_site_and_the_latest_records(page, board) -> None:
    board.on_outbound(HEARD)
    state = json.loads(get(page, "/api/state")[1])
    assert [sensor["sensor_id"] for sensor in state["site"]["sensors"]] == ["pole-1", "pole-2"]
    assert state["site"]["cameras"][0]["y_m"] == pytest.approx(111.0, abs=0.3)
    assert [(record["type"], record["round_count"]) for record in state["records"]] == [("incident", 3)]


def test_a_site_without_a_place_on_earth_has_a_map_without_cameras() -> None:
    local = msgspec.structs.replace(SITE, origin=None)
    assert site_map(local)["cameras"] == []
    assert len(site_map(local)["sensors"]) == 2


def test_the_stream_tells_what_is_known_and_then_what_happens(page, board) -> None:
    board.on_outbound(HEARD)
    with Stream(page) as stream:
        _, first = stream.next()
        assert first["whole"]
        assert first["records"][0]["incident"] == "i1"
        board.on_outbound(msgspec.structs.replace(HEARD, revision=1, round_count=4))
        _, then = stream.next()
    assert not then["whole"]
    assert then["records"][0]["round_count"] == 4


def test_how_sensors_are_is_what_the_hub_last_wrote_and_nothing_before(board, tmp_path: Path) -> None:
    file = tmp_path / "fleet.json"
    with serve(SITE, board, 0, threading.Event(), fleet=file) as page:
        assert get(page, "/api/fleet")[1] == b"null"
        file.write_bytes(b'{"at": "2026-11-20T21:00:00.000000000Z"}')
        assert json.loads(get(page, "/api/fleet")[1]) == {"at": "2026-11-20T21:00:00.000000000Z"}


def test_a_page_that_comes_back_hears_only_what_it_missed(page, board) -> None:
    board.on_outbound(HEARD)
    with Stream(page) as stream:
        cursor, _ = stream.next()
    board.on_outbound(msgspec.structs.replace(HEARD, incident="i2"))
    with Stream(page, **{"Last-Event-ID": cursor}) as stream:
        _, missed = stream.next()
    assert not missed["whole"]
    assert [record["incident"] for record in missed["records"]] == ["i2"]


def test_a_port_that_is_taken_is_refused_in_a_sentence(page, board) -> None:
    with pytest.raises(InputError, match=f"port {page.port} .*another"):
        serve(SITE, board, page.port, threading.Event())


def test_the_page_is_served_on_this_machine_only(page) -> None:
    assert urlsplit(page.url).hostname == "127.0.0.1"


def test_stopping_ends_open_streams_and_the_thread(board) -> None:
    stop = threading.Event()
    page = serve(SITE, board, 0, stop)
    with Stream(page) as stream:
        stream.next()
        stop.set()
        assert stream.answer.read().strip() == b""
    page._thread.join(20)
    assert not page._thread.is_alive()
    board.on_outbound(HEARD)


@contextmanager
def console_at(mqtt: Mqtt, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], dict]]:
    """Run `agls console`'s function at a broker; gives a way to ask for the state."""
    stop = threading.Event()
    thread = threading.Thread(target=run_console, args=(msgspec.structs.replace(SITE, mqtt=mqtt), 0, stop))
    thread.start()
    try:
        while not (said := capsys.readouterr().out) and thread.is_alive():
            stop.wait(0.02)
        url = said.split()[-1]

        def state() -> dict:
            stop.wait(0.05)
            with urlopen(f"{url}api/state", timeout=20) as answer:  # noqa: S310 - our own page
                return json.load(answer)

        yield state
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_a_console_without_a_broker_still_opens_and_says_that_it_hears_nothing(capsys) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with console_at(Mqtt(url=f"mqtt://127.0.0.1:{unused.getsockname()[1]}"), capsys) as state:
            while state()["feed"] != "lost":
                pass


def test_a_console_beside_the_hub_shows_what_the_broker_brings(capsys, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker, console_at(broker.mqtt, capsys) as state:
        while state()["feed"] != "live":
            pass
        with Connection(broker.mqtt, "some-hub") as hub:
            revision = 0
            while not (records := state()["records"]):  # until its subscription is there
                hub.publish(msgspec.structs.replace(HEARD, revision=revision))
                revision += 1
    assert records[0]["incident"] == "i1"


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium found")
def test_a_real_browser_shows_the_incident_and_never_markup_from_outside(board, tmp_path: Path) -> None:
    board.on_outbound(HEARD)
    places_m = {"pole-1": (0.0, 0.0, 5.0), "pole-2": (400.0, 90.0, 5.0)}
    write_fleet(Fleet(SITE, places_m).state(time.time_ns()), tmp_path)
    with serve(SITE, board, 0, threading.Event(), fleet=tmp_path / "fleet.json") as page:
        dom = shown_by_a_browser(page, tmp_path)
    assert 'class="feed live"' in dom
    assert "Bridge &lt;b&gt;Street&lt;/b&gt;" in dom
    for words in ("3 rounds", "40.44036, -79.99764 · within 12 m", "p 0.97 · heard by 9 sensors"):
        assert words in dom
    assert "0 of 2 sensors can be relied on" in dom
    assert dom.count("pole-2: never heard") == 1
    assert dom.count('class="sensor bad"') == 3  # two on the map, one in the legend
    assert 'class="ring"' in dom


def shown_by_a_browser(page: Serving, folder: Path) -> str:
    """Open the page, and give what a browser made of it."""
    shown = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}", "--virtual-time-budget=4000",
         "--enable-logging=stderr", "--dump-dom", page.url],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in re.sub(r".*favicon.*", "", shown.stderr)
    return shown.stdout
