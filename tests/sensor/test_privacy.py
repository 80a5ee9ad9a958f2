"""What a pole knows of people, and what of it leaves the pole."""

import ast
import json
import threading
import time
import wave
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

import agls.sensor
import agls.sensor.shell
from agls.broker import EmbeddedBroker
from agls.classify.model import load_model
from agls.config import Clips, Microphone, Mqtt, NodeConfig, load_node
from agls.errors import InputError
from agls.messages import NS_PER_S, Ack, Block, ClockState, Detection, Heartbeat, Label, Onset, Status, UtcNs, encode
from agls.pipeline import Node
from agls.sensor.clock import SteadyClock
from agls.sensor.outbox import MAX_DETECTION_BYTES
from agls.sensor.privacy import AFTER_S, BEFORE_S, RING_S, ClipKeeper, add_arguments, clip, privacy_report, run
from agls.sensor.shell import run_node
from agls.sensor.store import MEMORY, Store
from agls.transport import HUB_SUBSCRIPTIONS, Connection

RATE_HZ = 48_000
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
START_NS = 1_700_000_000 * NS_PER_S
HOUR_NS = 3600 * NS_PER_S


def speech(duration_s: float, seed: int = 3) -> np.ndarray:
    """Make something like speech: a gliding voice through formants, in syllables."""
    chance = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * times_s)) / RATE_HZ
    strength = [
        1 / (1 + ((120 * n - 700) / 300) ** 2) + 0.5 / (1 + ((120 * n - 1800) / 400) ** 2) for n in range(1, 30)
    ]
    voice = sum(a * np.sin(n * phase + chance.uniform(0, 6)) for n, a in enumerate(strength, 1))
    return (0.02 * voice * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * times_s))).astype(np.float32)


def bangs(samples: np.ndarray, at_s: list[float]) -> np.ndarray:
    """Add loud impulses."""
    out, chance = samples.copy(), np.random.default_rng(1)
    length = round(0.004 * RATE_HZ)
    for moment_s in at_s:
        first = round(moment_s * RATE_HZ)
        pulse = 0.9 * chance.standard_normal(length) * np.exp(-np.arange(length) / 48)
        out[first : first + length] += pulse.astype(np.float32)[: out.size - first]
    return out


def blocks(samples: np.ndarray) -> Iterator[Block]:
    for first in range(0, samples.size, 1000):
        yield Block(samples[first : first + 1000], first_index=first, sample_rate_hz=RATE_HZ)


def node(**more: Any) -> Node:
    config = NodeConfig(sensor_id="pole-1", microphone=Microphone(), **more.pop("config", {}))
    return Node(config, SteadyClock(START_NS, RATE_HZ, CLOCK), load_model(), "boot", **more)


def impulses(samples: np.ndarray) -> list[tuple[Onset, Detection]]:
    found: list[tuple[Onset, Detection]] = []
    pole = node(on_impulse=lambda onset, detection: found.append((onset, detection)))
    for block in blocks(samples):
        pole.feed(block)
    pole.finish()
    return found


# ------------------------------------------------------------------------------------------- in memory, on disk


def sound_held(thing: Any, seen: set[int]) -> int:
    """Count the samples that an object holds, whatever holds them."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.size if thing.dtype.kind == "f" else 0
    if isinstance(thing, dict):
        return sum(sound_held(one, seen) for one in thing.values())
    if isinstance(thing, list | tuple | set) or type(thing).__name__ == "deque":
        return sum(sound_held(one, seen) for one in thing)
    held = [getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if hasattr(thing, name)]
    return sum(sound_held(one, seen) for one in [*held, *getattr(thing, "__dict__", {}).values()])


def test_a_node_holds_less_than_ten_seconds_of_sound_however_long_it_listens() -> None:
    pole, held = node(), []
    pole.model = None  # its numbers are no sound
    sound = speech(15.0)
    for number, block in enumerate(blocks(sound)):
        pole.onsets.feed(block)
        if number % 40 == 0:
            held.append(sound_held(pole, set()))
    assert 0 < max(held) < RING_S * RATE_HZ
    assert held[-1] <= max(held[: len(held) // 2])


class Source:
    """Sound from memory."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples
        self.clock = SteadyClock(time.time_ns(), RATE_HZ, CLOCK)

    def blocks(self) -> Iterator[Block]:
        return blocks(self.samples)

    def close(self) -> None:
        pass


