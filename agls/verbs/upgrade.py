"""Bring the store of a hub up to this version: `agls hub upgrade`."""

import argparse

from agls.commands import DONE
from agls.verbs.hub import add_arguments

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Open the store, which brings it up to this version.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        0.
    """
    from agls.bridge.store.opening import open_store, version_of
    from agls.config import load_site

    site = load_site(arguments.site)
    engine = open_store(site.store, arguments.out, site.mqtt.realm)
    print(f"the store is at {version_of(engine)}, as this version of agls needs it")
    engine.dispose()
    return DONE
