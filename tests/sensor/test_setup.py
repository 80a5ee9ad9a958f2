"""`agls sensor init`: what a tech gives or answers becomes a file that `run` takes, whole or not at all."""

import os
import ssl
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.cli import main
from agls.config import NodeConfig, load_node
from agls.errors import InputError
from agls.mqtt_settings import address
from agls.sensor.certificate import read_certificate
from agls.sensor.setup import answers, load_bundle, make_config, write_node

GIVEN = ["--profile", "sim", "--sensor-id", "pole-7", "--latitude", "40.44", "--longitude", "-79.99"]


def init(folder: Path, *words: str) -> int:
    """Run the command; what it writes goes into a folder."""
    place = ["--out", str(folder / "pole-7.toml"), "--outbox", str(folder / "outbox.sqlite")]
    return main(["sensor", "init", *place, *(words or GIVEN)])


def bundle_of(sensor_id: str, folder: Path) -> Path:
    """Make a bundle as a site's people do."""
    pytest.importorskip("cryptography", reason="certificates are made with cryptography: pip install 'agls[hub]'")
    from agls.deploy.enroll import enroll

    certs = folder / "certs"
    if not certs.exists():
        assert main(["deploy", "certs", "--out", str(certs), "--site", "Springfield", "--host", "127.0.0.1"]) == 0
    return enroll(sensor_id, certs)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}


def test_what_flags_say_is_in_the_file_and_every_key_is_explained(tmp_path: Path) -> None:
    assert init(tmp_path, *GIVEN, "--position-sigma", "0.8", "--height", "231", "--gpsd", "127.0.0.1:2947") == 0
    config = load_node(tmp_path / "pole-7.toml")
    assert (config.sensor_id, config.microphone.device, config.gpsd) == ("pole-7", "sim", "127.0.0.1:2947")
    assert config.survey is not None
    assert (config.survey.latitude_deg, config.survey.longitude_deg) == (40.44, -79.99)
    assert (config.survey.height_m, config.survey.position_sigma_m) == (231.0, 0.8)
    assert config.outbox_file == str(tmp_path / "outbox.sqlite")
    text = (tmp_path / "pole-7.toml").read_text("utf-8")
    keys = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
    assert text.count("# ") > len(keys) > 25


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert init(tmp_path) == 0
    assert modes(tmp_path) == {"pole-7.toml": 0o600}


