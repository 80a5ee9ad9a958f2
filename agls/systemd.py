"""Live under systemd: what a unit may do, how it is put there, and how a service says that it is ready and alive.

A node feeds the watchdog while samples advance, a hub while its turns do. What systemd wants to hear is in the
environment: ``NOTIFY_SOCKET``, a datagram socket, and ``WATCHDOG_USEC``, after how much silence it begins the service
anew. Where nobody listens, nothing is said.
"""

import logging
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from agls.errors import InputError

log = logging.getLogger(__name__)

FEEDS_COUNT = 4  # in each period of the watchdog
USER = "agls"
UNITS = Path("/etc/systemd/system")
HOMES = ("/home", "/root", "/run/user")

# What neither a node nor a hub ever needs.
SANDBOX = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""


class Supervisor:
    """Who started the service and watches it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        That of the process if not given.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "") if meant else ""
        self._every_ns = int(period) * 1_000 // FEEDS_COUNT if period.isdecimal() else 0
        self._fed_ns: int | None = None

    def tell(self, *lines: str) -> None:
        """Say something.

        Parameters
        ----------
        *lines : str
            Such as ``READY=1``, ``STATUS=hearing``, ``STOPPING=1``.
        """
        if not self._address:
            return
        # A name that begins with @ is of no file; the kernel marks it by a zero byte instead.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)  # who listens to nobody must not hold the service up
            try:
                line.sendto("\n".join(lines).encode(), address)
            except OSError as error:
                log.debug("systemd did not hear %r: %s", lines, error)

    def alive(self, now_ns: int) -> None:
        """Say that the work goes on; it is passed on some times in each period.

        Parameters
        ----------
        now_ns : int
            The time, of a clock that only goes forward.
        """
        if self._every_ns and (self._fed_ns is None or now_ns - self._fed_ns >= self._every_ns):
            self._fed_ns = now_ns
            self.tell("WATCHDOG=1")


def command(words: Iterable[str]) -> str:
    """Write a command line, or a list of paths, of a unit.

    Parameters
    ----------
    words : iterable of str
        Each stands as it is.

    Returns
    -------
    str
        The line.

    Raises
    ------
    InputError
        If systemd would read a word otherwise.
    """
    words = list(words)
    for word in words:
        if not word.isprintable() or any(one in word for one in " \t\"'\\$%;"):
            raise InputError(f"{word!r} cannot stand in a unit of systemd; move it to a path without such characters")
    return " ".join(words)


def home(*words: str) -> str:
    """Say how much of people's homes a unit must see.

    Parameters
    ----------
    *words : str
        Paths it needs.

    Returns
    -------
    str
        For ``ProtectHome``.
    """
    return "read-only" if any(word.startswith(HOMES) for word in words) else "yes"


def is_of(folder: Path, user: str) -> bool:
    """Tell whether a folder is a user's.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    user : str
        The user.

    Returns
    -------
    bool
        False where there is no such folder.
    """
    try:
        return folder.exists() and folder.owner() == user
    except KeyError:  # whose owner has no name
        return False


def refuse_unable(words: str) -> None:
    """Refuse to install a service without root, or where there is no systemd.

    Parameters
    ----------
    words : str
        The command, as root would type it.

    Raises
    ------
    InputError
        If it cannot be done here.
    """
    if os.geteuid() != 0:
        raise InputError(f"installing needs root: sudo {words}; --print shows what it does")
    if not shutil.which("systemctl"):
        raise InputError("systemctl is not there; a system with systemd is needed, or run it by other means")


def refuse_closed(places: Iterable[Path], user: str, remedy: str) -> None:
    """Refuse places that a service's user could not reach.

    Parameters
    ----------
    places : iterable of pathlib.Path
        What it needs.
    user : str
        Who runs it.
    remedy : str
        What to do instead.

    Raises
    ------
    InputError
        If a folder on the way is closed to the user.
    """
    for place in places:
        for folder in place.parents:
            if folder.is_dir() and not folder.stat().st_mode & 0o001 and not is_of(folder, user):
                raise InputError(f"{folder} is closed to the user {user}, who needs {place}; {remedy}")


def make_user(user: str, do: Callable[[Sequence[str]], object]) -> None:
    """Make the user of a service, where there is none.

    Parameters
    ----------
    user : str
        The name.
    do : callable
        Runs a command.
    """
    try:
        pwd.getpwnam(user)
    except KeyError:
        do(["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user])


def start(text: str, place: Path, do: Callable[[Sequence[str]], object]) -> Path:
    """Put a unit in its place, and start it now and at each boot.

    Parameters
    ----------
    text : str
        The unit.
    place : pathlib.Path
        Its file.
    do : callable
        Runs a command.

    Returns
    -------
    pathlib.Path
        Its file.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    part = place.with_name(f".{place.name}.part")
    try:
        part.write_text(text, "utf-8")
        part.replace(place)
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror}); a folder of units is needed") from None
    do(["systemctl", "daemon-reload"])
    do(["systemctl", "enable", "--now", place.name])
    return place


def run_command(words: Sequence[str]) -> None:
    """Run a command of the system.

    Parameters
    ----------
    words : sequence of str
        Program and arguments.

    Raises
    ------
    InputError
        If it is not there, or fails; with its last line.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - words of ours
    except OSError as error:
        raise InputError(f"{words[0]} cannot be run ({error.strerror}); a system with systemd is needed") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(f"{' '.join(words)}: {said[-1] if said else f'it ended with {done.returncode}'}")