def files(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_before_a_gunshot_nothing_of_what_is_said_reaches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 0.0)
    monkeypatch.chdir(tmp_path)
    config = NodeConfig(
        sensor_id="pole-1",
        mqtt=Mqtt(url="mqtt://127.0.0.1:1"),
        outbox_file=str(tmp_path / "outbox.sqlite"),
        clips=Clips(folder=str(tmp_path / "clips")),
    )
    run_node(config, Source(speech(0.1)), threading.Event())
    before = files(tmp_path)
    counts = run_node(config, Source(speech(6.0)), threading.Event())
    assert counts["clips_kept"] == 0
    assert {name for name in files(tmp_path) if not name.startswith("outbox.sqlite")} == set()
    assert sum(files(tmp_path).values()) - sum(before.values()) < 6.0 * RATE_HZ / 25  # not even a byte each 0.5 ms


# ------------------------------------------------------------------------------------------- no way to listen in


def parts_of(kind: Any) -> Iterator[Any]:
    yield kind
    for name in ("type", "item_type", "value_type"):
        if isinstance(inner := getattr(kind, name, None), inspect.Type):
            yield from parts_of(inner)
    for inner in getattr(kind, "types", ()):
        yield from parts_of(inner)
    for field in getattr(kind, "fields", ()):
        yield from parts_of(field.type)


@pytest.mark.parametrize("kind", [Detection, Heartbeat, Status])
def test_nothing_that_a_node_says_has_room_for_sound(kind: type) -> None:
    parts = list(parts_of(inspect.type_info(kind)))
    assert not any(isinstance(part, inspect.BytesType | inspect.AnyType) for part in parts)
    for part in parts:
        if isinstance(part, inspect.CollectionType | inspect.VarTupleType):
            assert isinstance(part.item_type, inspect.LiteralType)
            assert part.max_length is not None
            assert part.max_length <= 8
    texts = [part for part in parts if isinstance(part, inspect.StrType)]
    assert all(text.max_length is None or text.max_length <= 64 for text in texts)


def test_all_a_node_is_ever_told_is_which_detections_the_hub_has(tmp_path: Path) -> None:
    from agls.sensor.outbox import Outbox

    store = Store(MEMORY)
    shell = agls.sensor.shell.NodeShell(NodeConfig(sensor_id="pole-1"), node(), Outbox(store, 100), store)
    assert shell.connection._subscriptions == ("agls/v1/ack/pole-1",)
    assert set(Ack.__struct_fields__) == {"sensor_id", "boot_id", "next_seq", "missing"}


