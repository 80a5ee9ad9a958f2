"""Say of each impulse in audio files what it was: `agls classify`."""

import argparse
from pathlib import Path

from agls.commands import DONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="WAV, FLAC or OGG")
    parser.add_argument("--out", type=Path, metavar="X.csv", required=True, help="one row per impulse")


def run(arguments: argparse.Namespace) -> int:
    """Judge the impulses of files.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        0.
    """
    from agls.classify.files import classify_files
    from agls.sensor.listen import onsets_of

    classify_files(arguments.files, arguments.out, onsets_of)
    return DONE
