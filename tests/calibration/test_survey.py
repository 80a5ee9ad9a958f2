"""The survey as a command: files in, a site file out that `agls` reads."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agls.config import Origin, Sensor, SiteConfig, load_site
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.messages import NS_PER_S, format_utc
from bench.survey import SURVEY_M, Site, draw
from calibration import survey
from calibration.tables import document

START_NS = 1_800_000_000 * NS_PER_S


def command(*words: object) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser()
    survey.add_arguments(parser)
    return survey.run(parser.parse_args([str(word) for word in words]))


def site_file(folder: Path, site: Site, *, on_earth: bool = False) -> Path:
    """Write what is known of a drawn site."""
    origin = Origin(latitude_deg=40.44, longitude_deg=-79.99, height_m=230.0)
    sensors = tuple(
        Sensor(sensor_id=name, x_m=x, y_m=y, z_m=z, position_sigma_m=SURVEY_M)
        for name, (x, y, z) in zip(site.network.sensor_ids, site.network.positions_m.tolist(), strict=True)
    )
    if on_earth:
        frame = Frame.of_site(SiteConfig(name="Town", origin=origin))
        places = [frame.to_geodetic(one.x_m, one.y_m, one.z_m) for one in sensors]
        keys = ("latitude_deg", "longitude_deg", "height_m")
        sensors = tuple(
            Sensor(sensor_id=one.sensor_id, position_sigma_m=SURVEY_M, **dict(zip(keys, place, strict=True)))
            for one, place in zip(sensors, places, strict=True)
        )
    path = folder / "site.toml"
    path.write_text(document(SiteConfig(name="Town", origin=origin, sensor=sensors)))
    return path


def write_arrivals(folder: Path, site: Site) -> tuple[Path, Path]:
    """Write arrivals and known shots."""
    arrivals, shots = folder / "arrivals.csv", folder / "shots.csv"
    rows = zip(site.picks.shot.tolist(), site.picks.sensor.tolist(), site.picks.toa_s.tolist(), strict=True)
    lines = [f"{k},s{i},{format_utc(START_NS + round(toa * NS_PER_S))},0.0002" for k, i, toa in rows]
    arrivals.write_text("\n".join(["shot,sensor_id,toa_utc,toa_sigma_s", *lines]))
    lines = [f"{k},{x},{y},{z}" for k, (x, y, z) in enumerate(site.shots.places_m.tolist())]
    shots.write_text("\n".join(["shot,x_m,y_m,z_m", *lines]))
    return arrivals, shots


@pytest.mark.parametrize("on_earth", [False, True])
def test_sensors_and_clocks_of_the_new_site_file_are_near_the_truth(
    tmp_path: Path, on_earth: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    site, out = draw(20, 0.0), tmp_path / "new.toml"
    old = site_file(tmp_path, site, on_earth=on_earth)
    arrivals, shots = write_arrivals(tmp_path, site)
    assert command("--site", old, "--arrivals", arrivals, "--shots", shots, "--out", out) == 0
    new = load_site(out)
    places = np.array(list(Frame.of_site(new).sensor_positions_m.values()))
    assert np.sqrt(((places - site.positions_m)[:, :2] ** 2).sum(axis=1).mean()) < 0.3
    assert all((one.latitude_deg is not None) == on_earth for one in new.sensor)
    assert all(0.01 < one.position_sigma_m < 0.5 for one in new.sensor)
    late = np.array([one.clock_offset_s for one in new.sensor]) - site.offsets_s
    assert (np.abs(late) < 3 * np.array([one.clock_offset_sigma_s for one in new.sensor])).all()
    told = capsys.readouterr().out
    assert "12 shots, 12 of known place; 144 picks, 0 refused" in told
    assert "a wind towards the east cannot be told from a plane of clock offsets" in told
    assert "[[sensor]]\n# moved " in out.read_text()
    assert "# air of the day: sound " in out.read_text()


def test_a_new_file_can_be_surveyed_again_and_stays_as_it_is(tmp_path: Path) -> None:
    site, once, twice = draw(21, 0.0), tmp_path / "once.toml", tmp_path / "twice.toml"
    arrivals, shots = write_arrivals(tmp_path, site)
    command("--site", site_file(tmp_path, site), "--arrivals", arrivals, "--shots", shots, "--out", once)
    command("--site", once, "--arrivals", arrivals, "--shots", shots, "--out", twice)
    for one, two in zip(load_site(once).sensor, load_site(twice).sensor, strict=True):
        assert abs(one.x_m - two.x_m) < one.position_sigma_m
        assert abs(one.clock_offset_s - two.clock_offset_s) < one.clock_offset_sigma_s


def test_shots_of_unknown_place_are_located_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site, out = draw(22, 0.0), tmp_path / "new.toml"
    arrivals, _ = write_arrivals(tmp_path, site)
    assert command("--site", site_file(tmp_path, site), "--arrivals", arrivals, "--out", out) == 0
    told = capsys.readouterr().out
    assert "0 of known place" in told
    assert "all sensors and shots turned together cannot be told" in told


def test_picks_that_do_not_fit_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = draw(7, 0.002)
    wrong = replace(site, picks=replace(site.picks, toa_s=site.picks.toa_s[::-1].copy()))
    arrivals, _ = write_arrivals(tmp_path, wrong)
    words = ("--site", site_file(tmp_path, site), "--arrivals", arrivals, "--out", tmp_path / "new.toml")
    assert command(*words) == 1
    assert "THE PICKS DO NOT FIT" in capsys.readouterr().out


def test_fixes_place_a_sensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site, out, fixes = draw(23, 0.0), tmp_path / "new.toml", tmp_path / "fixes.csv"
    rng = np.random.default_rng(0)
    lines = [f"{format_utc(START_NS + k * NS_PER_S)},{40.445 + rng.normal(0, 1e-5)},-79.985,260" for k in range(1800)]
    fixes.write_text("\n".join(["utc,latitude_deg,longitude_deg,height_m", *lines]))
    assert command("--site", site_file(tmp_path, site), "--fixes", f"s3={fixes}", "--out", out) == 0
    moved = load_site(out).sensor[3]
    origin = load_site(out).origin
    assert origin is not None
    assert moved.y_m == pytest.approx(555.2, abs=0.5)
    assert 0.5 < moved.position_sigma_m < 2.0
    assert "1800 GNSS fixes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to survey by"),
        (["--fixes", "s3"], "a sensor and its file are accepted"),
        (["--fixes", "x=fixes.csv"], "no such sensor; accepted are s0, s1"),
        (["--arrivals", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--arrivals", "strange.csv"], "'s99' is no sensor of the site; accepted are s0"),
        (["--arrivals", "twice.csv"], "hears shot '1' twice"),
        (["--arrivals", "lone.csv"], "no shot can be used"),
        (["--replay", "."], "holds neither detections.jsonl nor journal.jsonl"),
        (["--arrivals", "lone.csv", "--clock-sigma", "nan"], "--clock-sigma is nan"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    head, row = "shot,sensor_id,toa_utc,toa_sigma_s\n", "1,s0,2026-01-01T00:00:00Z,0.001\n"
    for name, text in (("strange.csv", row.replace("s0", "s99")), ("twice.csv", row + row), ("lone.csv", row)):
        Path(name).write_text(head + text)
    fix = "utc,latitude_deg,longitude_deg,height_m\n" + "2026-01-01T00:00:00Z,40.44,-79.99,0\n" * 20
    Path("fixes.csv").write_text(fix)
    with pytest.raises(InputError, match=said):
        command("--site", site_file(tmp_path, draw(24, 0.0)), "--out", tmp_path / "new.toml", *words)
    assert not (tmp_path / "new.toml").exists()
