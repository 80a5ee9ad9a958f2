"""Make what a site's broker and hub need to know whom they speak to: `agls deploy certs`.

    DIR/ca/          the authority, which signs; it belongs on no broker, and in a backup
    DIR/broker/      everything mosquitto reads: mosquitto.conf, acl, certificates, the list of revoked ones
    DIR/hub/ console/  certificate and key of each, with the authority's certificate
    DIR/broker.toml  what the broker is like; `agls deploy enroll` tells nodes whom to call

An authority is made once and never overwritten. Run again, the command keeps it and renews all else: certificates of
broker and hub, and mosquitto's settings. Nodes notice nothing of that.
"""

import argparse
import ipaddress
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from agls.config import Realm, Table, load_table
from agls.deploy import mosquitto
from agls.deploy.authority import PRIVATE, PUBLIC, Authority, Issued, found, issue, revocation_list, write
from agls.errors import InputError

HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")
LOOPBACK = ("localhost", "127.0.0.1")


class SiteBroker(Table, frozen=True, kw_only=True):
    """The broker of a site: under which names it is found, the first by nodes, and where it listens."""

    site: str = "site"
    hosts: Annotated[tuple[str, ...], Meta(min_length=1)] = ("localhost",)
    bind: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8883
    realm: Realm = "live"


@dataclass(frozen=True, slots=True)
class CertsFolder:
    """Where the certificates of a site are.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    """

    path: Path

    @property
    def ca(self) -> Path:
        """Say where the authority is.

        Returns
        -------
        pathlib.Path
            A folder.
        """
        return self.path / "ca"

    @property
    def broker(self) -> Path:
        """Say where mosquitto's files are.

        Returns
        -------
        pathlib.Path
            A folder.
        """
        return self.path / "broker"

    def issued(self, name: str) -> Path:
        """Say where the certificate that a name has now is kept.

        Parameters
        ----------
        name : str
            Of a node.

        Returns
        -------
        pathlib.Path
            A file, if the name is enrolled.
        """
        return self.ca / "issued" / f"{name}.pem"

    def described(self) -> SiteBroker:
        """Read what the broker is like.

        Returns
        -------
        SiteBroker
            As it was last given.

        Raises
        ------
        InputError
            If there is no such file.
        """
        return load_table(self.path / "broker.toml", SiteBroker)

    def write_revoked(self, authority: Authority) -> None:
        """Write the list of revoked certificates anew.

        Parameters
        ----------
        authority : Authority
            Who signs it.
        """
        revoked = sorted((self.ca / "revoked").glob("*.pem"))
        write(self.broker / "crl.pem", revocation_list(authority, revoked), PUBLIC)


def make_certs(out: Path, **changes: Any) -> tuple[SiteBroker, bool]:
    """Make or keep an authority, and make anew what broker and hub need.

    Parameters
    ----------
    out : pathlib.Path
        Folder for everything.
    **changes : str, int or tuple of str
        Fields of `SiteBroker`; those not given are as they were, or as they are by default.

    Returns
    -------
    broker : SiteBroker
        The broker it was made for.
    is_new : bool
        Whether the authority was made; False where there was one.

    Raises
    ------
    InputError
        If a field is not what it should be, or the folder cannot be used.
    """
    folder = CertsFolder(out.absolute())
    before = folder.described() if (folder.path / "broker.toml").exists() else SiteBroker()
    site = msgspec.structs.replace(before, **changes)
    _check(site)
    authority, is_new = found(folder.ca, site.site)
    _hand_over(folder.broker / "kept")
    _write_issued(folder.path / "hub", "hub", authority, issue(authority, mosquitto.HUB))
    _write_issued(folder.path / "console", "console", authority, issue(authority, mosquitto.CONSOLE))
    hosts = tuple(dict.fromkeys(site.hosts + LOOPBACK))
    _write_issued(folder.broker, "broker", authority, issue(authority, "broker", hosts))
    folder.write_revoked(authority)
    write(folder.broker / "kept" / ".keep", b"", PUBLIC)
    write(folder.broker / "acl", mosquitto.acl(site.realm).encode(), PRIVATE)
    write(folder.broker / "mosquitto.conf", mosquitto.conf(folder.broker, site.bind, site.port).encode(), PUBLIC)
    # Written as JSON, each of these values is TOML too.
    fields = ((name, msgspec.json.encode(value).decode()) for name, value in msgspec.structs.asdict(site).items())
    write(folder.path / "broker.toml", "".join(f"{name} = {value}\n" for name, value in fields).encode(), PUBLIC)
    return site, is_new


