"""Let systemd run a node: `agls sensor install`.

The unit begins the node at boot and whenever it ends, and anew when it says for `WATCHDOG_S` that no samples advance
(`agls.systemd`): first kindly, so that it says farewell. It runs as a user who owns nothing but the node's state
and secrets, sees the system read-only, and opens no device but sound cards. ``--print`` shows it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agls.config import NodeConfig, load_node
from agls.errors import InputError
from agls.sensor.privacy import NAME
from agls.sensor.setup import STATE_FOLDER
from agls.systemd import (
    SANDBOX,
    UNITS,
    USER,
    command,
    home,
    is_of,
    make_user,
    refuse_closed,
    refuse_unable,
    run_command,
    start,
)

# Longer than a node takes to open a card again by itself: beginning anew is for when that does not help.
WATCHDOG_S = 30

UNIT = """\
# Made by `agls sensor install`; run it again after the node's file has moved.
[Unit]
Description=AGLS sensor node {sensor_id}
# Times are good once the clock is; until then the node hears, and stamps what it heard later.
Wants=network-online.target
After=network-online.target sound.target chrony.service gpsd.service
# Never give up: nobody stands beside the pole.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=always
RestartSec=2
# Fed while samples advance. A node that is deaf for so long is ended kindly, then killed, and begins anew.
WatchdogSec={watchdog_s}
WatchdogSignal=SIGTERM
TimeoutStartSec=60
TimeoutStopSec=15
TimeoutAbortSec=15

User={user}
Group={user}
SupplementaryGroups=audio
UMask=0077
ReadWritePaths={writable}
WorkingDirectory=/
Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Sound does not wait for others.
Nice=-5
MemoryMax=200M
TasksMax=64

{sandbox}ProtectHome={home}
DeviceAllow=char-alsa rw
# PortAudio calls back through code that libffi makes while it runs: MemoryDenyWriteExecute would make it deaf.

[Install]
WantedBy=multi-user.target
"""


def unit_name(config: NodeConfig) -> str:
    """Name the service of a node.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.

    Returns
    -------
    str
        Such as ``agls-sensor-pole-7.service``.
    """
    return f"agls-sensor-{config.sensor_id}.service"


def unit(path: Path, config: NodeConfig, user: str = USER, python: str = sys.executable) -> str:
    """Write the unit of a node.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    config : NodeConfig
        What it holds.
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
        If a path cannot stand in a unit, or the node keeps no outbox on disk.
    """
    if not config.outbox_file:
        raise InputError(f"{path}: outbox_file is empty, so a loss of power would lose what was heard; name a file")
    words = [python, "-m", "agls", "sensor", "run", str(path.absolute())]
    folders = [str(folder) for folder in _folders(config)]
    return UNIT.format(
        sensor_id=config.sensor_id,
        command=command(words),
        watchdog_s=WATCHDOG_S,
        user=user,
        writable=command(folders),
        sandbox=SANDBOX,
        home=home(*words, *folders),
    )


def _folders(config: NodeConfig) -> list[Path]:
    """List the folders that a node writes into."""
    files = [Path(config.outbox_file).absolute().parent]
    return list(dict.fromkeys(files + ([Path(config.clips.folder).absolute()] if config.clips.folder else [])))


def _secrets(path: Path, config: NodeConfig) -> list[Path]:
    mqtt = config.mqtt
    named = (mqtt.password_file, mqtt.ca_file, mqtt.certificate_file, mqtt.key_file)
    # An authority of the system's belongs to the system; what init wrote lies beside the node's file.
    return [path, *(Path(file) for file in named if file and Path(file).absolute().parent == path.absolute().parent)]


def refuse_harm(path: Path, config: NodeConfig, user: str, python: str = sys.executable) -> None:
    """Refuse what would take a folder away from others, or what the node's user could not reach.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    config : NodeConfig
        What it holds.
    user : str
        Who is to run it.
    python : str, optional
        By which Python.

    Raises
    ------
    InputError
        If a folder that the node writes into holds what is not the node's, or one on the way is closed to the user.
    """
    outbox = Path(config.outbox_file).name
    for folder in _folders(config):
        others = (
            [] if is_of(folder, user) else [one.name for one in _found_in(folder) if not _is_kept(one.name, outbox)]
        )
        if folder != STATE_FOLDER and others:
            raise InputError(
                f"{path}: the node would be given the folder {folder}, which holds other things too"
                f" ({', '.join(sorted(others)[:3])}); name files in a folder of the node's own"
            )
    remedy = (
        f"install agls in /opt/agls and make the node's file there: sudo agls sensor init --out /etc/agls/{path.name}"
    )
    refuse_closed([Path(python), Path(python).resolve(), path.absolute(), *_folders(config)], user, remedy)


def _found_in(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_kept(name: str, outbox: str) -> bool:
    return name.startswith(outbox) or bool(NAME.fullmatch(name))


def install(
    path: Path,
    config: NodeConfig,
    text: str,
    units: Path = UNITS,
    user: str = USER,
    do: Callable[[Sequence[str]], object] | None = None,
) -> Path:
    """Make the user, hand over what it needs, write the unit and start it.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    config : NodeConfig
        What it holds.
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
    name = unit_name(config)
    make_user(user, run)
    for folder in _folders(config):
        run(["install", "--directory", "--mode=0750", f"--owner={user}", f"--group={user}", str(folder)])
    outbox = Path(config.outbox_file).absolute()
    kept = [str(one) for one in sorted(outbox.parent.glob(f"{outbox.name}*"))]
    run(["chown", f"{user}:{user}", *(str(one) for one in _secrets(path, config)), *kept])
    return start(text, units / name, run)


# ------------------------------------------------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls sensor install``.
    """
    parser.add_argument("node", type=Path, metavar="NODE.toml", help="made by `agls sensor init`")
    parser.add_argument("--print", action="store_true", help="show the unit and change nothing")
    parser.add_argument("--user", default=USER, help=f"who runs the node; made where there is none (default: {USER})")


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
    config = load_node(arguments.node)
    text = unit(arguments.node, config, arguments.user)
    if arguments.print:
        print(text, end="")
        return 0
    refuse_unable(f"agls sensor install {arguments.node}")
    refuse_harm(arguments.node, config, arguments.user)
    place = install(arguments.node, config, text, user=arguments.user)
    print(f"{place}: started, and from now on at boot; systemctl status {unit_name(config)} says how it goes")
    return 0
