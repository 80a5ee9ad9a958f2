"""Turn the mqtt table of a configuration into what a connection needs, and failures to connect into words.

Whatever is wrong with the settings is one sentence with the key's name; no sentence repeats a secret.
"""

import ssl
import stat
from pathlib import Path
from urllib.parse import urlsplit

from agls.config import Mqtt
from agls.errors import InputError


def address(url: str) -> tuple[str, int, bool]:
    """Split an address.

    Parameters
    ----------
    url : str
        Such as ``mqtts://broker.example:8883``.

    Returns
    -------
    host : str
        Name or number.
    port : int
        As given, or the scheme's own.
    secure : bool
        Whether TLS is asked for.

    Raises
    ------
    InputError
        If it is no such address.
    """
    wanted = "what is accepted is mqtt://HOST:PORT or mqtts://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise InputError(f"mqtt.url is {url!r}, which names no usable host and port; {wanted}.") from None
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise InputError(f"mqtt.url is {url!r}; {wanted}.")
    secure = parts.scheme == "mqtts"
    return host, (8883 if secure else 1883) if port is None else port, secure


def broker_url(host: str, port: int) -> str:
    """Write the address of a broker with TLS.

    Parameters
    ----------
    host : str
        Name or address; one of IPv6 as it is, without brackets.
    port : int
        Port.

    Returns
    -------
    str
        Such as ``mqtts://[2001:db8::7]:8883``.
    """
    return f"mqtts://{f'[{host}]' if ':' in host else host}:{port}"


def password(file: str) -> str:
    """Read a password from a file that only its owner may read.

    Parameters
    ----------
    file : str
        Path of the file; it holds the password alone.

    Returns
    -------
    str
        The password.

    Raises
    ------
    InputError
        If the file cannot be read, or others may use it.
    """
    path = Path(file)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"mqtt.password_file {file} cannot be read ({error}); give a text file of mode 0600."
        ) from None
    if mode & 0o077:
        raise InputError(f"mqtt.password_file {file} has mode {mode:04o}, others may use it; what is accepted is 0600.")
    return secret


def tls_context(mqtt: Mqtt) -> ssl.SSLContext:
    """Prepare TLS, 1.2 or later, that checks the broker's certificate and name.

    Parameters
    ----------
    mqtt : Mqtt
        Names the files.

    Returns
    -------
    ssl.SSLContext
        Ready to use.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=mqtt.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if mqtt.certificate_file:
            context.load_cert_chain(mqtt.certificate_file, mqtt.key_file or None)
    except OSError as error:  # an SSLError is one
        files = ", ".join(file for file in (mqtt.ca_file, mqtt.certificate_file, mqtt.key_file) if file)
        raise InputError(f"mqtt: {files} cannot be used for TLS ({error}); give PEM files of this broker.") from None
    return context


def why_unreachable(error: BaseException | None) -> tuple[str, str]:
    """Say why no connection came about.

    Parameters
    ----------
    error : BaseException or None
        What was raised.

    Returns
    -------
    name : str
        To count it under: ``unreachable``, ``tls_refused`` or ``connect_unanswered``.
    sentence : str
        For a person.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls_refused", f"TLS: its certificate is refused ({error.verify_message}); see mqtt.ca_file"
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        return "connect_unanswered", "it accepts the connection and never answers (TLS)"
    if isinstance(error, ssl.SSLError):
        return "tls_refused", f"TLS fails ({error.reason or error}); mqtts:// needs a port with TLS"
    return "unreachable", str(getattr(error, "strerror", None) or error or "no reason given")


def why_ended(reason: str) -> tuple[str, str]:
    """Say why a connection ended before the broker had accepted or refused it.

    Parameters
    ----------
    reason : str
        The client library's word for it.

    Returns
    -------
    name : str
        To count it under: ``connect_unanswered`` or ``connect_ended``.
    sentence : str
        For a person.
    """
    if reason == "Keep alive timeout":
        return "connect_unanswered", "it accepts the connection and never answers"
    return (
        "connect_ended",
        "it ends the connection without an answer; a port with TLS (mqtts://) or another client certificate?",
    )


def why_refused(reason: str, username: str) -> str:
    """Say why a broker accepts nobody like us.

    Parameters
    ----------
    reason : str
        The broker's answer.
    username : str
        Whom it refused; empty for nobody by name.

    Returns
    -------
    str
        For a person.
    """
    if reason not in ("Bad user name or password", "Not authorized"):
        return f"it refuses the connection ({reason})"
    who = f"the password of mqtt.username {username!r}" if username else "clients without mqtt.username"
    return f"it refuses {who} ({reason})"
