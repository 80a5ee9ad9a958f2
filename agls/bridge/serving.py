"""`agls bridge serve`: let those fetch who are not sent to, in a process of its own that only reads the store.

Each `[[subscriber]]` of the kinds ``eido_server`` and ``stream`` is served where its `url` says. None of them can make
the hub wait, and the hub's end is not theirs.
"""

import argparse
import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from agls.bridge.eido_server import EidoServer
from agls.bridge.store.opening import open_store
from agls.bridge.stream import Stream
from agls.commands import stop_on_signal
from agls.config import SiteConfig, Subscriber, load_site
from agls.errors import InputError

JOIN_S = 10.0


class Serving:
    """Servers of a site, in a thread of their own; a context manager that ends them.

    Parameters
    ----------
    site : SiteConfig
        The site; its realm decides the store and who is served.
    folder : pathlib.Path
        The hub's folder.

    Raises
    ------
    InputError
        If there is nobody to serve, or one cannot be served as its table says.
    """

    def __init__(self, site: SiteConfig, folder: Path) -> None:
        wanted = [one for one in site.subscriber if one.kind in ("eido_server", "stream")]
        served = [one for one in wanted if one.realm == site.mqtt.realm]
        if not served:
            raise InputError(
                f"{site.name} has no subscriber of the realm {site.mqtt.realm} to serve; give one [[subscriber]] "
                'with kind = "stream" or "eido_server"'
            )
        self._engine = open_store(site.store, folder, site.mqtt.realm)
        self._servers = {one.subscriber_id: _server(self._engine, one, site.policy.issuer) for one in served}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    @property
    def ports(self) -> dict[str, int]:
        """Say where each subscriber is served.

        Returns
        -------
        dict of str to int
            Names to ports.
        """
        return {name: server.port for name, server in self._servers.items()}

    @property
    def counts(self) -> Counter[str]:
        """Count what happened.

        Returns
        -------
        collections.Counter
            ``<subscriber>.<name>`` to number.
        """
        each = {name: server.counts for name, server in self._servers.items()}
        return Counter({f"{name}.{what}": number for name, counts in each.items() for what, number in counts.items()})

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(JOIN_S)
        self._engine.dispose()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        await asyncio.gather(*(server.run(self._stop) for server in self._servers.values()))


def _server(engine: sa.Engine, subscriber: Subscriber, issuer: str) -> EidoServer | Stream:
    if subscriber.kind == "stream":
        return Stream(engine, subscriber)
    return EidoServer(engine, subscriber, issuer)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Its parser.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="see `agls config example site`")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the hub's folder")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` says.

    Returns
    -------
    int
        Exit code.
    """
    site = load_site(arguments.site)
    with stop_on_signal() as stop, Serving(site, arguments.out) as serving:
        told = ", ".join(f"{name} at port {port}" for name, port in serving.ports.items())
        print(f"agls: {site.name}: serving {told}; Ctrl-C ends it", file=sys.stderr)
        stop.wait()
    print(", ".join(f"{name} {number}" for name, number in sorted(serving.counts.items())) or "nobody came")
    return 0
