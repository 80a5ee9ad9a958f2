"""From the muzzle to bytes on the CAD's socket, with all in between as it runs: audio, nodes, broker, hub, store.

The city of `make demo` sounds in real time: twelve nodes hear samples of it, judge and publish through a mosquitto.
Around it stand other poles of the same hub, as dense as the city's own, which report background until 200 detections
arrive each second. The hub runs in a process of its own with journal, store and couriers; its CAD is a webhook that
notes when a request's first bytes came. The truth of a muzzle is the simulator's own; the bridge's share lies between
when the hub had located the shot and when those bytes were on the CAD's socket.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agls.bridge.store.opening import begin_reading, open_store
from agls.bridge.store.writing import stages_of
from agls.config import Mqtt, Sensor, SiteConfig, Subscriber
from agls.demo import City, _NodeProcesses
from agls.messages import NS_PER_S, ClockState, Detection, UtcNs
from agls.tally import TrueShot, fired_until
from agls.transport import Connection
from bench.fleet import SEARCH, mosquitto
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_row
from firmware_sim import live, scene, sources

SPACING_M = 300.0  # between the poles around the city: as dense as within it
CITY_M = 620.0  # half the side of what the simulated city takes
AROUND = 188
PER_S = 200.0
TOLD_AFTER_S = 0.6  # a node's judgement and the network
LAST_S = 12.0  # shots fired later are not judged: they may not have been told yet
SAME_S = 0.25  # an incident's first shot is one that was fired as long ago or sooner
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
READY_S = 180.0


def measure(plan: Plan) -> list[Row]:
    """Let a city sound, and watch its CAD.

    Parameters
    ----------
    plan : Plan
        In full the scene five times over (225 s), quick once.

    Returns
    -------
    list of Row
        From the muzzle to the CAD, and what it is made of.
    """
    program = shutil.which("mosquitto", path=SEARCH)
    if program is None:
        note = "needs the program mosquitto (Debian package mosquitto) in PATH or /usr/sbin"
        return [Row("muzzle to bytes on the CAD's socket: p50 [s]", math.nan, Ask(high=4.0), note=note)]
    with tempfile.TemporaryDirectory() as folder, mosquitto(program) as (mqtt, _):
        return _listen(Path(folder), mqtt, plan)


def _listen(folder: Path, mqtt: Mqtt, plan: Plan) -> list[Row]:
    city, arrived_ns = _city(), dict[str, int]()
    with _cad(arrived_ns) as url:
        site = msgspec.structs.replace(city.site, mqtt=mqtt, sensor=city.site.sensor + around(), subscriber=(
            Subscriber(subscriber_id="cad", url=url),))  # fmt: skip
        (folder / "site.json").write_bytes(msgspec.json.encode(site))
        with _hub(folder), _NodeProcesses(city, mqtt) as nodes:
            nodes.wait_ready(threading.Event())
            start_ns = nodes.begin()
            listen_s = city.period_s * (1 if plan.quick else 5)
            rate = _background(mqtt, start_ns + round(listen_s * NS_PER_S), plan.first_seed)
            heard_s = (time.time_ns() - start_ns) / NS_PER_S
            nodes.finish()
    fired = fired_until(city.truth, city.period_s, heard_s - LAST_S)
    return rows(folder / "out", site, fired, start_ns, arrived_ns, rate)


def _city() -> City:
    played = scene.load_scene(scene.DEMO_SCENE)
    shots = scene.shots(played)
    return City(
        site=scene.site_config(played),
        nodes=tuple(scene.node_configs(played)),
        open_source=partial(live.open_source, scene.DEMO_SCENE),
        truth=tuple(TrueShot(sources.name_of(one.maker), one.time_s, *one.position_m) for one in shots),
        period_s=played.duration_s,
    )


def around() -> tuple[Sensor, ...]:
    """Place the poles around the city.

    Returns
    -------
    tuple of Sensor
        The nearest `AROUND` of a grid that leaves the city out.
    """
    steps = [SPACING_M * number for number in range(-12, 13)]
    grid = [(x_m, y_m) for x_m in steps for y_m in steps if max(abs(x_m), abs(y_m)) > CITY_M]
    grid.sort(key=lambda place_m: math.hypot(*place_m))
    return tuple(
        Sensor(sensor_id=f"around-{number}", x_m=x_m, y_m=y_m, z_m=7.0)
        for number, (x_m, y_m) in enumerate(grid[:AROUND])
    )


def _background(mqtt: Mqtt, until_ns: int, seed: int) -> float:
    """Publish what the poles around hear, each by chance; say how many a second."""
    chance = np.random.default_rng([seed, 17])
    seqs = np.zeros(AROUND, int)
    mqtt = msgspec.structs.replace(mqtt, queue_limit_count=100_000)
    begun_s = told_s = time.monotonic()
    with Connection(mqtt, "bench-around", []) as line:
        while time.time_ns() < until_ns:
            time.sleep(0.02)
            now_s = time.monotonic()
            count, before_s, told_s = chance.poisson(PER_S * (now_s - told_s)), now_s - told_s, now_s
            for age_s in np.sort(chance.uniform(0, before_s, count))[::-1]:
                pole = int(chance.integers(AROUND))
                toa_ns = time.time_ns() - round((TOLD_AFTER_S + age_s) * NS_PER_S)
                line.publish(_sound(pole, int(seqs[pole]), toa_ns, chance))
                seqs[pole] += 1
        return float(seqs.sum() / (time.monotonic() - begun_s))


def _sound(pole: int, seq: int, toa_ns: int, chance: np.random.Generator) -> Detection:
    return Detection(
        sensor_id=f"around-{pole}", boot_id="b1", seq=seq, toa_ns=UtcNs(toa_ns), toa_sigma_s=1e-3, clock=CLOCK,
        level_db=float(chance.uniform(70, 100)), snr_db=float(chance.uniform(16, 40)),
        llr={"gunshot": float(chance.normal(-3.0, 2.0))},
    )  # fmt: skip


@contextmanager
def _hub(folder: Path) -> Iterator[None]:
    """Run a hub until the context ends."""
    with (folder / "hub.log").open("wb") as log:
        words = [sys.executable, "-m", "bench.muzzle", str(folder / "site.json"), str(folder / "out")]
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ)
        try:
            until_s = time.monotonic() + READY_S
            while not (folder / "out" / "fleet.json").exists():
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError((folder / "hub.log").read_text("utf-8"))
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _cad(arrived_ns: dict[str, int]) -> Iterator[str]:
    """Be a CAD that notes when it was first told of each incident; gives its address."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            self.begun_ns = time.time_ns()  # the request's first line is here
            return super().parse_request()

        def do_POST(self) -> None:
            told: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            arrived_ns.setdefault(str(told["incident"]), self.begun_ns)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def rows(
    out: Path, site: SiteConfig, fired: list[TrueShot], start_ns: int, arrived_ns: dict[str, int], rate: float
) -> list[Row]:
    """Make the rows.

    Parameters
    ----------
    out : pathlib.Path
        The hub's folder.
    site : SiteConfig
        The site.
    fired : list of TrueShot
        What was fired, since the beginning.
    start_ns : int
        The beginning, UTC.
    arrived_ns : dict of str to int
        Incident to when the CAD was first told of it, UTC.
    rate : float
        Background a second.

    Returns
    -------
    list of Row
        Figures.
    """
    engine = open_store(site.store, out, site.mqtt.realm)
    with begin_reading(engine) as db:
        times = {name: stages_of(db, name) for name in arrived_ns}
    engine.dispose()
    muzzles_ns = [start_ns + round(one.time_s * NS_PER_S) for one in fired]
    latency_s, share_ms, found = [], [], set[int]()
    for name, at_ns in arrived_ns.items():
        fired_ns, located_ns = times[name].fired_ns or 0, times[name].located_ns
        near = min(range(len(fired)), key=lambda k: abs(muzzles_ns[k] - fired_ns))
        if located_ns is not None:
            share_ms.append((at_ns - located_ns) / 1e6)
        if abs(muzzles_ns[near] - fired_ns) <= SAME_S * NS_PER_S:
            found.add(near)
            latency_s.append((at_ns - muzzles_ns[near]) / NS_PER_S)
    wrong = len(arrived_ns) - len(latency_s)
    return [
        _row("muzzle to bytes on the CAD's socket: p50 [s]", latency_s, 0.5, Ask(high=4.0)),
        _row("muzzle to bytes on the CAD's socket: p95 [s]", latency_s, 0.95, Ask(high=7.0)),
        _row("the bridge's share, from located to those bytes: p99 [ms]", share_ms, 0.99, Ask(high=250.0)),
        Row("detections of the background [1/s]", rate, ANY, AROUND),
        share_row("calls opened where nothing was fired", wrong, max(1, len(arrived_ns))),
    ]


def _row(figure: str, values: list[float], q: float, ask: Ask) -> Row:
    if not values:
        return Row(figure, math.inf, ask, note="dispatch was told of nothing")
    told = np.array(values)

    def statistic(some: Any) -> float:
        return float(np.quantile(some, q, method="higher"))

    return Row(figure, statistic(told), ask, len(told), bootstrap(told, statistic, 200), {"largest": float(told.max())})


def run_hub_alone(settings: Path, out: Path) -> None:
    """Run a hub until it is told to end: a process of its own.

    Parameters
    ----------
    settings : pathlib.Path
        The site as JSON.
    out : pathlib.Path
        Its folder.
    """
    from agls.hub import run_hub

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print(run_hub(msgspec.json.decode(settings.read_bytes(), type=SiteConfig), out, stop, resume=True))


if __name__ == "__main__":
    run_hub_alone(Path(sys.argv[1]), Path(sys.argv[2]))
