"""Certificates of one site: an authority of its own, what it signs, and what it has taken back.

Everybody who speaks to the broker has a certificate of this authority, and its common name is who they are: a node's
is its `sensor_id`. What is in force and what was revoked are files in a folder, so no list can disagree with them.

    ca/ca.pem  ca/ca.key           the authority
    ca/issued/NAME.pem             the certificate that is in force
    ca/revoked/NAME-SERIAL.pem     those that are not any more

Keys are on the curve P-256, which the smallest computer on a pole signs with in a millisecond.
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agls.errors import InputError

# A pole without a battery for its clock wakes up in the past, until it has heard the time.
BACKDATED = timedelta(days=2)
# Nobody climbs thousands of poles for a date; who must go is revoked.
LIFETIME = timedelta(days=10 * 365)
AUTHORITY_LIFETIME = timedelta(days=20 * 365)
PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs.

    Attributes
    ----------
    certificate : cryptography.x509.Certificate
        What others know it by.
    key : cryptography.hazmat.primitives.asymmetric.ec.EllipticCurvePrivateKey
        What it signs with.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Write its certificate.

        Returns
        -------
        bytes
            PEM.
        """
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key.

    Attributes
    ----------
    certificate : bytes
        PEM.
    key : bytes
        PEM, not encrypted.
    """

    certificate: bytes
    key: bytes


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file such that it is never seen half written, nor for a moment by anybody it is not for.

    Parameters
    ----------
    path : pathlib.Path
        Which; its folder is made, for its owner alone.
    content : bytes
        What it holds.
    mode : int
        Who may read it: `PRIVATE` or `PUBLIC`.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0:  # what root writes belongs to whom the folder belongs, such as mosquitto
                os.fchown(file.fileno(), path.parent.stat().st_uid, path.parent.stat().st_gid)
            file.write(content)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); give a folder that you may write to") from None


def found(folder: Path, site: str) -> tuple[Authority, bool]:
    """Take the authority of a folder; where there is none, make one.

    Parameters
    ----------
    folder : pathlib.Path
        The folder ``ca``.
    site : str
        Whose it is.

    Returns
    -------
    authority : Authority
        The one in the folder.
    is_new : bool
        Whether it was made just now.

    Raises
    ------
    InputError
        If half of it is there, or it cannot be read or written.
    """
    if (folder / "ca.key").exists() or (folder / "ca.pem").exists():
        return load(folder), False
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"AGLS {site}"[:64])
    certificate = (
        _unsigned(name, name, key.public_key(), AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(certificate, key)
    write(folder / "ca.key", _key_pem(key), PRIVATE)
    write(folder / "ca.pem", authority.pem, PUBLIC)
    return authority, True


def load(folder: Path) -> Authority:
    """Read the authority of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        The folder ``ca``.

    Returns
    -------
    Authority
        The one in the folder.

    Raises
    ------
    InputError
        If there is none, or what is there is none.
    """
    try:
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    except (OSError, ValueError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{folder} holds no authority that can be used ({why}); give the folder that `agls deploy certs` made"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InputError(f"{folder}: ca.key is not the key of ca.pem; give the folder that `agls deploy certs` made")
    return Authority(certificate, key)


def issue(authority: Authority, name: str, hosts: Sequence[str] = (), lifetime: timedelta = LIFETIME) -> Issued:
    """Sign a certificate, with a key made for it.

    Parameters
    ----------
    authority : Authority
        Who signs.
    name : str
        Whom it names.
    hosts : sequence of str, optional
        Names and addresses under which a broker is found; where given, it is one for a broker, else for a client.
    lifetime : datetime.timedelta, optional
        How long it holds.

    Returns
    -------
    Issued
        Certificate and key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _unsigned(_name(name), authority.certificate.subject, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    signed = builder.sign(authority.key, hashes.SHA256())
    return Issued(signed.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def revocation_list(authority: Authority, revoked: Iterable[Path]) -> bytes:
    """Sign the list of certificates that hold no more.

    A broker that checks such a list lets nobody in once it is out of date: it is made to outlive the authority.

    Parameters
    ----------
    authority : Authority
        Who signs.
    revoked : iterable of pathlib.Path
        The certificates' files; when a file was moved there its certificate was revoked.

    Returns
    -------
    bytes
        PEM.

    Raises
    ------
    InputError
        If a file is no certificate.
    """
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + AUTHORITY_LIFETIME)
    )
    for path in revoked:
        try:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no certificate ({error}); what belongs there is what was revoked") from None
        gone = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(gone.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def serial_of(certificate: bytes) -> str:
    """Say a certificate's number.

    Parameters
    ----------
    certificate : bytes
        PEM.

    Returns
    -------
    str
        Hexadecimal.
    """
    return f"{x509.load_pem_x509_certificate(certificate).serial_number:x}"


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
