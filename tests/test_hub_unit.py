"""`agls hub install`: a unit that systemd takes, and a user who owns nothing but what the hub needs."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agls.cli import main
from agls.commands import spelled_out
from agls.config import SiteConfig, Store, load_site
from agls.errors import InputError
from agls.example import example
from agls.hub_unit import NAME, install, unit

EXPOSED_MOST = 2.5  # of 10, by systemd's own account


def site_file(folder: Path) -> tuple[Path, SiteConfig]:
    secret = folder / "store.password"
    secret.touch(0o600)
    path = folder / "site.toml"
    path.write_text(example(SiteConfig, SiteConfig(name="Town", store=Store(password_file=str(secret)))), "utf-8")
    return path, load_site(path)


def test_the_unit_is_shown_without_root_and_nothing_is_changed(tmp_path, capsys) -> None:
    path, site = site_file(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["hub", "install", str(path), "--out", str(tmp_path / "hub"), "--print"]) == 0
    text = capsys.readouterr().out
    assert text == unit(path, site, tmp_path / "hub")
    assert sorted(tmp_path.rglob("*")) == before
    lines = text.splitlines()
    for wanted in ("Type=notify", "WatchdogSec=60", "User=agls", "ProtectSystem=strict", "NoNewPrivileges=yes"):
        assert wanted in lines
    assert f"ReadWritePaths={tmp_path / 'hub'}" in lines


def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    path, site = site_file(tmp_path)
    place = tmp_path / NAME
    place.write_text(unit(path, site, tmp_path / "hub"))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(place)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(place)]
    rated = subprocess.run(words, capture_output=True, text=True)
    if "unrecognized option" in rated.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    level = next(line for line in rated.stdout.splitlines() if "Overall exposure level" in line)
    assert float(level.partition(": ")[2].split()[0]) <= EXPOSED_MOST


def test_installing_hands_over_folder_and_secrets_and_starts_the_unit(tmp_path) -> None:
    path, site = site_file(tmp_path)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "journal.jsonl").touch()
    done: list[Sequence[str]] = []
    place = install(path, site, tmp_path / "hub", "text", units=tmp_path, user="nobody-of-agls", do=done.append)
    assert (place.name, place.read_text()) == (NAME, "text")
    assert [words[0] for words in done] == ["useradd", "install", "chown", "chown", "systemctl", "systemctl"]
    assert done[2][-1] == str(tmp_path / "hub" / "journal.jsonl")
    assert done[3][2:] == [str(path), site.store.password_file]


def test_without_root_or_with_an_odd_path_a_sentence_says_so(tmp_path, monkeypatch, capsys) -> None:
    path, site = site_file(tmp_path)
    with pytest.raises(InputError, match="cannot stand in a unit"):
        unit(path, site, tmp_path / "my hub")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["hub", "install", str(path)]) == 2
    assert "installing needs root: sudo agls hub install" in capsys.readouterr().err


def test_a_hub_is_run_where_none_of_its_commands_is_named() -> None:
    from agls.cli import COMMANDS

    assert spelled_out(COMMANDS, ["hub", "site.toml", "--out", "x"]) == ["hub", "run", "site.toml", "--out", "x"]
    for words in (["hub", "backup", "x"], ["hub", "--help"], ["hub"], ["sensor", "walk"], []):
        assert spelled_out(COMMANDS, words) == words
