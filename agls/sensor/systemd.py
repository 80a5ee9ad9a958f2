"""Tell systemd how the node is: ready, alive while samples advance, and a line for ``systemctl status``.

What it wants to hear is in the environment: ``NOTIFY_SOCKET``, a datagram socket, and ``WATCHDOG_USEC``, after how much
silence it begins the node anew. Where nobody listens, nothing is said.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

FEEDS_COUNT = 4  # in each period of the watchdog


class Supervisor:
    """Who started the node and watches it.

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
            line.setblocking(False)  # who listens to nobody must not make a node deaf
            try:
                line.sendto("\n".join(lines).encode(), address)
            except OSError as error:
                log.debug("systemd did not hear %r: %s", lines, error)

    def alive(self, now_ns: int) -> None:
        """Say that samples advance; it is passed on some times in each period.

        Parameters
        ----------
        now_ns : int
            The time, of a clock that only goes forward.
        """
        if self._every_ns and (self._fed_ns is None or now_ns - self._fed_ns >= self._every_ns):
            self._fed_ns = now_ns
            self.tell("WATCHDOG=1")
