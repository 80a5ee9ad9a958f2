import struct

import numpy as np
import pytest
import soundfile

from agls.errors import InputError
from agls.sensor.capture import FileSource


def tone(frames=4800, channels=1):
    wave = 0.25 * np.sin(np.arange(frames) / 7.0)
    return np.column_stack([wave] * channels).astype(np.float32)


def heard(path, **options):
    return np.concatenate([block.samples for block in FileSource(path, **options).blocks()])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_format_of_a_wav_is_heard_alike(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000, subtype=subtype)
    np.testing.assert_allclose(heard(tmp_path / "a.wav"), tone()[:, 0], atol=0.01 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_rates_from_telephone_to_ultrasound_are_read(tmp_path, rate_hz, name):
    soundfile.write(tmp_path / name, tone(), rate_hz)
    source = FileSource(tmp_path / name)
    blocks = list(source.blocks())
    assert source.sample_rate_hz == blocks[0].sample_rate_hz == rate_hz
    assert sum(block.samples.size for block in blocks) == 4800


def test_ogg_is_read(tmp_path):
    soundfile.write(tmp_path / "a.ogg", tone(), 48_000)
    np.testing.assert_allclose(heard(tmp_path / "a.ogg"), tone()[:, 0], atol=0.05)


def test_channels_are_averaged_to_one(tmp_path):
    stereo = tone(channels=2)
    stereo[:, 1] = 0
    soundfile.write(tmp_path / "a.wav", stereo, 48_000)
    np.testing.assert_allclose(heard(tmp_path / "a.wav"), tone()[:, 0] / 2, atol=1e-4)


def test_blocks_follow_each_other_without_gap(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(2500), 48_000)
    blocks = list(FileSource(tmp_path / "a.wav", block_frames=1000).blocks())
    assert [(block.first_index, block.samples.size) for block in blocks] == [(0, 1000), (1000, 1000), (2000, 500)]
    assert all(block.samples.dtype == np.float32 and not block.lost for block in blocks)


def test_the_clock_starts_with_the_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    source = FileSource(tmp_path / "a.wav", start_ns=10**18, clock_sigma_s=3e-4)
    assert source.clock.utc_ns(48_000) == 10**18 + 10**9
    assert (source.clock.state.mode, source.clock.state.sigma_s) == ("file", 3e-4)


def test_closing_ends_the_blocks(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    source = FileSource(tmp_path / "a.wav")
    blocks = source.blocks()
    next(blocks)
    source.close()
    assert list(blocks) == []


def test_a_wav_written_to_a_pipe_without_a_length_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000, subtype="PCM_16")
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(raw)
    assert heard(tmp_path / "a.wav").size == 4800


def refusal(path):
    with pytest.raises(InputError) as caught:
        heard(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_file_that_ends_early_is_refused(tmp_path, name):
    soundfile.write(tmp_path / name, np.random.default_rng(1).normal(0, 0.1, 48_000), 48_000)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    refusal(tmp_path / name)


def test_a_truncated_wav_is_refused_before_a_sample_is_heard(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-100])
    with pytest.raises(InputError, match="header promises 9600 bytes of samples, 9500 are there"):
        FileSource(tmp_path / "a.wav")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all" * 50])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_what_is_no_sound_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


def test_a_file_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0), 48_000)
    assert "no samples" in refusal(tmp_path / "a.wav")


def test_a_sample_that_is_not_a_number_is_refused_by_its_index(tmp_path):
    wave = tone()
    wave[1234] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 48_000, subtype="FLOAT")
    assert "sample 1234 is not a finite number" in refusal(tmp_path / "a.wav")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "missing.wav")
    assert "is not a file" in refusal(tmp_path)


def test_a_rate_too_low_to_time_anything_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 4_000)
    assert "has 4000 samples a second" in refusal(tmp_path / "a.wav")


def test_other_formats_are_refused_by_name(tmp_path):
    soundfile.write(tmp_path / "a.aiff", tone(), 48_000)
    assert "AIFF" in refusal(tmp_path / "a.aiff")
