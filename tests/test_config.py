"""Configuration: accepted where it makes sense, and one useful sentence where it does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from agls.config import NodeConfig, SiteConfig, load_any, load_node, load_site
from agls.errors import InputError
from agls.example import example
from agls.tables import strip

TWO_SENSORS = """name = "Here"
[[sensor]]
sensor_id = "a"
x_m = 0
y_m = 0
z_m = 5
[[sensor]]
sensor_id = "b"
x_m = 100
y_m = 0
z_m = 5
"""
CAMERA = '[[camera]]\ncamera_id = "c"\nlatitude_deg = 40\nlongitude_deg = -80\nheight_m = 230\n'
ORIGIN = "[origin]\nlatitude_deg = 40\nlongitude_deg = -80\nheight_m = 230\n"


def refusal(folder: Path, text: str) -> str:
    """Load a site that must be refused and return the sentence, which names the file and is one line."""
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_site(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(str(path))


def test_a_site_is_read_with_defaults_for_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(TWO_SENSORS + "[weather]\ntemperature_c = -3\n")
    site = load_site(path)
    assert [sensor.sensor_id for sensor in site.sensor] == ["a", "b"]
    assert site.weather.temperature_c == -3.0
    assert site.locating.min_sensors_count == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("temperature_c = 293", ["line 13", "weather.temperature_c is 293", "from -60 to 60", "degrees Celsius"]),
        ("temperature_k = 293", ["line 13", "no key temperature_k", "293", "did you mean temperature_c", "-60 to 60"]),
        ("temperature = 20", ["no key temperature ", "did you mean temperature_c"]),
        ("wind_speed_mph = 10", ["did you mean wind_speed_m_s"]),
        ("wind_speed_m_s = nan", ["wind_speed_m_s is nan", "a number from 0 to 60"]),
        ("wind_speed_m_s = inf", ["wind_speed_m_s is inf", "a number from 0 to 60"]),
        ('wind_speed_m_s = "3"', ['wind_speed_m_s is "3"', "a number from 0 to 60"]),
        ('"two\\nlines" = 1', ["no key 'two\\nlines'"]),
        ("banana = 1", ["no key banana", "accepted are temperature_c, humidity_percent"]),
    ],
)
def test_a_value_that_is_not_accepted_is_told_with_key_line_and_what_would_be(
    tmp_path: Path, line: str, words: list[str]
) -> None:
    sentence = refusal(tmp_path, TWO_SENSORS + "[weather]\n" + line + "\n")
    assert [word for word in words if word not in sentence] == []


def test_a_wrong_unit_names_the_accepted_one(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, TWO_SENSORS.replace("z_m = 5", "z_ft = 16", 1))
    assert 'sensor[0] ("a") has no key z_ft (its value is 16); did you mean z_m' in sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 'Here'\n", ["no sensor"]),
        (TWO_SENSORS.replace("y_m = 0\n", "", 1), ['sensor[0] ("a")', "all of x_m, y_m, z_m"]),
        (TWO_SENSORS + "latitude_deg = 40.0\n", ['sensor[1] ("b")', "not both"]),
        (TWO_SENSORS.replace('"b"', '"a"'), ["sensor[1]", "sensor_id of sensor[0]"]),
        (TWO_SENSORS.replace("100", "0.05"), ['sensor[0] ("a") and sensor[1] ("b") stand on one spot', "0.1 m"]),
        (TWO_SENSORS.replace('"b"', '"b/#"'), ['line 8: sensor[1].sensor_id is "b/#"', "letters, digits"]),
        (TWO_SENSORS.replace('"b"', '"b\\n"'), ["sensor[1].sensor_id is", "letters, digits"]),
        (TWO_SENSORS.replace('sensor_id = "b"\n', ""), ["line 7: sensor[1] lacks sensor_id"]),
        (TWO_SENSORS + CAMERA, ["cameras", "[origin]"]),
        (TWO_SENSORS + ORIGIN + CAMERA + CAMERA, ["camera[1]", "camera_id of camera[0]"]),
        (TWO_SENSORS + ORIGIN + CAMERA + "tilt_min_deg = 30\n", ["tilt_min_deg = 30", "tilt_max_deg = 20"]),
        (TWO_SENSORS + ORIGIN + CAMERA + "pan_max_deg = -190\n", ["pan_min_deg = -180", "pan_max_deg = -190"]),
        (TWO_SENSORS + "[gathering]\nprobable_p = 0.2\n", ["probable_p = 0.2", "possible_p = 0.3"]),
        (TWO_SENSORS + "[locating]\nmin_sensors_count = true\n", ["is true", "whole number from 4 to 50"]),
        (TWO_SENSORS + '[mqtt]\nurl = "http://x"\n', ["mqtt.url", "mqtt://127.0.0.1:1883"]),
        ("name = \n", ["line 1", "not TOML"]),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    sentence = refusal(tmp_path, text)
    assert [word for word in words if word not in sentence] == []


def test_two_sensors_at_the_same_latitude_and_longitude_are_refused(tmp_path: Path) -> None:
    spot = '[[sensor]]\nsensor_id = "{}"\nlatitude_deg = 60.0\nlongitude_deg = {}\nheight_m = 3\n'
    apart = tmp_path / "apart.toml"
    apart.write_text('name = "N"\n' + spot.format("a", 10.0) + spot.format("b", 10.000004))
    assert len(load_site(apart).sensor) == 2
    assert "one spot" in refusal(tmp_path, 'name = "N"\n' + spot.format("a", 10.0) + spot.format("b", 10.000001))


def test_sensors_in_metres_and_in_degrees_need_an_origin(tmp_path: Path) -> None:
    mixed = TWO_SENSORS + '[[sensor]]\nsensor_id = "d"\nlatitude_deg = 40.01\nlongitude_deg = -80\nheight_m = 230\n'
    assert "[origin]" in refusal(tmp_path, mixed)
    path = tmp_path / "with-origin.toml"
    path.write_text(mixed + ORIGIN)
    assert len(load_site(path).sensor) == 3


def test_a_secret_is_not_repeated_in_the_sentence(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, TWO_SENSORS + '[mqtt]\npassword = "hunter2"\n')
    assert "hunter2" not in refusal(tmp_path, TWO_SENSORS + '[mqtt]\nurl = "mqtt://me:hunter2@broker"\n')


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_node(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        load_node(tmp_path / "binary.toml")


@given(st.text(max_size=200))
def test_any_text_is_a_site_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as refused:
        load_site(path)
    assert "\n" not in str(refused.value)


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=4,
    ),
    st.sampled_from(["name", "sensor", "camera", "weather", "origin", "mqtt", "nothing"]),
)
def test_any_value_anywhere_is_accepted_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, value: object, key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.toml"
    path.write_text(f"{key} = {toml(value)}\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_site(path)
    assert "\n" not in str(refused.value)


def toml(value: object) -> str:
    """Write a value as TOML, inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value if not 0xD800 <= ord(letter) < 0xE000) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@pytest.mark.parametrize("kind", [SiteConfig, NodeConfig])
