"""`agls sensor install`: a unit that systemd takes, and a user who owns nothing but what the node needs."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agls.cli import main
from agls.config import Clips, Mqtt, NodeConfig
from agls.errors import InputError
from agls.example import example
from agls.sensor.install import install, refuse_harm, unit, unit_name

EXPOSED_MOST = 2.0  # of 10, by systemd's own account


def node_file(folder: Path) -> tuple[Path, NodeConfig]:
    secret = folder / "pole-7-ab.password"
    secret.touch(0o600)
    config = NodeConfig(
        sensor_id="pole-7",
        outbox_file=str(folder / "state" / "outbox.sqlite"),
        clips=Clips(folder=str(folder / "clips")),
        mqtt=Mqtt(username="pole-7", password_file=str(secret), ca_file="/etc/ssl/certs/ca-certificates.crt"),
    )
    path = folder / "pole-7.toml"
    path.write_text(example(NodeConfig, config), "utf-8")
    return path, config


def test_the_unit_is_shown_without_root_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = node_file(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["sensor", "install", str(path), "--print"]) == 0
    assert capsys.readouterr().out == unit(path, config)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_unit_says_what_it_must(tmp_path: Path) -> None:
    path, config = node_file(tmp_path)
    lines = unit(path, config, python="/opt/agls/bin/python").splitlines()
    assert f"ExecStart=/opt/agls/bin/python -m agls sensor run {path}" in lines
    assert f"ReadWritePaths={tmp_path / 'state'} {tmp_path / 'clips'}" in lines
    for wanted in (
        "Type=notify",
        "User=agls",
        "SupplementaryGroups=audio",
        "ProtectSystem=strict",
        "Restart=always",
        "NoNewPrivileges=yes",
        "DevicePolicy=closed",
        "DeviceAllow=char-alsa rw",
        "WatchdogSec=30",
    ):
        assert wanted in lines


def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    path, config = node_file(tmp_path)
    place = tmp_path / unit_name(config)
    place.write_text(unit(path, config))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(place)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(place)], capture_output=True, text=True
    )
    if "unrecognized option" in rated.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    level = next(line for line in rated.stdout.splitlines() if "Overall exposure level" in line)
    assert float(level.partition(": ")[2].split()[0]) <= EXPOSED_MOST


def test_installing_hands_over_state_and_secrets_and_starts_the_unit(tmp_path: Path) -> None:
    path, config = node_file(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.sqlite-wal").touch()
    done: list[Sequence[str]] = []
    place = install(path, config, "text", units=tmp_path, user="nobody-of-agls", do=done.append)
    assert (place.name, place.read_text()) == ("agls-sensor-pole-7.service", "text")
    assert [command[0] for command in done] == ["useradd", "install", "install", "chown", "systemctl", "systemctl"]
    owned = done[3][2:]
    assert set(owned) == {str(path), config.mqtt.password_file, str(tmp_path / "state" / "outbox.sqlite-wal")}
    assert done[-1] == ["systemctl", "enable", "--now", "agls-sensor-pole-7.service"]


def test_a_folder_that_holds_other_things_is_not_taken_away(tmp_path: Path) -> None:
    path, config = node_file(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.sqlite-wal").touch()
    owner = tmp_path.owner()
    refuse_harm(path, config, owner, python="/usr/bin/env")
    (tmp_path / "state" / "letters.txt").touch()
    with pytest.raises(InputError, match=r"state, which holds other things too \(letters.txt\)"):
        refuse_harm(path, config, "agls-nobody", python="/usr/bin/env")


def test_what_the_nodes_user_could_not_reach_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o700)
    path, config = node_file(home)
    with pytest.raises(InputError, match="is closed to the user agls-nobody"):
        refuse_harm(path, config, "agls-nobody", python="/usr/bin/env")


def test_a_user_who_is_there_is_not_made_again(tmp_path: Path) -> None:
    path, config = node_file(tmp_path)
    done: list[Sequence[str]] = []
    install(path, config, "text", units=tmp_path, user="root", do=done.append)
    assert "useradd" not in [command[0] for command in done]


@pytest.mark.parametrize("odd", ["my node", "50%", "a$HOME", 'a"b'])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(odd: str, tmp_path: Path) -> None:
    _, config = node_file(tmp_path)
    with pytest.raises(InputError, match="cannot stand in a unit"):
        unit(tmp_path / odd / "pole-7.toml", config)


def test_a_node_that_keeps_nothing_on_disk_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outbox_file is empty"):
        unit(tmp_path / "pole-7.toml", NodeConfig(sensor_id="pole-7"))


def test_without_root_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = node_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["sensor", "install", str(path)]) == 2
    assert "installing needs root: sudo agls sensor install" in capsys.readouterr().err
