"""How many nodes one mosquitto and one process bear, every message accounted for."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec

from agls.config import Mqtt
from bench.rows import ANY, Ask, Plan, Row
from firmware_sim.fleet import EXAMPLE_FLEET, Account, Fleet, Group, load_fleet, run_fleet

SEARCH = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
START_S = 10.0
# What a site's broker is told too: shed nothing that a listener is slow to take, but for what memory bounds.
SETTINGS = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type none
user root
max_queued_messages 0
max_queued_bytes 100000000
max_inflight_messages 0
"""


@contextmanager
def mosquitto(program: str) -> Iterator[tuple[Mqtt, int]]:
    """Run a mosquitto on loopback.

    Parameters
    ----------
    program : str
        Its path.

    Yields
    ------
    mqtt : Mqtt
        How to reach it.
    pid : int
        Its process.
    """
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(SETTINGS.format(port=port), "utf-8")
        # A session of its own: the system shares processors out among sessions, and Ctrl-C ends it last.
        process = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait(port)
            yield Mqtt(url=f"mqtt://127.0.0.1:{port}"), process.pid
        finally:
            process.terminate()
            process.wait()


def _wait(port: int) -> None:
    until_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            return


def _peak_mib(pid: int) -> float:
    """Read the largest memory a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), math.nan)


def measure(plan: Plan) -> list[Row]:
    """Let a fleet talk through mosquitto.

    Parameters
    ----------
    plan : Plan
        In full the fleet of ``firmware_sim/fleet.toml``; quick 500 nodes, 200 messages a second, 20 s.

    Returns
    -------
    list of Row
        Connections, rates, what became of the messages, times and costs.
    """
    program = shutil.which("mosquitto", path=SEARCH)
    if program is None:
        note = "needs the program mosquitto (Debian package mosquitto) in PATH or /usr/sbin"
        return [Row("messages neither lost nor doubled", math.nan, Ask(1.0, 1.0), note=note)]
    small = Fleet(name="quick", duration_s=20.0, group=(Group(name="node", count=500, detections_per_min=23.0),))
    chosen = small if plan.quick else load_fleet(EXAMPLE_FLEET)
    fleet: Fleet = msgspec.structs.replace(chosen, seed=plan.first_seed)
    with mosquitto(program) as (mqtt, pid):
        account = run_fleet(fleet, mqtt)
        return rows(fleet, account, 200.0 if plan.quick else 2_000.0, _peak_mib(pid))


def rows(fleet: Fleet, account: Account, per_s: float, broker_mib: float) -> list[Row]:
    """Make the rows of a fleet's account.

    Parameters
    ----------
    fleet : Fleet
        Who was to say how much.
    account : Account
        What became of it.
    per_s : float
        Messages a second that are asked for.
    broker_mib : float
        The broker's largest memory [MiB].

    Returns
    -------
    list of Row
        The rows.
    """
    nodes = sum(group.count for group in fleet.group)
    wrong = account.lost + account.duplicates + account.strange
    kept = 1 - wrong / max(1, account.published)
    detail = asdict(account)
    return [
        Row("connections at once", account.nodes, Ask(low=nodes), account.nodes),
        # Times are drawn at random, so ten seconds hold a little more or less.
        Row("QoS 1 messages/s, in the worst 10 s", account.least_per_s, Ask(low=0.95 * per_s), account.published),
        Row("QoS 1 messages/s", account.rate_per_s, Ask(low=per_s), account.published, detail=detail),
        Row("share received exactly once", kept, Ask(1.0, 1.0), account.published),
        Row("share acknowledged by the broker", account.acknowledged / max(1, account.published), Ask(1.0, 1.0)),
        Row("PUBACK after: p99 [ms]", 1e3 * account.puback_s["p99"], ANY, account.acknowledged),
        Row("listener after: p99 [ms]", 1e3 * account.delivery_s["p99"], ANY, account.received),
        Row(f"later than {fleet.late_s:g} s", account.late, ANY, account.received),
        Row("this process late to publish by at most [ms]", 1e3 * account.behind_s, ANY),
        Row("share of a core, nodes and listener", account.processor_share, ANY),
        Row("memory of nodes and listener [MiB]", account.memory_mib, ANY),
        Row("memory of mosquitto [MiB]", broker_mib, ANY),
    ]
