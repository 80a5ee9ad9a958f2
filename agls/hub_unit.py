"""Let systemd run a hub: `agls hub install`.

The unit begins the hub at boot and whenever it ends, and anew when for `WATCHDOG_S` it has taken no turn. It runs as a
user who owns the hub's folder and reads the site's file and secrets; it sees the rest of the system read-only and opens
no device. ``--print`` shows it. Migrations of the store run at each start.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agls.config import SiteConfig, load_site
from agls.systemd import (
    SANDBOX,
    UNITS,
    USER,
    command,
    home,
    make_user,
    refuse_closed,
    refuse_unable,
    run_command,
    start,
)

NAME = "agls-hub.service"
# A turn takes milliseconds; the longest computing known, in a riot of fire on a slow machine, takes seconds.
WATCHDOG_S = 60

UNIT = """\
# Made by `agls hub install`; run it again after the site's file has moved.
[Unit]
Description=AGLS hub {site}
Wants=network-online.target
After=network-online.target mosquitto.service postgresql.service chrony.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=always
RestartSec=2
WatchdogSec={watchdog_s}
WatchdogSignal=SIGTERM
# Taking up an hour's journal, compiling what locates, and a schema to be brought up to date.
TimeoutStartSec=600
# What is pending is decided and delivered first; what is not waits in the store.
TimeoutStopSec=60
TimeoutAbortSec=20

User={user}
Group={user}
UMask=0077
ReadWritePaths={out}
WorkingDirectory=/
CacheDirectory=agls-hub
Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR=/var/cache/agls-hub

{sandbox}ProtectHome={home}
# What locates is compiled while it runs: MemoryDenyWriteExecute would stop it.

[Install]
WantedBy=multi-user.target
"""


def unit(path: Path, site: SiteConfig, out: Path, user: str = USER, python: str = sys.executable) -> str:
    """Write the unit of a hub.

    Parameters
    ----------
    path : pathlib.Path
        The site's file.
    site : SiteConfig
        What it holds.
    out : pathlib.Path
        The hub's folder.
    user : str, optional
        Who runs it.
    python : str, optional
        By which Python.

    Returns
    -------
    str
        For systemd.

    Raises
    ------
    InputError
        If a path cannot stand in a unit.
    """
    words = [python, "-m", "agls", "hub", "run", str(path.absolute()), "--out", str(out.absolute())]
    return UNIT.format(
        site="".join(one for one in site.name if one.isprintable()).replace("%", "%%"),
        command=command(words),
        watchdog_s=WATCHDOG_S,
        user=user,
        out=command([str(out.absolute())]),
        sandbox=SANDBOX,
        home=home(*words),
    )


def install(
    path: Path,
    site: SiteConfig,
    out: Path,
    text: str,
    units: Path = UNITS,
    user: str = USER,
    do: Callable[[Sequence[str]], object] | None = None,
) -> Path:
    """Make the user, hand over folder and secrets, write the unit and start it.

    Parameters
    ----------
    path : pathlib.Path
        The site's file.
    site : SiteConfig
        What it holds.
    out : pathlib.Path
        The hub's folder.
    text : str
        The unit.
    units : pathlib.Path, optional
        Where units are.
    user : str, optional
        Who runs it.
    do : callable, optional
        Runs a command; raises `InputError` where it fails.

    Returns
    -------
    pathlib.Path
        The unit's file.
    """
    run = do or run_command
    make_user(user, run)
    run(["install", "--directory", "--mode=0750", f"--owner={user}", f"--group={user}", str(out.absolute())])
    kept = [str(one) for one in sorted(out.absolute().glob("*"))]
    if kept:
        run(["chown", "--recursive", f"{user}:{user}", *kept])
    run(["chown", f"{user}:{user}", *(str(one) for one in _secrets(path, site))])
    return start(text, units / NAME, run)


def _secrets(path: Path, site: SiteConfig) -> list[Path]:
    """List the site's file, and what it names that lies beside or below it."""
    mqtt = site.mqtt
    named = [mqtt.password_file, mqtt.ca_file, mqtt.certificate_file, mqtt.key_file, site.store.password_file]
    for one in site.subscriber:
        named += [one.secret_file, one.ca_file, one.certificate_file, one.key_file]
    inside = [Path(file).absolute() for file in named if file]
    return [path, *dict.fromkeys(one for one in inside if path.absolute().parent in one.parents)]


# ------------------------------------------------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls hub install``.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="see `agls config example site`")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("/var/lib/agls-hub"), help="(default: /var/lib/agls-hub)"
    )
    parser.add_argument("--print", action="store_true", help="show the unit and change nothing")
    parser.add_argument("--user", default=USER, help=f"who runs the hub; made where there is none (default: {USER})")


def run(arguments: argparse.Namespace) -> int:
    """Install the service, or show it.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.
    """
    path, out, user = arguments.site, arguments.out, arguments.user
    site = load_site(path)
    text = unit(path, site, out, user)
    if arguments.print:
        print(text, end="")
        return 0
    refuse_unable(f"agls hub install {path}")
    needed = [Path(sys.executable), Path(sys.executable).resolve(), path.absolute(), out.absolute()]
    refuse_closed(needed, user, "install agls in /opt/agls and keep the site's file in /etc/agls")
    place = install(path, site, out, text, user=user)
    print(f"{place}: started, and from now on at boot; systemctl status {NAME} says how it goes")
    return 0
