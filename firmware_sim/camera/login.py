"""Who may ask a camera: WS-UsernameToken as digest or text, and HTTP Digest.

    WS digest    Base64(SHA-1(nonce + created + password))     OASIS Username Token Profile
    HTTP digest  MD5(MD5(user:realm:password):nonce:nc:cnonce:qop:MD5(method:uri))     RFC 7616

The hashes are what the standards ask of cameras; nothing else rests on them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import deque
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from firmware_sim.camera.faults import Faults
from firmware_sim.camera.soap import WSSE, WSU, SoapError

REALM = "agls-camera"
NONCES_KEPT = 1_000


class Door:
    """Let in who knows the password.

    Parameters
    ----------
    username, password : str
        Of the one account.
    faults : Faults
        How strict or odd it is.
    http_nonce : str
        What HTTP Digest is asked with.
    """

    def __init__(self, username: str, password: str, faults: Faults, http_nonce: str) -> None:
        self.username, self.password, self.faults = username, password, faults
        self.http_nonce = http_nonce
        self._seen: deque[bytes] = deque(maxlen=NONCES_KEPT)

    @property
    def challenge(self) -> str:
        """What a refusal asks for.

        Returns
        -------
        str
            Value of ``WWW-Authenticate``.
        """
        return f'Digest realm="{REALM}", qop="auth", nonce="{self.http_nonce}", algorithm=MD5'

    def admit(self, security: Element | None, authorization: str, utc_s: float) -> None:
        """Check who asks.

        Parameters
        ----------
        security : xml.etree.ElementTree.Element or None
            The WS-Security header.
        authorization : str
            The HTTP header, or nothing.
        utc_s : float
            The camera's own clock, since 1970 [s].

        Raises
        ------
        SoapError
            ``NotAuthorized``; why is not said, as cameras do not.
        """
        token = None if security is None else security.find(f"{{{WSSE}}}UsernameToken")
        if token is not None and not self.faults.answers_401:
            admitted = self._token(token, utc_s)
        else:
            admitted = self._http(authorization)
        if not admitted:
            raise SoapError("The action requested requires authorization", "NotAuthorized")

    def _token(self, token: Element, utc_s: float) -> bool:
        said = token.find(f"{{{WSSE}}}Password")
        if said is None or token.findtext(f"{{{WSSE}}}Username") != self.username:
            return False
        given = (said.text or "").encode()
        if said.get("Type", "").endswith("#PasswordText"):
            return hmac.compare_digest(given, self.password.encode())
        if self.faults.text_password_only:
            return False
        created = token.findtext(f"{{{WSU}}}Created") or ""
        try:
            nonce = base64.b64decode(token.findtext(f"{{{WSSE}}}Nonce") or "", validate=True)
            age_s = utc_s - datetime.fromisoformat(created).astimezone(UTC).timestamp()
        except (ValueError, OverflowError, binascii.Error):
            return False
        digest = hashlib.sha1(nonce + created.encode() + self.password.encode(), usedforsecurity=False).digest()
        known = self.faults.strict_nonce and nonce in self._seen
        self._seen.append(nonce)
        right = hmac.compare_digest(given, base64.b64encode(digest))
        return right and not known and abs(age_s) <= self.faults.time_window_s

    def _http(self, authorization: str) -> bool:
        kind, _, rest = authorization.partition(" ")
        said = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', rest)}
        if kind.lower() != "digest" or said.get("username") != self.username or said.get("nonce") != self.http_nonce:
            return False
        who = _md5(f"{self.username}:{REALM}:{self.password}")
        what = _md5(f"POST:{said.get('uri', '')}")
        way = ":".join(said.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return hmac.compare_digest(said.get("response", "").encode(), _md5(f"{who}:{way}:{what}").encode())


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
