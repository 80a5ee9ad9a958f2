"""`agls sensor run` from a live card, as a process: what it says while it runs, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agls.cli import main

NODE = 'sensor_id = "pole-7"\noutbox_file = "{folder}/outbox.sqlite"\n[microphone]\ndevice = "{device}"\n'
AWAY = '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n'


def node(folder: Path, device: str) -> str:
    path = folder / "node.toml"
    path.write_text(NODE.format(folder=folder, device=device) + AWAY)
    return str(path)


@pytest.mark.parametrize(
    ("device", "words", "said"),
    [("sim", ["--realtime"], "--start and --realtime are of files"), ("", [], "microphone.device is empty"),
     ("sim:absent.toml", [], "absent.toml: cannot be read")],
)  # fmt: skip
def test_wrong_use_is_one_sentence(
    device: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sensor", "run", node(tmp_path, device), *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_live_node_says_what_it_hears_by_gives_no_time_before_it_knows_it_and_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agls", "sensor", "run", node(tmp_path, "sim")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert running.stderr is not None
    assert "hearing by sim, broker mqtt://127.0.0.1:1" in running.stderr.readline()
    assert any("hears; no times until the clock is known" in line for line in running.stderr)
    running.send_signal(signal.SIGTERM)
    running.stderr.read()
    assert running.wait(20) == 0
    running.stderr.close()


def test_a_card_that_is_not_there_is_said_to_be_missing_and_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("sounddevice", reason="PortAudio is not installed", exc_type=OSError)
    command = [sys.executable, "-m", "agls", "sensor", "run", node(tmp_path, "hw:Nowhere")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "there is no card Nowhere" in next(line for line in running.stderr if "deaf" in line)
    running.send_signal(signal.SIGTERM)
    running.stderr.read()
    running.stderr.close()
    assert running.wait(20) == 0
