"""Files that a calibration writes are read again as what they were written from."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Camera, Classification, Microphone, NodeConfig, Origin, Sensor, SiteConfig, Weather, load_any
from agls.errors import InputError
from calibration.tables import document, write_table

SITE = SiteConfig(
    name='a "quoted" \\ site',
    origin=Origin(latitude_deg=40.0, longitude_deg=-80.0),
    sensor=(
        Sensor(sensor_id="a", x_m=0.0, y_m=0.0, z_m=5.0, clock_offset_s=-1.25e-3, clock_offset_sigma_s=2e-5),
        Sensor(sensor_id="b", x_m=100.0, y_m=1e-7, z_m=5.0, position_sigma_m=2.0),
    ),
    camera=(Camera(camera_id="c", latitude_deg=40.0, longitude_deg=-80.0, height_m=230.0),),
    weather=Weather(temperature_c=-3.5),
)


def test_a_site_comes_back_as_it_was_with_remarks_as_comments(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    written = write_table(path, SITE, {(): ["Made by a test."], ("sensor", 1): ["sure to 2 m\nin each axis"]})
    assert written == load_any(path) == SITE
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Made by a test.\n")
    assert '[[sensor]]\n# sure to 2 m\n# in each axis\nsensor_id = "b"\n' in text
    assert list(tmp_path.iterdir()) == [path]


@given(
    st.text(min_size=1, max_size=80).filter(lambda text: max(text) < "\ud800" or min(text) > "\udfff"),
    st.floats(-20, 20),
    st.floats(1e-300, 10),
    st.integers(8_000, 192_000),
)
def test_any_node_comes_back_as_it_was(tmp_path_factory, text: str, offset: float, slope: float, rate_hz: int) -> None:
    node = NodeConfig(
        sensor_id="north-03",
        microphone=Microphone(device=text, sample_rate_hz=rate_hz),
        classification=Classification(gunshot_offset=offset, gunshot_slope=slope),
    )
    path = tmp_path_factory.mktemp("node") / "node.toml"
    assert write_table(path, node) == load_any(path) == node


def test_a_file_is_not_written_over_the_one_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(document(SITE), encoding="utf-8")
    with pytest.raises(InputError, match="comments would be lost"):
        write_table(path, SITE, source=path)
    with pytest.raises(InputError, match="cannot be written"):
        write_table(tmp_path / "nowhere" / "site.toml", SITE)


def test_what_agls_would_refuse_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sensor"):
        write_table(tmp_path / "site.toml", SiteConfig(name="empty"))
    assert list(tmp_path.iterdir()) == []
