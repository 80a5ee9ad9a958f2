"""systemd is told that the node is ready, and alive while samples advance: over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agls.classify.model import load_model
from agls.config import NodeConfig
from agls.messages import Block, ClockState
from agls.pipeline import Node
from agls.sensor.clock import SteadyClock
from agls.sensor.outbox import Outbox
from agls.sensor.shell import Around, NodeShell
from agls.sensor.store import MEMORY, Store
from agls.systemd import Supervisor

RATE_HZ, BLOCK = 48_000, 1001
S = 10**9


class Systemd:
    """The end of the socket that systemd listens at."""

    def __init__(self, address: str) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(address)
        self.line.setblocking(False)

    def heard(self) -> list[str]:
        told = []
        while True:
            try:
                told.append(self.line.recv(4096).decode())
            except BlockingIOError:
                return told


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.line.close()


def test_what_is_told_arrives_at_the_socket_named_in_the_environment(systemd: Systemd, tmp_path: Path) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")}).tell("READY=1", "STATUS=hears")
    assert systemd.heard() == ["READY=1\nSTATUS=hears"]


def test_a_socket_without_a_file_is_found_too() -> None:
    name = f"agls-test-{os.getpid()}"
    made = Systemd("\0" + name)
    Supervisor({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
    assert made.heard() == ["READY=1"]
    made.line.close()


def test_where_nobody_listens_nothing_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    Supervisor({}).tell("READY=1")
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


def test_the_watchdog_is_fed_some_times_in_each_period_and_no_more(systemd: Systemd, tmp_path: Path) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
    for now_ns in range(0, 60 * S, S // 50):
        supervisor.alive(now_ns)
    assert systemd.heard() == ["WATCHDOG=1"] * 8


@pytest.mark.parametrize("wrong", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_of_another_process_is_not_fed(systemd: Systemd, tmp_path: Path, wrong: dict[str, str]) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "9000000"} | wrong).alive(0)
    assert systemd.heard() == []


@pytest.mark.parametrize("frozen", ["no samples", "zeros", "one value"])
def test_the_watchdog_is_not_fed_while_the_card_is_frozen_and_is_again_after(
    systemd: Systemd, tmp_path: Path, frozen: str
) -> None:
    now_ns = 10**12
    config = NodeConfig(sensor_id="pole-1")
    node = Node(config, SteadyClock(0, RATE_HZ, ClockState(mode="file", sigma_s=1e-4)), load_model(), "boot")
    supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"})
    around = Around(supervisor=supervisor, clock_ns=lambda: now_ns, trouble=lambda: "it is frozen")
    store = Store(MEMORY)
    shell = NodeShell(config, node, Outbox(store, 100, boot_id="boot"), store, around=around)
    chance = np.random.default_rng(3)
    sound = 1e-3 * chance.standard_normal(BLOCK).astype(np.float32)
    still = {
        "no samples": np.zeros(0, np.float32),
        "zeros": np.zeros(BLOCK, np.float32),
        "one value": np.full(BLOCK, sound[-1], np.float32),
    }[frozen]
    fed = []
    for samples, duration_s in ((sound, 10.0), (still, 20.0), (sound, 5.0)):
        end_ns = now_ns + round(duration_s * S)
        while now_ns < end_ns:
            now_ns += BLOCK * S // RATE_HZ
            shell.hear(Block(samples, 0, RATE_HZ))
        fed.append(systemd.heard())
    counts = [said.count("WATCHDOG=1") for said in fed]
    # Until it is known to be deaf it is fed; from then on not once in 18 seconds.
    assert counts[0] >= 8
    assert counts[1] <= 2
    assert counts[2] >= 4
    assert "STATUS=deaf: it is frozen" in fed[1]
    assert any(said.startswith("STATUS=hears") for said in fed[2])
    store.close()
