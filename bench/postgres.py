"""A PostgreSQL server of our own, in a folder of its own and at a free port; killed at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SEARCH = Path("/usr/lib/postgresql")
USER = "postgres"
START_S = 30.0


def programs() -> Path | None:
    """Find where PostgreSQL's programs are.

    Returns
    -------
    pathlib.Path or None
        The folder of ``initdb`` and ``postgres``; None where there is none, or where nobody but root could run it.
    """
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(SEARCH.glob("*/bin"), reverse=True)
    needed = ("initdb", "postgres", "createdb", "pg_isready")
    usable = [folder for folder in folders if all((folder / name).exists() for name in needed)]
    return usable[0] if usable and (os.geteuid() != 0 or shutil.which("runuser")) else None


class Cluster:
    """A server that comes back where it was; its folder is gone when it is closed.

    Parameters
    ----------
    where : pathlib.Path
        Its programs (`programs`).
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        self._folder = Path(tempfile.mkdtemp(prefix="agls-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER, USER)
        self._run("initdb", "--pgdata", str(self._folder), "--username", "agls", "--auth", "trust", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        """Make a database.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        str
            Its address.
        """
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "agls", name)
        return f"postgresql://agls@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=16MB",
        ]
        # It is the process that is killed here, not the power: what the system was handed is kept without fsync.
        settings += ["fsync=off", "restart_after_crash=off"]
        words = [str(self._where / "postgres"), "-D", str(self._folder)]
        words += [word for setting in settings for word in ("-c", setting)]
        self._process = subprocess.Popen([*self._as_user(), *words], stderr=subprocess.DEVNULL, start_new_session=True)
        ready = [str(self._where / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        until_s = time.monotonic() + START_S
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > until_s or self._process.poll() is not None:
                raise TimeoutError("PostgreSQL did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it, with all its children, as a power cut would."""
        if self._process is None:
            return
        server = int((self._folder / "postmaster.pid").read_text().split()[0])
        for pid in (server, *_children(server)):  # each is in a session of its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *words: str) -> None:
        command = [*self._as_user(), str(self._where / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")

    def _as_user(self) -> list[str]:
        """PostgreSQL refuses to run as root."""
        return ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []


def _children(parent: int) -> list[int]:
    """List the processes that a process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(status.parent.name))
    return found
