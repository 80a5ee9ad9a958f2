"""Show the live map of a site: `agls console`."""

import argparse
from pathlib import Path

from agls.commands import DONE, port, stop_on_signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="see `agls config example site`")
    parser.add_argument("--port", type=port, default=8080, help="port of the page on 127.0.0.1 (default: 8080)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the hub's folder, to speak of the incidents kept there"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until a signal ends it.

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
    from agls.console.app import run_console

    site = load_site(arguments.site)
    with stop_on_signal() as stop:
        run_console(site, arguments.port, stop, arguments.out)
    return DONE