def _check(site: SiteBroker) -> None:
    for host in site.hosts:
        if not HOST.fullmatch(host) and not _is_address(host):
            raise InputError(f"--host {host!r} is no name or address of a machine; hub.example.org or 192.0.2.7 is")
    if not _is_address(site.bind):
        raise InputError(f"--bind {site.bind!r} is no address; 127.0.0.1 (this machine alone) or 0.0.0.0 (all) is")
    if not re.fullmatch(r'[^"\\\x00-\x1f\x7f]{1,80}', site.site):
        raise InputError(
            f'--site {site.site!r} is no name of a site; one line of 1 to 80 characters without " and \\ is'
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _hand_over(kept: Path, user: str = mosquitto.USER) -> None:
    """Give the broker's folder to mosquitto, which gives up being root before it writes there, and reads it anew."""
    try:
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.parent.chmod(0o700)
        account = pwd.getpwnam(user)
        # Whom somebody gave it to otherwise, it stays with.
        for folder in (kept.parent, kept):
            if os.geteuid() == 0 and folder.stat().st_uid == 0:
                for path in (folder, *(one for one in folder.iterdir() if one.is_file())):
                    os.chown(path, account.pw_uid, account.pw_gid)
    except KeyError:
        return  # the broker runs elsewhere
    except OSError as error:
        raise InputError(f"{kept} cannot be made ({error.strerror}); give a folder that you may write to") from None


def _write_issued(folder: Path, name: str, authority: Authority, issued: Issued) -> None:
    write(folder / "ca.pem", authority.pem, PUBLIC)
    write(folder / f"{name}.key", issued.key, PRIVATE)
    write(folder / f"{name}.pem", issued.certificate, PUBLIC)


# ---------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for certificates and settings")
    parser.add_argument(
        "--host", action="append", dest="hosts", metavar="NAME",
        help="name or address under which nodes reach the broker; again for more (default: localhost)",
    )  # fmt: skip
    parser.add_argument("--site", metavar="NAME", help="name of the site, told to nodes")
    parser.add_argument(
        "--bind", metavar="ADDRESS",
        help="address the broker listens on; 0.0.0.0 for all of this machine's (default: 127.0.0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--realm", choices=get_args(Realm), help="live, or exercise: a broker of an exercise's own (default: live)"
    )
    parser.add_argument("--port", type=_port, help="port the broker listens on (default: 8883)")


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; a whole number from 1 to 65535 is")


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
    given = {name: value for name, value in vars(arguments).items() if name in SiteBroker.__struct_fields__ and value}
    if "hosts" in given:
        given["hosts"] = tuple(given["hosts"])
    site, is_new = make_certs(arguments.out, **given)
    out = arguments.out.absolute()
    print(f"{out}/ca: {'a new authority; back it up' if is_new else 'the authority is kept as it was'}")
    print(f"{out}/broker: what mosquitto reads; start it with: mosquitto -c {out}/broker/mosquitto.conf")
    print(f"{out}/hub: for [mqtt] of the site: ca_file = ca.pem, certificate_file = hub.pem, key_file = hub.key")
    if site.hosts[0] not in LOOPBACK and ipaddress.ip_address(site.bind).is_loopback:
        print(f"note: it listens on {site.bind} alone; for nodes to reach {site.hosts[0]} give --bind 0.0.0.0")
    return 0
