"""Every command, thin: read the arguments, call the function that does the work, tell the outcome.

Each command imports what it needs when it is called, so that a node loads nothing that only the hub needs, and so
that this file alone may hand the simulator to `agls`. Exit codes: 0 done, 2 wrong use or bad input (one sentence on
stderr), 130 interrupted, 1 anything else.
"""

import argparse
import logging
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agls import __version__
from agls.commands import (
    BAD_INPUT,
    DONE,
    FAILED,
    INTERRUPTED,
    Command,
    Group,
    counted,
    end_on_sigterm,
    fill,
    of_module,
    port,
    say,
    spelled_out,
    stop_on_signal,
)
from agls.errors import InputError

if TYPE_CHECKING:
    from agls.config import NodeConfig
    from agls.sensor.card import CardSource

SIMULATED = "sim"  # as a microphone's device, alone or before : and a scene's file

# Which extra brings a package that a node does not have.
EXTRA_OF = {
    "amqtt": "hub", "cryptography": "hub", "jinja2": "hub", "numba": "hub", "pyproj": "hub", "scipy": "hub",
    "sqlalchemy": "hub", "starlette": "hub", "uvicorn": "hub", "websockets": "hub",
    "librosa": "train", "sklearn": "train",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of AGLS.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process if not given.

    Returns
    -------
    int
        Exit code: 0 done, 1 nobody reads what is printed any more, 2 bad input, 130 interrupted. Wrong use and
        ``--help`` end in `SystemExit`.
    """
    try:
        try:
            with end_on_sigterm():
                return _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_unread(sys.stdout.fileno()):
            raise
        # Such as after `| head`; what is still to be printed at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _is_unread(descriptor: int) -> bool:
    """Whether nobody can read any more what is written to a pipe."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(found & select.POLLERR for _, found in watch.poll(0))


def _main(words: Sequence[str]) -> int:
    # What the library has to say while it works, such as that the broker cannot be reached: one line each.
    logging.basicConfig(level=logging.WARNING, format="agls: %(message)s")
    try:
        words = spelled_out(COMMANDS, words)
        arguments = _parser(words).parse_args(words)
        done: int = arguments.run(arguments)
    except InputError as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        return _refuse(f"this command needs {package}, which is not installed; pip install 'agls[{EXTRA_OF[package]}]'")
    except KeyboardInterrupt:
        return INTERRUPTED
    return done


def _refuse(sentence: str) -> int:
    say(sentence)
    return BAD_INPUT


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agls", description=COMMANDS.summary)
    parser.add_argument("--version", action="version", version=f"agls {__version__}")
    fill(parser, COMMANDS, words)
    return parser


# ------------------------------------------------------------------------------------------------ live commands


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--headless", action="store_true", help="do not open a browser; stop after --duration")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds to run (default: until Ctrl-C)")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("out-demo"), help="folder for what it leaves")
    parser.add_argument("--port", type=port, default=8080, help="port of the page on 127.0.0.1 (default: 8080)")
    parser.add_argument("--scene", type=Path, metavar="TOML", help="another simulated city")


def _demo(arguments: argparse.Namespace) -> int:
    from functools import partial

    from agls.demo import City, run_demo
    from agls.tally import TrueShot
    from firmware_sim import live, scene, sources

    path = arguments.scene or scene.DEMO_SCENE
    played = scene.load_scene(path)
    city = City(
        site=scene.site_config(played),
        nodes=tuple(scene.node_configs(played)),
        open_source=partial(live.open_source, path),
        truth=tuple(
            TrueShot(sources.name_of(shot.maker), shot.time_s, *shot.position_m) for shot in scene.shots(played)
        ),
        period_s=played.duration_s,
    )
    with stop_on_signal() as stop:
        return run_demo(
            city,
            headless=arguments.headless,
            duration_s=arguments.duration,
            out=arguments.out,
            port=arguments.port,
            stop=stop,
        )


def _sensor_run_arguments(parser: argparse.ArgumentParser) -> None:
    from agls.sensor.live import add_arguments

    add_arguments(parser)


def _sensor_run(arguments: argparse.Namespace) -> int:
    from agls.sensor.live import run

    return run(arguments, _microphone)


def _microphone(config: "NodeConfig", path: Path) -> "CardSource":
    """Make the source that a node's file names: a sound card, or one of the simulator's."""
    from agls.sensor.card import BLOCK_FRAMES, CardSource
    from agls.sensor.portaudio import card_numbers, open_microphone

    microphone = config.microphone
    if not microphone.device:
        there = ", ".join(f"hw:{name}" for name in sorted(card_numbers())) or "none on this machine"
        raise InputError(f"{path}: microphone.device is empty; a sound card is accepted ({there}), or --files")
    if microphone.device.partition(":")[0] != SIMULATED:
        return open_microphone(microphone)
    from firmware_sim.live_card import live_card

    open_card = live_card(microphone, config.sensor_id, BLOCK_FRAMES)
    return CardSource(open_card, float(microphone.sample_rate_hz), BLOCK_FRAMES, microphone.pulse_channel)


def _sensor_check_arguments(parser: argparse.ArgumentParser) -> None:
    from agls.sensor.check import add_arguments

    add_arguments(parser)


def _sensor_check(arguments: argparse.Namespace) -> int:
    from agls.sensor.check import run

    return run(arguments, _microphone)


# -------------------------------------------------------------------------------------- recordings and simulation


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "scene", type=Path, metavar="SCENE.toml", nargs="?", help="the simulated city and what sounds in it"
    )
    what.add_argument("--fleet", type=Path, metavar="FLEET.toml", help="load a broker with many nodes instead")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the dataset of a scene, truth included")
    parser.add_argument(
        "--broker", metavar="URL", help="the broker that a fleet talks to, such as mqtt://127.0.0.1:1883"
    )


