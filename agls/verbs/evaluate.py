"""Measure a model on labelled recordings: `agls evaluate`."""

import argparse
from pathlib import Path

from agls.commands import DONE, show_progress
from agls.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument(
        "recordings", type=Path, metavar="DIR|CSV", nargs="+",
        help="a folder of folders named by label, or a CSV with path, label and perhaps source_id",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="OUT", required=True, help="folder for the page and the figures")
    parser.add_argument(
        "--model", type=Path, metavar="MODEL.json", help="whom to evaluate (default: the shipped model)"
    )
    parser.add_argument("--against", type=Path, metavar="MODEL.json", help="another one, side by side")
    parser.add_argument("--draws", type=int, default=1000, help="how often sources are drawn again (default: 1000)")


def run(arguments: argparse.Namespace) -> int:
    """Measure a model, or two side by side.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        0.
    """
    from agls.classify.collections import evaluated, gathered
    from agls.classify.model import load_model
    from agls.sensor.listen import onsets_in

    if not 10 <= arguments.draws <= 100_000:
        raise InputError("--draws must be from 10 to 100000")
    chosen = [arguments.model, *([arguments.against] if arguments.against else [])]
    # A person who names a model file to measure it need not trust it.
    models = [load_model(path, keys=()) if path else load_model() for path in chosen]
    recordings = gathered(None, arguments.recordings)
    first = evaluated(recordings, onsets_in, models, arguments.out, arguments.draws, show_progress)
    for name, figure in first.figures.items():
        print(f"{figure.value:.3f} ({figure.interval[0]:.3f} to {figure.interval[1]:.3f})  {name}, n {figure.count}")
    print(arguments.out / "evaluation.html")
    return DONE
