"""Throw a node out: `agls deploy revoke`.

    its certificate is moved among the revoked, the list of those is signed anew     (files, at once)
    mosquitto reads the list again                                                   (SIGHUP, or a person reloads it)
    it refuses a certificate that is on the new list alone                           (so it has read it)
    the node's name is taken over                                                    (so its connection ends)

mosquitto looks at the list when somebody connects, and keeps whoever is there. But a name has one session: whoever
connects under the node's name ends the node's connection. So the authority gives itself that name for a moment, with a
key that nobody else ever has, says that the node is offline, and leaves. Nothing is restarted, and no other node
notices. Whether the list was read is not taken on trust: a probe is revoked with the node, and must be refused.
"""

import argparse
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agls.config import Mqtt
from agls.deploy.authority import PRIVATE, PUBLIC, Authority, Issued, issue, load, serial_of, write
from agls.deploy.certs import CertsFolder
from agls.deploy.enroll import check_name
from agls.errors import InputError
from agls.messages import Status
from agls.mqtt_settings import address, broker_url, tls_context
from agls.transport import Connection

PROBE = "agls-probe"
BRIEFLY = timedelta(minutes=10)
REACH_S = 10.0
READ_S = 10.0  # mosquitto reads its files again within a second
ANSWER_S = 2.0
AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Revoked:
    """What came of it.

    Attributes
    ----------
    serial : str
        Number of the certificate that was revoked, hexadecimal.
    told : bool
        Whether mosquitto was told to read the list again.
    refused : bool
        Whether the broker refuses what is on the new list.
    ended : bool
        Whether the node's connection, if it had one, was ended.
    """

    serial: str
    told: bool
    refused: bool
    ended: bool


def revoke(sensor_id: str, certs: Path, broker: str = "") -> Revoked:
    """Revoke a node's certificate and end its connection.

    Parameters
    ----------
    sensor_id : str
        The node.
    certs : pathlib.Path
        What `make_certs` made.
    broker : str, optional
        Address of the broker, such as ``mqtts://127.0.0.1:8883``; by default the one that nodes are told.

    Returns
    -------
    Revoked
        What came of it.

    Raises
    ------
    InputError
        If the node is not enrolled, or a folder or address cannot be used.
    """
    check_name(sensor_id)
    folder = CertsFolder(certs.absolute())
    authority, site = load(folder.ca), folder.described()
    url = broker or broker_url(site.hosts[0], site.port)
    address(url)
    serial = _take_back(folder, sensor_id)
    probe = issue(authority, PROBE, lifetime=BRIEFLY)
    write(folder.ca / "revoked" / f"{PROBE}-{serial_of(probe.certificate)}.pem", probe.certificate, PUBLIC)
    folder.write_revoked(authority)
    told = _tell(folder.broker / "kept" / "mosquitto.pid")
    with _at(url, authority, probe) as mqtt:
        refused = _is_refused(mqtt, READ_S if told else 0.0)
    with _at(url, authority, issue(authority, sensor_id, lifetime=BRIEFLY)) as mqtt:
        return Revoked(serial, told, refused, _take_over(sensor_id, mqtt))


def _take_back(folder: CertsFolder, sensor_id: str) -> str:
    """Move its certificate among the revoked; one that is there already is none to move, but may be said again."""
    issued, revoked = folder.issued(sensor_id), folder.ca / "revoked"
    try:
        serial = serial_of(issued.read_bytes())
        revoked.mkdir(mode=0o700, exist_ok=True)
        issued.replace(revoked / f"{sensor_id}-{serial}.pem")
    except FileNotFoundError:
        before = sorted(revoked.glob(f"{sensor_id}-*.pem"), key=lambda path: path.stat().st_mtime)
        before = [path for path in before if path.stem.rpartition("-")[0] == sensor_id]
        if before:
            return before[-1].stem.rpartition("-")[2]
        names = ", ".join(sorted(path.stem for path in issued.parent.glob("*.pem"))[:10]) or "none"
        raise InputError(f"{sensor_id} is not enrolled in {folder.path}; those that are: {names}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{issued} cannot be moved to {revoked} ({error})") from None
    return serial


def _tell(pid_file: Path) -> bool:
    """Tell mosquitto to read its files again; False where it does not run here, or is not ours to tell."""
    try:
        number = int(pid_file.read_text())
        # After a crash the number may be another program's by now, which SIGHUP might end.
        if Path(f"/proc/{number}/comm").read_text().strip() != "mosquitto":
            return False
        os.kill(number, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _at(url: str, authority: Authority, issued: Issued) -> Iterator[Mqtt]:
    """Give settings to reach the broker with a certificate, which TLS wants in files."""
    with tempfile.TemporaryDirectory() as kept:
        ca, certificate, key = (Path(kept) / name for name in ("ca.pem", "certificate.pem", "key.pem"))
        for path, pem in ((ca, authority.pem), (certificate, issued.certificate), (key, issued.key)):
            write(path, pem, PRIVATE)
        yield Mqtt(url=url, ca_file=str(ca), certificate_file=str(certificate), key_file=str(key))


def _is_refused(mqtt: Mqtt, patience_s: float) -> bool:
    """Whether the broker refuses a revoked certificate, now or within some time."""
    host, port, _ = address(mqtt.url)
    context = tls_context(mqtt)
    until_s = time.monotonic() + patience_s
    while True:
        try:
            with (
                socket.create_connection((host, port), ANSWER_S) as line,
                context.wrap_socket(line, server_hostname=host) as secure,
            ):
                secure.recv(1)  # in TLS 1.3 the refusal comes after the handshake; who is let in is told nothing yet
        except ssl.SSLError as error:
            if error.reason and error.reason.endswith("CERTIFICATE_REVOKED"):
                return True
        except OSError:
            pass
        if time.monotonic() >= until_s:
            return False
        time.sleep(AGAIN_S)


def _take_over(sensor_id: str, mqtt: Mqtt) -> bool:
    """Connect under a name, so that whoever had it has no more connection, and say that it is offline."""
    # Whoever listens learns that the node is gone, as it would by its last will.
    gone = Status(sensor_id=sensor_id, boot_id="revoked", state="offline")
    with Connection(mqtt, sensor_id, status=gone) as line:
        return line.wait_connected(REACH_S)


# ---------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("sensor", metavar="SENSOR", help="name of the node")
    parser.add_argument("--certs", type=Path, required=True, metavar="DIR", help="what `agls deploy certs` made")
    parser.add_argument("--broker", default="", metavar="URL", help="where the broker is, if not where nodes are told")


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        Exit code: 1 where the node may still be connected.
    """
    name = arguments.sensor
    done = revoke(name, arguments.certs, arguments.broker)
    crl = CertsFolder(arguments.certs.absolute()).broker / "crl.pem"
    print(f"{name}: certificate {done.serial[:8]} is revoked ({crl})")
    if done.refused and done.ended:
        print(f"{name}: its connection is ended, and the broker refuses it from now on")
        return 0
    if not done.ended:
        _say(f"the broker was not reached, so {name} may be connected still; say where it is by --broker, and again")
    else:
        _say(
            f"the broker lets {name} in again, for it does not know the new list; where it runs, put {crl.name} "
            "in its folder and run: systemctl reload mosquitto; then give this command again"
        )
    return 1


def _say(sentence: str) -> None:
    print(f"agls: {sentence}", file=sys.stderr)