def test_nothing_on_a_node_waits_for_connections() -> None:
    for path in Path(agls.sensor.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        called = {
            part.func.attr for part in ast.walk(tree) if isinstance(part, ast.Call) and hasattr(part.func, "attr")
        }
        assert not called & {"listen", "accept", "start_server", "serve_forever", "create_server"}, path.name
        imported = {alias.name for part in ast.walk(tree) if isinstance(part, ast.Import) for alias in part.names}
        assert not imported & {"http.server", "socketserver", "uvicorn", "starlette"}, path.name


# ---------------------------------------------------------------------------------------- as little as will do


def test_the_longest_detection_there_can_be_fits_into_a_kibibyte() -> None:
    longest = Detection(
        sensor_id="s" * 64, boot_id="b" * 64, seq=2**53, stage="preliminary", late=False, toa_ns=UtcNs(START_NS),
        toa_sigma_s=1.2345678901234567e-05, wave="unknown", level_db=-199.12, snr_db=-199.12, clipped=False,
        llr=dict.fromkeys(get_args(Label), -12.345678901234567), model="m" * 64,
        clock=ClockState(mode="pps_chrony", sigma_s=1.2345678901234567e-05),
    )  # fmt: skip
    assert len(encode(longest)) <= MAX_DETECTION_BYTES


def test_of_a_roar_of_impulses_twenty_a_second_are_told_and_the_others_counted() -> None:
    noise = (1e-4 * np.random.default_rng(2).standard_normal(4 * RATE_HZ)).astype(np.float32)
    moments_s = list(np.arange(0.5, 3.5, 0.042))
    pole = node()
    told = [one for block in blocks(bangs(noise, moments_s)) for one in pole.feed(block)] + pole.finish()
    toas_s = np.array([(one.toa_ns - START_NS) / NS_PER_S for one in told])
    assert all(np.count_nonzero((toas_s >= toa_s) & (toas_s < toa_s + 0.999)) <= 20 for toa_s in toas_s)
    assert pole.counts["rate_limited"] > 0


def test_a_node_file_cannot_ask_for_more(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('sensor_id = "pole-1"\n[onset]\nmax_rate_per_s = 21.0\n')
    with pytest.raises(InputError, match="at most 20"):
        load_node(path)


# ----------------------------------------------------------------------------------------------------- clips


def test_of_speech_around_gunshots_no_frame_survives_outside_the_window() -> None:
    shots_s = [1.0, 2.2, 2.35, 4.0]
    talk = speech(5.0)
    found = impulses(bangs(talk, shots_s))
    assert len(found) >= len(shots_s)
    frame = round(0.025 * RATE_HZ)
    kept = np.concatenate([clip(onset) for onset, _ in found])
    windows = [(onset.index - BEFORE_S * RATE_HZ, onset.index + AFTER_S * RATE_HZ) for onset, _ in found]
    survived = tried = 0
    for first in range(0, talk.size - frame, frame):
        if any(first + frame > low and first < high for low, high in windows):
            continue
        tried += 1
        spoken = talk[first : first + frame]
        likeness = np.abs(np.correlate(kept, spoken, "valid"))
        survived += bool((likeness > 0.999 * np.dot(spoken, spoken)).any() and is_in(kept, spoken))
    assert tried > 50
    assert survived == 0
    assert is_in(talk, talk[5000 : 5000 + frame])  # the measure does find speech where it is


def is_in(kept: np.ndarray, spoken: np.ndarray) -> bool:
    """Whether a frame of speech stands somewhere in what is kept."""
    views = np.lib.stride_tricks.sliding_window_view(kept, spoken.size)[:, ::60]
    return bool((np.abs(views - spoken[::60]).max(axis=1) < 1e-3 * np.abs(spoken).max()).any())


@given(
    before_s=st.floats(0, 0.5),
    after_s=st.floats(0, 3),
    onset_share=st.floats(0, 0.99),
    rate_hz=st.sampled_from([8000, RATE_HZ]),
)
@settings(max_examples=30)
def test_a_clip_lies_between_20_ms_before_and_250_ms_after(
    before_s: float, after_s: float, onset_share: float, rate_hz: int
) -> None:
    lead = round(before_s * rate_hz)
    snippet = np.arange(lead + round(after_s * rate_hz) + 1, dtype=np.float32)
    onset = Onset(
        index=0.0, sigma_s=1e-5, level_db=1, snr_db=20, clipped=False, wave="unknown",
        snippet=snippet, snippet_onset=lead + onset_share, sample_rate_hz=float(rate_hz),
    )  # fmt: skip
    kept = clip(onset)
    assert kept.size / rate_hz <= 1.0
    assert kept.min() >= onset.snippet_onset - BEFORE_S * rate_hz
    assert kept.max() <= onset.snippet_onset + AFTER_S * rate_hz


def gunshot() -> tuple[Onset, Detection]:
    onset, detection = impulses(bangs(speech(1.0), [0.5]))[0]
    return onset, msgspec.structs.replace(detection, llr={"gunshot": 3.0})


def test_by_default_no_sound_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keeper = ClipKeeper(Clips())
    keeper.keep(*gunshot())
    assert keeper.kept_count == 0
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_judged_a_gunshot_is_kept_and_for_the_owner_of_the_node_alone(tmp_path: Path) -> None:
    keeper = ClipKeeper(Clips(folder=str(tmp_path)))
    onset, detection = gunshot()
    keeper.keep(onset, msgspec.structs.replace(detection, llr={"gunshot": -0.1, "tool": 4.0}))
    keeper.keep(onset, msgspec.structs.replace(detection, llr={}))
    assert list(tmp_path.iterdir()) == []
    keeper.keep(onset, detection)
    (found,) = tmp_path.iterdir()
    assert found.stat().st_mode & 0o777 == 0o600
    with wave.open(str(found)) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE_HZ, 1)
        assert file.getnframes() <= round((BEFORE_S + AFTER_S) * RATE_HZ) + 1


def test_clips_go_when_their_time_is_over_and_other_files_stay(tmp_path: Path) -> None:
    keeper = ClipKeeper(Clips(folder=str(tmp_path), keep_h=2.0))
    onset, detection = gunshot()
    for hour in range(5):
        keeper.keep(onset, msgspec.structs.replace(detection, toa_ns=UtcNs(START_NS + hour * HOUR_NS)))
    (tmp_path / "agls-clip-notes.wav").write_text("of somebody else")
    keeper.purge(START_NS + 4 * HOUR_NS)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [
        *(f"agls-clip-{START_NS + hour * HOUR_NS}-pole-1.wav" for hour in (3, 4)), "agls-clip-notes.wav",
    ]  # fmt: skip
    keeper.purge(START_NS - 100 * HOUR_NS)  # a clock set back does not make them stay
    assert [path.name for path in tmp_path.iterdir()] == ["agls-clip-notes.wav"]


def test_a_clip_that_cannot_be_written_is_counted_and_the_node_goes_on(tmp_path: Path) -> None:
    keeper = ClipKeeper(Clips(folder=str(tmp_path / "clips")))
    (tmp_path / "clips").rmdir()
    keeper.keep(*gunshot())
    assert (keeper.kept_count, keeper.failed_count) == (0, 1)
    with pytest.raises(InputError, match=r"clips\.folder"):
        ClipKeeper(Clips(folder="/proc/nowhere"))


# ---------------------------------------------------------------------------------------------------- the report


def test_the_report_says_exactly_what_reached_the_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 2.0)
    with EmbeddedBroker(tmp_path / "broker") as broker:
        config = NodeConfig(
            sensor_id="pole-1", mqtt=broker.mqtt, heartbeat_s=1.0, outbox_file=str(tmp_path / "outbox.sqlite")
        )
        with Connection(broker.mqtt, "listener", HUB_SUBSCRIPTIONS) as listener:
            assert listener.wait_connected(20.0)
            run_node(config, Source(bangs(speech(3.0), [1.0, 2.0])), threading.Event())
            heard = [one.record for _ in range(10) for one in listener.take(0.2)]
    report = privacy_report(config, time.time_ns())
    said = {one.kind: (one.messages_count, one.size_bytes) for one in report.left}
    kinds = {"detection": "final", "preliminary": "preliminary", "heartbeat": ""}
    for kind, stage in kinds.items():
        record = Detection if stage else Heartbeat
        sizes = [len(encode(one)) for one in heard if isinstance(one, record) and getattr(one, "stage", "") == stage]
        assert said.get(kind, (0, 0)) == (
            len(sizes),
            sum(sizes),
        )  # early notice is given only while the broker is there
    assert said["status"][0] == 1
    assert report.audio_bytes == 0
    assert "no sound at all" in str(report)


