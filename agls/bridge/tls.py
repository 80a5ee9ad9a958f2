"""TLS of receivers: what proves who the other end is, and who we are; TLS 1.2 or later."""

import ssl

from agls.config import Subscriber
from agls.errors import InputError


def client_context(subscriber: Subscriber) -> ssl.SSLContext:
    """Prepare to connect: the other end's certificate and name are checked, ours is shown where there is one.

    Parameters
    ----------
    subscriber : Subscriber
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
    return _context(subscriber, ssl.Purpose.SERVER_AUTH)


def server_context(subscriber: Subscriber) -> ssl.SSLContext:
    """Prepare to be connected to, by those alone whom the authority in `ca_file` vouches for.

    Parameters
    ----------
    subscriber : Subscriber
        Names the files; all of them are needed.

    Returns
    -------
    ssl.SSLContext
        Ready to use.

    Raises
    ------
    InputError
        If a file is missing or cannot be used.
    """
    for name in ("ca_file", "certificate_file"):
        if not getattr(subscriber, name):
            raise InputError(
                f'subscriber "{subscriber.subscriber_id}": {subscriber.url} is reached by mutual TLS, which needs '
                f"{name}; give it, or listen at 127.0.0.1 without TLS"
            )
    context = _context(subscriber, ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(subscriber: Subscriber, purpose: ssl.Purpose) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=subscriber.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if subscriber.certificate_file:
            context.load_cert_chain(subscriber.certificate_file, subscriber.key_file or None)
    except OSError as error:  # an SSLError is one
        files = ", ".join(
            file for file in (subscriber.ca_file, subscriber.certificate_file, subscriber.key_file) if file
        )
        raise InputError(
            f'subscriber "{subscriber.subscriber_id}": {files} cannot be used for TLS ({error}); give PEM files'
        ) from None
    return context
