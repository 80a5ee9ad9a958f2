"""Let a node in: `agls deploy enroll` makes the one bundle that `agls sensor init` reads.

A bundle is a TOML file that holds a key, so it is for its owner alone (mode 0600) and is taken to the node by hand or
over ssh, never by mail. Nobody keeps a copy of the key: a node whose bundle is lost is revoked and enrolled anew.

    [identity]  sensor_id, site
    [broker]    host, port, ca_pem, cert_pem, key_pem (PEM, as text)
"""

import argparse
from pathlib import Path

import msgspec

from agls.config import Table
from agls.deploy import mosquitto
from agls.deploy.authority import PRIVATE, PUBLIC, Issued, issue, load, serial_of, write
from agls.deploy.certs import CertsFolder, SiteBroker
from agls.errors import InputError
from agls.messages import Identifier

RESERVED = {mosquitto.HUB, mosquitto.CONSOLE, "agls-probe", "broker"}


class _Named(Table, frozen=True, kw_only=True):
    name: Identifier


def enroll(sensor_id: str, certs: Path, out: Path | None = None) -> Path:
    """Make a node's certificate and write its bundle.

    Parameters
    ----------
    sensor_id : str
        The node's name, as in the site file.
    certs : pathlib.Path
        What `make_certs` made.
    out : pathlib.Path, optional
        Folder for the bundle; by default ``bundles`` beside the certificates.

    Returns
    -------
    pathlib.Path
        The bundle.

    Raises
    ------
    InputError
        If the name cannot be one or is enrolled already, or a folder cannot be used.
    """
    check_name(sensor_id)
    folder = CertsFolder(certs)
    authority, site = load(folder.ca), folder.described()
    known = folder.issued(sensor_id)
    if known.exists():
        raise InputError(
            f"{sensor_id} is enrolled already (certificate {serial_of(known.read_bytes())[:8]}, {known}); "
            f"if its bundle is lost or its node is new, first: agls deploy revoke {sensor_id} --certs {certs}"
        )
    issued = issue(authority, sensor_id)
    path = (out or certs / "bundles") / f"{sensor_id}.bundle.toml"
    # The certificate is on file before anybody can have it: what is not on file cannot be revoked.
    write(known, issued.certificate, PUBLIC)
    try:
        write(path, bundle(sensor_id, site, authority.pem, issued), PRIVATE)
    except InputError:
        known.unlink()
        raise
    return path


def check_name(sensor_id: str) -> None:
    """Refuse a name that no node can have.

    Parameters
    ----------
    sensor_id : str
        The name.

    Raises
    ------
    InputError
        If it is no identifier, or somebody else's.
    """
    if sensor_id in RESERVED:
        raise InputError(
            f"{sensor_id!r} is not a node's name but the {sensor_id.removeprefix('agls-')}'s; give another"
        )
    try:
        msgspec.convert({"name": sensor_id}, _Named)
    except msgspec.ValidationError:
        raise InputError(
            f"{sensor_id!r} cannot be a sensor's name; what is accepted is at most 64 letters, digits, dots, dashes "
            "and underscores, beginning with a letter or digit"
        ) from None


def bundle(sensor_id: str, site: SiteBroker, ca: bytes, issued: Issued) -> bytes:
    """Write what a node needs to know of itself and its broker.

    Parameters
    ----------
    sensor_id : str
        The node's name.
    site : SiteBroker
        Whom it calls.
    ca : bytes
        Certificate of the authority, PEM.
    issued : Issued
        The node's own certificate and key.

    Returns
    -------
    bytes
        TOML.
    """
    pems = {"ca_pem": ca, "cert_pem": issued.certificate, "key_pem": issued.key}
    return (
        f"# The node {sensor_id} of {site.site}, made by `agls deploy enroll`. It holds a key: keep no copy.\n"
        f'[identity]\nsensor_id = "{sensor_id}"\nsite = "{site.site}"\n\n'
        f'[broker]\nhost = "{site.hosts[0]}"\nport = {site.port}\n'
        + "".join(f'{name} = """\n{pem.decode()}"""\n' for name, pem in pems.items())
    ).encode()


# ---------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("sensor", metavar="SENSOR", help="name of the node, as in the site file")
    parser.add_argument("--certs", type=Path, required=True, metavar="DIR", help="what `agls deploy certs` made")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to put the bundle (default: DIR/bundles)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        Exit code.
    """
    path = enroll(arguments.sensor, arguments.certs, arguments.out)
    print(f"{path}: on the node, agls sensor init --bundle {path.name}; it holds a key, keep no copy")
    return 0
