"""PortAudio: devices by name without a card; and, where PulseAudio is installed, a real stream through a null sink.

A null sink is no clock (its stamps are of another clock and 3 % fast), so it is judged for deafness and recovery alone.
"""

import itertools
import os
import queue
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agls.config import Microphone
from agls.errors import InputError
from agls.sensor.card import BLOCK_FRAMES
from agls.sensor.portaudio import INSTALL, CallbackQueue, card_numbers, choose_device

PATIENCE_S = 20.0
DEVICES = [
    {"name": "USB Audio Device: - (hw:1,0)", "max_input_channels": 1},
    {"name": "snd_rpi_i2s: dai (hw:2,0)", "max_input_channels": 2},
    {"name": "HDMI 0: - (hw:0,0)", "max_input_channels": 0},
    {"name": "pulse", "max_input_channels": 32},
    {"name": "default", "max_input_channels": 32},
]
NUMBERS = {"HDMI": 0, "Device": 1, "sndrpii2s": 2}


@pytest.mark.parametrize(
    ("name", "place"),
    [("hw:Device", 0), ("hw:CARD=Device,DEV=0", 0), ("hw:sndrpii2s,0", 1), ("usb audio", 0), ("i2s", 1)],
)
def test_a_device_is_found_by_a_name_that_stays(name: str, place: int) -> None:
    assert choose_device(name, DEVICES, NUMBERS) == place


@pytest.mark.parametrize("name", ["", "1", "hw:1", "hw:1,0"])
def test_numbers_of_cards_are_refused_as_they_change(name: str) -> None:
    with pytest.raises(InputError, match="change from start to start") as caught:
        choose_device(name, DEVICES, NUMBERS)
    assert "Device" in str(caught.value)


@pytest.mark.parametrize("name", ["pulse", "default", "sysdefault:CARD=Device", "plughw:Device"])
def test_what_cannot_be_timed_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be timed"):
        choose_device(name, DEVICES, NUMBERS)


def test_what_cannot_be_timed_is_accepted_where_forced() -> None:
    assert choose_device("pulse", DEVICES, NUMBERS, forced=True) == 3


def test_a_name_that_may_be_several_is_refused_and_one_that_is_not_there_may_still_come() -> None:
    with pytest.raises(InputError, match="any of 2 devices"):
        choose_device("hw", DEVICES, NUMBERS)
    with pytest.raises(OSError, match="Scarlett"):
        choose_device("Scarlett", DEVICES, NUMBERS)
    with pytest.raises(OSError, match="no card USB"):
        choose_device("hw:USB", DEVICES, NUMBERS)


def test_the_kernels_names_of_cards_are_read(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(
        " 0 [HDMI           ]: HDA-Intel - HDA\n                      at 0xf7\n 1 [Device         ]: USB-Audio - USB\n"
    )
    assert card_numbers(tmp_path) == {"HDMI": 0, "Device": 1}
    assert card_numbers(tmp_path / "missing") == {}


def test_callbacks_are_heard_a_few_at_a_time_with_the_stamps_they_were_given() -> None:
    waiting = CallbackQueue(48_000.0, BLOCK_FRAMES, 1)
    for number in range(1, 6):
        waiting.put(np.full((BLOCK_FRAMES, 1), number, np.float32), adc_s=float(number), overflow=number == 3)
    callbacks = iter(waiting)
    heard = [next(callbacks) for _ in range(5)]
    assert [one.adc_s for one in heard] == [1.0, 2.0, 3.0, 4.0, 0.0]  # the fifth waits for the sixth
    assert [one.overflow for one in heard] == [False, False, True, False, False]
    assert [one.frames.size for one in heard] == 4 * [BLOCK_FRAMES] + [0]
    assert all(one.monotonic_ns <= two.monotonic_ns for one, two in itertools.pairwise(heard))


def test_what_nobody_takes_in_time_is_lost_and_told_with_the_next() -> None:
    waiting, frames = CallbackQueue(48_000.0, BLOCK_FRAMES, 1), np.zeros((BLOCK_FRAMES, 1), np.float32)
    for number in range(400):
        waiting.put(frames, adc_s=float(number), overflow=False)
    callbacks = iter(waiting)
    kept = [next(callbacks) for _ in range(200)]
    assert not any(one.overflow for one in kept)
    for number in range(400, 440):
        waiting.put(frames, adc_s=float(number), overflow=False)
    last = [next(callbacks) for _ in range(80)]
    assert [one.adc_s for one in last if one.overflow] == [400.0]


def test_without_portaudio_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from agls.sensor.portaudio import open_microphone

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError) as caught:
        open_microphone(Microphone(device="hw:Device"))
    assert str(caught.value) == INSTALL
    assert "apt install libportaudio2" in INSTALL


