"""Run an MQTT broker beside AGLS, for the demo and the tests: amqtt, in its own process, on loopback.

A real site uses a real broker (mosquitto); this one needs nothing but Python. It always asks for a password: amqtt
silently loses the queued messages of anonymous clients. It has its own process because it would starve beside a hub
that computes, and ends with its parent, whatever ends that: it watches its standard input.

Run as ``python -m agls.broker FOLDER PORT`` it is that process.
"""

import asyncio
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from agls.config import Mqtt
from agls.errors import InputError

HOST = "127.0.0.1"
USER = "agls"
START_S = 30.0
STOP_S = 5.0


class EmbeddedBroker:
    """An MQTT 3.1.1 broker of our own, with generated credentials.

    Parameters
    ----------
    folder : Path
        Where the credentials are kept (mode 0600); a second broker in the same folder has the same.
    port : int, optional
        Port on 127.0.0.1; 0 for a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the broker and wait until it listens.

        Raises
        ------
        InputError
            If it cannot: the port is taken, or amqtt is not installed.
        """
        write_credentials(self._folder)
        # Its own session: a Ctrl-C in the terminal is for us, and we stop the broker last.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "agls.broker", str(self._folder), str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        word, _, rest = _first_line(self._process).partition(" ")
        if word != "listening":
            self.kill()
            raise InputError(
                f"the embedded MQTT broker did not start on {HOST}:{self._port or 'any free port'}: "
                f"{rest or 'it gave no sign of life'}; free that port, or name another broker in mqtt.url."
            )
        self._port = int(rest)

    def stop(self) -> None:
        """Stop the broker, at once if it does not by itself."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=STOP_S)  # closes its standard input: it ends
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the broker's process as a power cut would: nothing is said, nothing is kept."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()

    @property
    def running(self) -> bool:
        """Tell whether the broker's process lives.

        Returns
        -------
        bool
            False before the start and after the end.
        """
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """Name the port it listens on.

        Returns
        -------
        int
            Port on 127.0.0.1; 0 before the start where none was asked for.
        """
        return self._port

    @property
    def mqtt(self) -> Mqtt:
        """Say how to connect to it.

        Returns
        -------
        Mqtt
            Address, user and password file; other settings are the defaults.
        """
        return Mqtt(
            url=f"mqtt://{HOST}:{self._port}", username=USER, password_file=str((self._folder / "password").absolute())
        )

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def write_credentials(folder: Path) -> None:
    """Make a random password and the broker's password file, unless the folder has them.

    Parameters
    ----------
    folder : Path
        Receives ``password`` (for clients) and ``users`` (argon2, for the broker), both of mode 0600.

    Raises
    ------
    InputError
        If amqtt is not installed.
    """
    try:
        from pwdlib.hashers.argon2 import Argon2Hasher
    except ImportError:
        raise InputError(
            "the embedded MQTT broker needs the package amqtt, which is not installed; "
            "install the extra agls[hub], or name another broker in mqtt.url."
        ) from None
    if (folder / "password").exists() and (folder / "users").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(32)
    # A random password needs no slow hash, and amqtt computes it in its event loop at every connection.
    hasher = Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1)
    _write_private(folder / "users", f"{USER}:{hasher.hash(password)}\n")
    _write_private(folder / "password", f"{password}\n")


def _write_private(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """Wait for the broker's first line; an empty text where it says none in time."""
    output = process.stdout
    if output is None:
        return ""
    deadline_s = time.monotonic() + START_S
    line = b""
    while not line.endswith(b"\n") and select.select([output], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        piece = os.read(output.fileno(), 4096)
        if not piece:
            break
        line += piece
    return line.decode(errors="replace").strip()


# ---------------------------------------------------------------------------------------- in the broker's process


async def _serve(folder: Path, port: int) -> str:
    """Serve until standard input ends; return why it could not, or nothing."""
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError, PluginError

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(folder / "users")},
            },
            # amqtt closes a connection after just the keep-alive time; MQTT grants half as much again.
            "timeout_disconnect_delay": 15,
        }
    )
    try:
        await broker.start()
    except (BrokerError, PluginError, OSError) as error:
        cause = error.__cause__ or error
        return " ".join(str(getattr(cause, "strerror", None) or cause).split())
    print(f"listening {port}", flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever written there: it becomes readable at its end
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    await broker.shutdown()
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _main(folder: Path, port: int) -> int:
    logging.disable()  # amqtt reports each refused packet; nobody reads it
    reason = ""
    for _ in range(1 if port else 5):  # another program may take a free port before we do
        reason = asyncio.run(_serve(folder, port or _free_port()))
        if not reason:
            return 0
    print(f"failed {reason}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2])))