def _simulate(arguments: argparse.Namespace) -> int:
    if arguments.fleet:
        return _simulate_fleet(arguments)
    from firmware_sim.dataset import simulate

    if arguments.out is None or arguments.broker:
        raise InputError("a scene takes --out, the folder for its dataset, and no --broker")
    simulate(arguments.scene, arguments.out)
    return DONE


def _simulate_fleet(arguments: argparse.Namespace) -> int:
    from agls.config import Mqtt
    from firmware_sim.fleet import load_fleet, run_fleet, told

    if arguments.broker is None or arguments.out:
        raise InputError("a fleet takes --broker, such as mqtt://127.0.0.1:1883, and no --out")
    fleet = load_fleet(arguments.fleet)
    with stop_on_signal() as stop:
        account = run_fleet(fleet, Mqtt(url=arguments.broker), stop)
    print(told(account))
    return DONE if account.complete else FAILED


# --------------------------------------------------------------------------------------- configuration and schemas


def _example_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("site", "node"), help="which file")


def _example(arguments: argparse.Namespace) -> int:
    from agls.config import NodeConfig, SiteConfig
    from agls.example import example

    print(example({"site": SiteConfig, "node": NodeConfig}[arguments.kind]), end="")
    return DONE


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.toml", help="a site or node file")


def _check(arguments: argparse.Namespace) -> int:
    from agls.config import SiteConfig, load_any

    found = load_any(arguments.file)
    if isinstance(found, SiteConfig):
        held = f"a site with {counted(len(found.sensor), 'sensor')} and {counted(len(found.camera), 'camera')}"
    else:
        held = f"the node {found.sensor_id}"
    print(f"{arguments.file}: {held}; nothing wrong found")
    return DONE


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("schemas"), help="folder (default: schemas)")


def _schema(arguments: argparse.Namespace) -> int:
    from agls.schemas import write_schemas

    for path in write_schemas(arguments.out):
        print(path)
    return DONE


COMMANDS = Group(
    "Acoustic gunshot location: sensor nodes, hub, replay.",
    {
        "demo": Command("Run the whole chain on a simulated city", _demo_arguments, _demo),
        "replay": of_module("Run a recorded dataset through the live pipeline", "agls.verbs.replay"),
        "classify": of_module("Say of each impulse in audio files what it was", "agls.verbs.classify"),
        "train": of_module("Train a model from labelled recordings and made sounds", "agls.verbs.train"),
        "evaluate": of_module("Measure a model on labelled recordings", "agls.verbs.evaluate"),
        "sensor": Group(
            "Work with one sensor node",
            {
                "init": of_module("Write a node's file and secrets", "agls.sensor.setup"),
                "check": Command(
                    "Try everything a node needs, and say what to do", _sensor_check_arguments, _sensor_check
                ),
                "run": Command("Hear, judge and send detections", _sensor_run_arguments, _sensor_run),
                "install": of_module("Let systemd run the node from now on", "agls.sensor.install"),
                "privacy-report": of_module("Print what left a node in the last 24 hours", "agls.sensor.privacy"),
            },
        ),
        "hub": Group(
            "Locate shots from the detections of a site; `agls hub SITE.toml` is short for `agls hub run SITE.toml`",
            {
                "run": of_module("Locate shots from the detections of a site", "agls.verbs.hub"),
                "install": of_module("Let systemd run the hub from now on", "agls.hub_unit"),
                "backup": of_module("Back up journals and store, while the hub runs", "agls.backup"),
                "restore": of_module("Put a back-up in the place of a hub", "agls.restore"),
                "upgrade": of_module("Bring the store up to this version", "agls.verbs.upgrade"),
            },
            otherwise="run",
        ),
        "console": of_module("Show the live map and incidents of a site", "agls.verbs.console"),
        "bridge": Group(
            "Tell dispatch and the RTCC of incidents",
            {
                "formats": of_module("Print an incident as any receiver reads it", "agls.bridge.show"),
                "send": of_module("Tell whoever receives exercises of one", "agls.bridge.exercise"),
                "serve": of_module("Let CADs and the RTCC fetch incidents", "agls.bridge.serving"),
            },
        ),
        "simulate": Command(
            "Write a simulated dataset with its truth, or load a broker with a fleet", _simulate_arguments, _simulate
        ),
        "calibrate": Group(
            "Measure a real site: clocks, places, air, ears, cameras",
            {
                "clock": of_module("Capture latency and drift of a device, from pulses", "calibration.clock"),
                "survey": of_module("Where sensors stand, from GNSS fixes or test shots", "calibration.survey"),
                "weather": of_module("Sound speed and wind, from located shots", "calibration.weather"),
                "classifier": of_module("What a node's probabilities mean, from labels", "calibration.classifier"),
                "camera": of_module("Where a camera mount looks, from landmarks", "calibration.camera"),
                "coverage": of_module("Where shots would be heard, and how well located", "calibration.coverage"),
            },
        ),
        "deploy": Group(
            "Say who may speak to a site's broker",
            {
                "certs": of_module("Make a site's authority, and what its broker and hub need", "agls.deploy.certs"),
                "enroll": of_module("Make the bundle that lets a node in", "agls.deploy.enroll"),
                "revoke": of_module("Throw a node out", "agls.deploy.revoke"),
            },
        ),
        "config": Group(
            "Print and check configuration files",
            {
                "example": Command("Print a commented example", _example_arguments, _example),
                "check": Command("Say whether a file would be accepted", _check_arguments, _check),
            },
        ),
        "schema": Command("Write the JSON Schemas of all messages", _schema_arguments, _schema),
    },
)