# ------------------------------------------------------------------------------------------------ through PulseAudio

# Runs in a process of its own: PortAudio and ALSA read their surroundings once.
LISTENER = textwrap.dedent("""
    import sys, time
    from agls.config import Microphone
    from agls.sensor.portaudio import open_microphone
    from agls.sensor.health import Hearing

    source = open_microphone(Microphone(device="pulse", forced=True))
    hearing, was = Hearing(120.0, time.monotonic_ns()), None
    for block in source.blocks():
        now_ns = time.monotonic_ns()
        hearing.feed(block, now_ns)
        heard = bool(block.samples.size) and float(block.samples.min()) != float(block.samples.max())
        state = "deaf" if hearing.is_deaf(now_ns) else "hears" if heard else was
        if state != was:
            was = state
            print(state, dict(source.counts), flush=True)
""")


class Server:
    """A PulseAudio server of its own, with a sink that plays noise to nobody but its monitor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".asoundrc").write_text("pcm.pulse { type pulse }\nctl.pulse { type pulse }\n")
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "PULSE_RUNTIME_PATH": str(runtime),
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.start(
            "pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n", "--disable-shm=yes",
            "-L", "module-native-protocol-unix", "-L", "module-always-sink",
        )  # fmt: skip
        self.until(lambda: self.control("info").returncode == 0)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        made = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.PIPE, text=True
        )
        log.close()
        self.processes.append(made)
        return made

    def control(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["pactl", *words], env=self.environment, capture_output=True, text=True)

    def plug(self) -> None:
        """Load the sink, play noise to it, and record from it by default."""
        self.sink = self.control("load-module", "module-null-sink", "sink_name=bench", "rate=48000").stdout.strip()
        assert self.sink.isdigit()
        self.control("set-default-source", "bench.monitor")
        self.player = self.start(
            "sh", "-c", "exec pacat --latency-msec=40 --device=bench --rate=48000 --channels=1 </dev/urandom"
        )

    def unplug(self) -> None:
        """Take the sink away: whoever recorded from it gets the zeros of another one, without a word."""
        self.player.kill()
        self.control("unload-module", self.sink)

    @staticmethod
    def until(holds: Callable[[], bool], patience_s: float = 20.0) -> None:
        end_s = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < end_s, "waited in vain"
            time.sleep(0.05)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait(10)
            for pipe in (process.stdout, process.stdin):
                if pipe:
                    pipe.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    missing = [name for name in ("pulseaudio", "pactl", "pacat") if not shutil.which(name)]
    plugin = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    if missing or not plugin:
        pytest.skip(
            "PulseAudio is not installed (apt install pulseaudio pulseaudio-utils libasound2-plugins);"
            f" missing: {', '.join(missing) or 'the ALSA plugin'}"
        )
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip(INSTALL)
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def test_a_stream_that_goes_dead_is_noticed_and_heard_again_when_it_is_back(server: Server) -> None:
    server.plug()
    listener = server.start(sys.executable, "-c", LISTENER)
    assert listener.stdout is not None
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [told.put(line) for line in listener.stdout or ()])
    reader.start()
    try:
        while not told.get(timeout=PATIENCE_S).startswith("hears"):
            pass
        server.unplug()
        assert told.get(timeout=PATIENCE_S).startswith("deaf")
        server.plug()
        again = told.get(timeout=PATIENCE_S)
    finally:
        listener.kill()
        reader.join(PATIENCE_S)
    assert again.startswith("hears")
    assert "card.silent" in again or "card.gone" in again
    assert "card.reopened" in again
