"""Commands: what they answer, and how they end."""

import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from agls import __version__
from agls.cli import COMMANDS, main
from agls.commands import Command, Group, stop_on_signal
from firmware_sim.scene import DEMO_SCENE


def paths(group: "Group", way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Find every command, as the words one types."""
    for name, item in group.commands.items():
        if isinstance(item, Group):
            yield from paths(item, (*way, name))
        else:
            yield (*way, name)


ALL = list(paths(COMMANDS))


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_module_runs_as_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "agls", "--version"], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, f"agls {__version__}\n")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_tells_its_arguments(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert "usage: agls " + " ".join(words) in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [[], ["nothing"], ["sensor"], ["config", "example"], ["config", "example", "city"], ["replay", "somewhere"],
     ["demo", "--port", "99999"], ["sensor", "run", "n.toml", "--files", "a.wav", "--start", "yesterday"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_use_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["config", "check", "FILE"], ["hub", "FILE", "--out", "OUT"], ["console", "FILE"], ["demo", "--scene", "FILE"],
     ["sensor", "run", "FILE", "--files", "a.wav"], ["simulate", "FILE", "--out", "OUT"],
     ["simulate", "--fleet", "FILE", "--broker", "mqtt://127.0.0.1:1"],
     ["replay", "FILE", "--out", "OUT"], ["classify", "FILE", "--out", "OUT.csv"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_file_that_is_not_there_ends_with_2_and_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent")
    code = main([word.replace("FILE", absent).replace("OUT", str(tmp_path / "out")) for word in words])
    told = capsys.readouterr().err
    assert code == 2
    assert absent in told
    assert told.startswith("agls: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["demo", "--headless", "--duration", "1", "--out", "FILE"], ["schema", "--out", "FILE"],
     ["classify", "FILE", "--out", "OUT.csv"], ["sensor", "run", "NODE", "--files", "GOOD", "FILE"],
     ["replay", "FILE", "--out", "OUT"], ["hub", "FILE", "--out", "OUT"], ["simulate", "FILE", "--out", "OUT"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_an_empty_file_where_something_else_is_wanted_ends_with_2_and_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"FILE": tmp_path / "empty.wav", "OUT": tmp_path / "out", "NODE": tmp_path / "n.toml"}
    places["GOOD"] = tmp_path / "good.wav"
    places["FILE"].touch()
    places["NODE"].write_text('sensor_id = "a"\n')
    with wave.open(str(places["GOOD"]), "wb") as good:
        good.setparams((1, 2, 12_000, 0, "NONE", ""))
        good.writeframes(bytes(2_000))
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    assert main(words) == 2
    heard = capsys.readouterr()
    assert (heard.out, heard.err.count("\n")) == ("", 1)
    assert str(places["FILE"]) in heard.err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["s.toml"], "a scene takes --out"), (["s.toml", "--out", "o", "--broker", "mqtt://x"], "and no --broker"),
     (["--fleet", "f.toml"], "a fleet takes --broker"),
     (["--fleet", "f.toml", "--broker", "mqtt://x", "--out", "o"], "and no --out"),
     (["--fleet", "FLEET", "--broker", "mqtt://127.0.0.1:1"], "mqtt://127.0.0.1:1: Connection refused")],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)  # fmt: skip
def test_a_scene_and_a_fleet_are_told_what_each_takes(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from firmware_sim.fleet import EXAMPLE_FLEET

    assert main(["simulate", *(word.replace("FLEET", str(EXAMPLE_FLEET)) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_the_examples_pass_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("site", "node"):
        assert main(["config", "example", kind]) == 0
        path = tmp_path / f"{kind}.toml"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        assert main(["config", "check", str(path)]) == 0
        assert "nothing wrong found" in capsys.readouterr().out


def test_the_schemas_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--out", str(tmp_path)]) == 0
    assert str(tmp_path / "detection.json") in capsys.readouterr().out


def test_a_package_that_a_node_lacks_is_told_with_its_extra(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('name = "x"\n[[sensor]]\nsensor_id = "a"\nx_m = 0\ny_m = 0\nz_m = 0\n')
    ended = python(
        "import sys; sys.modules['numba'] = None; from agls.cli import main;"
        f"sys.exit(main(['hub', {str(site)!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    assert ended.returncode == 2
    told = ended.stderr.splitlines()[-1]
    assert told == "agls: this command needs numba, which is not installed; pip install 'agls[hub]'"


def interrupt(_: object) -> int:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def fail(_: object) -> int:
    """Have a bug."""
    raise ZeroDivisionError


def test_an_interrupted_command_ends_with_130_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS.commands, "schema", Command("", lambda _: None, interrupt))
    assert main(["schema"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words, code", [(["config", "example", "site"], 1), (["--help"], 0)])
def test_who_has_read_enough_ends_a_command_without_a_word(words: list[str], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "agls", *words], stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS.commands, "schema", Command("", lambda _: None, fail))
    with pytest.raises(ZeroDivisionError):
        main(["schema"])


def test_a_simulation_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "agls", "simulate", str(DEMO_SCENE), "--out", str(tmp_path / "city")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    deadline_s = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.terminate()
    assert process.communicate() == (None, b"")
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_the_first_signal_asks_to_finish_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_asking_for_help_loads_nothing_heavy() -> None:
    ended = python(
        "import sys\nfrom agls.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'numpy', 'numba', 'paho', 'starlette'} & set(sys.modules)"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
