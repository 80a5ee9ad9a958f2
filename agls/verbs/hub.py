"""Run a hub: `agls hub run`."""

import argparse
from pathlib import Path

from agls.commands import DONE, counted, say, stop_on_signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="see `agls config example site`")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for shots, incidents, cad, slew")


def run(arguments: argparse.Namespace) -> int:
    """Run a hub until a signal ends it.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        0.
    """
    from agls.config import load_site
    from agls.hub import run_hub

    site = load_site(arguments.site)
    sensors = counted(len(site.sensor), "sensor")
    say(f"{site.name}: {sensors}, broker {site.mqtt.url}, results in {arguments.out}; Ctrl-C ends it")
    with stop_on_signal() as stop:
        print(run_hub(site, arguments.out, stop, resume=True))
    return DONE