def test_an_outbox_that_is_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sensor", "init", "--profile", "sim", "--sensor-id", "pole-7", "--out", str(tmp_path / "n.toml")]
    assert main([*words, "--outbox", str(tmp_path)]) == 2
    assert "is there and no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pole-7.toml").write_text("mine")
    assert init(tmp_path) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "pole-7.toml").read_text() == "mine"
    assert init(tmp_path, *GIVEN, "--force") == 0
    assert load_node(tmp_path / "pole-7.toml").sensor_id == "pole-7"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--profile is missing; usb, i2s and sim are accepted"),
        (["--profile", "sim"], "--sensor-id is missing"),
        (["--profile", "sim", "--sensor-id", "a b"], '--sensor-id is "a b", but must be a name'),
        (["--profile", "sim", "--sensor-id", "a", "--latitude", "95"], "but must be a number from -90 to 90"),
        (["--profile", "sim", "--sensor-id", "a", "--latitude", "45"], "of --latitude and --longitude one is given"),
        (["--profile", "sim", "--sensor-id", "a", "--broker", "http://x"], "but must be an address like mqtt://"),
        (["--profile", "sim", "--sensor-id", "a", "--username", "u"], "--username is given without --password-file"),
        (["--profile", "sim", "--sensor-id", "a", "--password-file", "p"], "but there is no --username"),
        (["--profile", "sim", "--sensor-id", "a", "--bundle", "absent"], "absent: cannot be read"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_is_missing_or_wrong_is_one_sentence_and_nothing_is_written(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sensor", "init", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_tech_is_asked_what_was_not_given_and_asked_again_where_the_answer_cannot_be_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = iter(["pole 7", "pole-7", "", "", "95", "45.5", "7.5", "", "1.5"])
    asked = []

    def ask(words: str, default: str) -> str:
        asked.append(words)
        return next(script)

    found = answers({}, "sim", None, ask)
    assert (found["sensor_id"], found["latitude_deg"], found["position_sigma_m"]) == ("pole-7", 45.5, 1.5)
    assert found["height_m"] == 0.0
    assert len(asked) == 9
    assert "must be a number from -90 to 90" in capsys.readouterr().err


def test_who_has_no_survey_yet_is_not_asked_the_rest_of_it() -> None:
    script = iter(["pole-7", "", "", ""])
    found = answers({}, "sim", None, lambda _words, _default: next(script))
    assert "longitude_deg" not in found
    assert make_config(found | {"outbox_file": "o"}, {}, None).survey is None


def test_a_password_goes_into_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "given"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    assert init(tmp_path, *GIVEN, "--username", "pole-7", "--password-file", str(secret)) == 0
    config = load_node(tmp_path / "pole-7.toml")
    assert Path(config.mqtt.password_file).read_text() == "correct horse\n"
    assert set(modes(tmp_path).values()) == {0o600}
    assert "correct horse" not in (tmp_path / "pole-7.toml").read_text()


def test_a_bundle_brings_name_broker_and_keys(tmp_path: Path) -> None:
    bundle = bundle_of("pole-7", tmp_path)
    node = tmp_path / "node"
    node.mkdir()
    assert init(node, "--profile", "sim", "--bundle", str(bundle)) == 0
    config = load_node(node / "pole-7.toml")
    assert (config.sensor_id, config.mqtt.url) == ("pole-7", "mqtts://127.0.0.1:8883")
    files = (config.mqtt.ca_file, config.mqtt.certificate_file, config.mqtt.key_file)
    assert [stat.S_IMODE(Path(file).stat().st_mode) for file in files] == [0o600] * 3
    assert read_certificate(Path(config.mqtt.certificate_file).read_text()).name == "pole-7"
    assert "PRIVATE KEY" not in (node / "pole-7.toml").read_text()


def test_a_new_bundle_replaces_file_and_keys_together(tmp_path: Path) -> None:
    first = bundle_of("pole-7", tmp_path)
    node = tmp_path / "node"
    assert init(node, "--profile", "sim", "--bundle", str(first)) == 0
    before = set(modes(node))
    main(["deploy", "revoke", "pole-7", "--certs", str(tmp_path / "certs")])
    second = bundle_of("pole-7", tmp_path)
    assert init(node, "--profile", "sim", "--bundle", str(second), "--force") == 0
    after = set(modes(node))
    assert before & after == {"pole-7.toml"}
    assert len(after) == 4


def test_a_bundle_that_others_can_read_or_of_mixed_nodes_is_refused(tmp_path: Path) -> None:
    mine, others = bundle_of("pole-7", tmp_path), bundle_of("pole-8", tmp_path)
    mixed = tmp_path / "mixed.toml"
    mixed.touch(0o600)
    mixed.write_text(others.read_text().replace('sensor_id = "pole-8"', 'sensor_id = "pole-7"'))
    with pytest.raises(InputError, match='certificate of "pole-8"'):
        load_bundle(mixed)
    mine.chmod(0o644)
    with pytest.raises(InputError, match="mode 0644, others may read its key"):
        load_bundle(mine)


@pytest.mark.parametrize(
    ("words", "said"), [(["--sensor-id", "pole-9"], "the bundle is for"), (["--broker", "mqtt://x"], "which broker")]
)
def test_what_contradicts_a_bundle_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of("pole-7", tmp_path)
    assert init(tmp_path, "--profile", "sim", "--bundle", str(bundle), *words) == 2
    assert said in capsys.readouterr().err


class CutError(Exception):
    """The power went."""


@pytest.mark.parametrize("cut_at", range(12))
def test_an_init_that_is_cut_off_anywhere_leaves_the_old_node_or_the_new_one(
    cut_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pole.toml"

    def make(name: str) -> Callable[[Mapping[str, str]], NodeConfig]:
        found = {"sensor_id": name, "device": "sim", "pulse_channel": 0, "outbox_file": "o", "username": name}
        return lambda files: make_config(found, files, None)

    write_node(path, make("old"), {"password_file": "old\n"})
    steps = 0

    def cut(real: object) -> object:
        def step(*words: object, **more: object) -> object:
            nonlocal steps
            steps += 1
            if steps > cut_at:
                raise CutError
            return real(*words, **more)  # type: ignore[operator]

        return step

    # Power does not come back for the tidying up.
    with monkeypatch.context() as patched:
        for owner, name in ((os, "fsync"), (tempfile, "mkstemp"), (Path, "replace"), (Path, "unlink")):
            patched.setattr(owner, name, cut(getattr(owner, name)))
        with suppress(CutError):
            write_node(path, make("new"), {"password_file": "new\n"}, force=True)
    config = load_node(path)
    assert config.sensor_id in ("old", "new")
    assert Path(config.mqtt.password_file).read_text().strip() == config.sensor_id
    if cut_at == 11:
        assert config.sensor_id == "new"


def test_where_the_folder_cannot_be_written_that_is_said_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert init(tmp_path / "file") == 2
    assert "nothing was changed" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("year", [2031, 2060])
def test_a_certificate_says_for_whom_it_is_and_until_when(year: int) -> None:
    x509 = pytest.importorskip("cryptography.x509", reason="pip install 'agls[hub]'")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, until = ec.generate_private_key(ec.SECP256R1()), datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    oid = x509.NameOID
    name = x509.Name([x509.NameAttribute(oid.ORGANIZATION_NAME, "City"), x509.NameAttribute(oid.COMMON_NAME, "pole-7")])
    issuer = x509.Name([x509.NameAttribute(oid.COMMON_NAME, "authority")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        .serial_number(7).not_valid_before(until - timedelta(days=900)).not_valid_after(until)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    found = read_certificate("text before\n" + made.public_bytes(serialization.Encoding.PEM).decode())
    assert (found.name, found.until_s) == ("pole-7", until.timestamp())
    assert found.until_s > time.time()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_certificate(ssl.DER_cert_to_PEM_cert(noise))


@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        ('host = "localhost"', 'host = "a b"', "broker.host"),
        ("port = 8883", "port = 99999", "broker.port"),
        ("BEGIN CERTIFICATE", "BEGIN CERT", "broker.cert_pem is not a certificate"),
    ],
)
def test_what_is_wrong_in_a_bundle_is_told_of_the_bundle(was: str, is_now: str, told: str, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="certificates are made with cryptography: pip install 'agls[hub]'")
    from agls.deploy.certs import make_certs
    from agls.deploy.enroll import enroll

    make_certs(tmp_path)
    path = enroll("pole-7", tmp_path)
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, is_now))
    with pytest.raises(InputError, match=f"bundle.toml.*{told}"):
        load_bundle(path)


def test_a_broker_may_have_an_address_of_ipv6(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="certificates are made with cryptography: pip install 'agls[hub]'")
    from agls.deploy.certs import make_certs
    from agls.deploy.enroll import enroll

    make_certs(tmp_path / "certs", hosts=("2001:db8::7",))
    bundle = load_bundle(enroll("pole-7", tmp_path / "certs"))
    found = {"sensor_id": "pole-7", "device": "sim", "pulse_channel": 0, "outbox_file": "o"}
    assert address(make_config(found, {}, bundle).mqtt.url) == ("2001:db8::7", 8883, True)