def test_the_commented_example_is_accepted(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "example.toml"
    path.write_text(example(kind), encoding="utf-8")
    assert isinstance(load_any(path), kind)


@pytest.mark.parametrize("kind", [SiteConfig, NodeConfig])
def test_every_field_stands_in_the_example_with_its_meaning(kind: type) -> None:
    text = example(kind)
    missing = [
        name for name, meaning in fields(inspect.type_info(kind)) if f"{name} = " not in text or meaning not in text
    ]
    assert missing == []


def fields(kind: inspect.Type) -> list[tuple[str, str]]:
    """List the keys of a record and of all below it, with the beginning of their meanings."""
    inner = strip(kind)[0]
    inner = strip(inner.item_type)[0] if hasattr(inner, "item_type") else inner
    found = []
    for field in inner.fields if isinstance(inner, inspect.StructType) else ():
        below = fields(field.type)
        meaning = strip(field.type)[1].get("description", "")
        found += below or [(field.encode_name, meaning[1:20])]
        assert below or meaning, f"{field.encode_name} has no description"
    return found


SUBSCRIBER = '[[subscriber]]\nsubscriber_id = "rtcc"\nurl = "https://rtcc.example"'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[policy]\ntimezone = "Mars/Olympus"', "policy.timezone"),
        ('[[rule]]\nname = "range"\nzone = [[-80.0, 40.0], [-79.0, 40.0]]', "zone of 2 corners"),
        ('[[rule]]\nname = "night"\nprobable_p = 0.1', "must not be less than"),
        ('[[rule]]\nname = "night"\nhours = "25:00-02:00"', "hours like 21:00-02:30"),
        ('[[rule]]\nname = "night"\ndates = ["July 4"]', "a date like 07-04"),
        (f"{SUBSCRIBER}\n{SUBSCRIBER}", "needs its own"),
        (SUBSCRIBER + "\n" + SUBSCRIBER.replace('"rtcc"', '"b"') + '\nrealm = "exercise"', "receives live incidents"),
        ('[cad]\nwebhook_url = "http://x"\n[[subscriber]]\nsubscriber_id = "cad"\nurl = "http://y"', "has the name of"),
        ('[cad]\nwebhook_url = "http://x"\n[[subscriber]]\nsubscriber_id = "b"\nurl = "http://x"\nrealm = "exercise"',
         "receives live incidents already"),
        ('[store]\nurl = "mysql://x"', "postgresql://"),
    ],
)  # fmt: skip
def test_a_policy_that_contradicts_itself_or_mixes_realms_is_refused_in_a_sentence(tmp_path, text, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'name = "Town"\n{text}\n[[sensor]]\nsensor_id = "s0"\nx_m = 0.0\ny_m = 0.0\nz_m = 0.0\n')
    with pytest.raises(InputError, match=complaint) as refusal:
        load_site(path)
    assert "\n" not in str(refusal.value)