def test_the_report_is_about_the_last_day_and_counts_what_a_clock_set_back_left_ahead(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    store = Store(str(path))
    for hours, number in ((-30, 1), (-20, 10), (0, 100), (3, 1000)):
        store.note_left("detection", number, 400 * number, START_NS + hours * HOUR_NS)
    store.note_left("heartbeat", 5, 2500, START_NS)
    config = NodeConfig(sensor_id="pole-1", outbox_file=str(path), clips=Clips(folder=str(tmp_path / "clips")))
    ClipKeeper(config.clips).keep(*gunshot())
    report = privacy_report(config, START_NS)
    assert {one.kind: one.messages_count for one in report.left} == {"detection": 1110, "heartbeat": 5}
    assert report.clips_count == 1
    assert "never sent: 1 clips" in str(report)
    store.close()


def test_the_command_prints_it_for_people_and_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, state = tmp_path / "node.toml", tmp_path / "outbox.sqlite"
    path.write_text(f'sensor_id = "pole-1"\noutbox_file = "{state}"\n')
    parser = ArgumentParser()
    add_arguments(parser)
    with pytest.raises(InputError, match="is not there"):
        run(parser.parse_args([str(path)]))
    Store(str(state)).close()
    assert run(parser.parse_args([str(path)])) == 0
    assert "nothing" in capsys.readouterr().out
    assert run(parser.parse_args([str(path), "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["audio_bytes"] == 0
    path.write_text('sensor_id = "pole-1"\n')
    with pytest.raises(InputError, match="outbox_file is empty"):
        run(parser.parse_args([str(path)]))
    path.write_text(f'sensor_id = "pole-1"\noutbox_file = "{path}"\n')
    with pytest.raises(InputError, match="cannot be read as the outbox"):
        run(parser.parse_args([str(path)]))
