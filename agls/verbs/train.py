"""Train a model from labelled recordings and made sounds: `agls train`."""

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
    parser.add_argument("--out", type=Path, metavar="MODEL.json", required=True, help="the model file to write")
    parser.add_argument(
        "--shared", type=Path, metavar="DIR", help="folder with the collections that the shipped model learns from"
    )
    parser.add_argument(
        "--add", type=Path, metavar="DIR|CSV", nargs="+", default=[],
        help="your recordings: a folder of folders named by label, or a CSV with path, label and perhaps source_id",
    )  # fmt: skip
    parser.add_argument("--name", default="agls-2", help="name and version it will go by (default: agls-2)")
    parser.add_argument("--seed", type=int, default=0, help="the same gives the same file (default: 0)")
    parser.add_argument("--made", type=int, metavar="N", help="how many sounds to make besides")
    parser.add_argument("--key", type=Path, metavar="FILE", help="secret key to sign with, made if it is not there")


def run(arguments: argparse.Namespace) -> int:
    """Train a model and print what was measured.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        0.
    """
    from agls.classify.collections import gathered, secret_key
    from agls.classify.signature import public_key
    from agls.classify.train import MADE_COUNT, train
    from agls.sensor.listen import onsets_in

    if arguments.seed < 0 or (arguments.made is not None and not 0 <= arguments.made <= 1_000_000):
        raise InputError("--seed must not be negative, and --made must be from 0 to 1000000")
    recordings = gathered(arguments.shared, arguments.add)
    key = secret_key(arguments.key) if arguments.key else None
    metrics = train(
        recordings,
        onsets_in,
        arguments.out,
        name=arguments.name,
        seed=arguments.seed,
        made_count=MADE_COUNT if arguments.made is None else arguments.made,
        key=key,
        tell=show_progress,
    )
    for name, value in metrics.items():
        print(f"{value:.3f}  {name}")
    if key is not None:
        print(f'signed; a node that shall trust it says model_key = "{public_key(key).hex()}"')
    return DONE
