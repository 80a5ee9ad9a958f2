"""Run one node from the command line: `agls sensor run`, by a sound card or by files."""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from agls.commands import stop_on_signal
from agls.config import NodeConfig, load_node
from agls.errors import InputError
from agls.messages import parse_utc
from agls.sensor.capture import FileSource, Source
from agls.sensor.shell import run_node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls sensor run``.
    """
    parser.add_argument("node", type=Path, metavar="NODE.toml", help="made by `agls sensor init`")
    parser.add_argument(
        "--files", type=Path, nargs="+", metavar="FILE", help="audio to hear, in order, instead of the microphone"
    )
    parser.add_argument("--start", type=_moment, metavar="UTC", help="time of the first sample of files (default: now)")
    parser.add_argument(
        "--realtime", action="store_true", help="files as fast as the sound lasts, not as fast as possible"
    )


def run(arguments: argparse.Namespace, open_source: Callable[[NodeConfig, Path], Source]) -> int:
    """Run a node until its sound ends or it is told to stop.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.
    open_source : callable
        Opens the microphone that a node's file names.

    Returns
    -------
    int
        0, or 1 where files were heard and the hub has not acknowledged everything.

    Raises
    ------
    InputError
        If the file, the microphone or the audio cannot be used.
    """
    config = load_node(arguments.node)
    if arguments.files:
        return _run_files(config, arguments)
    if arguments.start is not None or arguments.realtime:
        raise InputError("--start and --realtime are of files, and there are no --files")
    return _run_live(config, open_source(config, arguments.node))


def _run_live(config: NodeConfig, source: Source) -> int:
    logging.getLogger("agls.sensor.shell").setLevel(logging.INFO)
    _say(f"{config.sensor_id}: hearing by {config.microphone.device}, broker {config.mqtt.url}; Ctrl-C ends it")
    with stop_on_signal() as stop:
        counts = run_node(config, source, stop)
    _say(_told(counts))
    if counts["unacknowledged"]:
        kept = "they are kept and sent again" if config.outbox_file else "outbox_file is empty, so they are lost"
        _say(f"{counts['unacknowledged']} detections were not acknowledged; {kept}")
    return 0


def _run_files(config: NodeConfig, arguments: argparse.Namespace) -> int:
    start_ns = arguments.start if arguments.start is not None else time.time_ns()
    lost_count = 0
    for path in arguments.files:
        FileSource(path).close()  # what cannot be heard is refused before anything is
    number = f"{len(arguments.files)} file{'s' * (len(arguments.files) > 1)}"
    _say(f"{config.sensor_id}: hearing {number}, broker {config.mqtt.url}; Ctrl-C ends it")
    with stop_on_signal() as stop:
        for path in arguments.files:
            source = FileSource(path, start_ns, realtime=arguments.realtime)
            start_ns = source.clock.utc_ns(source.frames)
            counts = run_node(config, source, stop)
            lost_count += counts["unacknowledged"]
            _say(f"{path}: {_told(counts)}")
            if stop.is_set():
                break
    if lost_count:
        _say(f"{lost_count} detections were not acknowledged; is a hub listening at {config.mqtt.url}?")
    return int(lost_count > 0)


def _say(sentence: str) -> None:
    print(f"agls: {sentence}", file=sys.stderr)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing counted"


def _moment(text: str) -> int:
    try:
        return parse_utc(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
