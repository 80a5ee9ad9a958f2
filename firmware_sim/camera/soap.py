"""SOAP 1.2 envelopes as a camera reads and writes them.

Requests come from the network. One that has a document type declaration is refused before it is parsed, so no entity
is ever expanded; one longer than `MAX_BYTES` is refused too.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

MAX_BYTES = 65_536

S = "http://www.w3.org/2003/05/soap-envelope"
TT = "http://www.onvif.org/ver10/schema"
DEVICE = "http://www.onvif.org/ver10/device/wsdl"
MEDIA = "http://www.onvif.org/ver10/media/wsdl"
PTZ = "http://www.onvif.org/ver20/ptz/wsdl"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
PREFIXES = {"s": S, "tt": TT, "tds": DEVICE, "trt": MEDIA, "tptz": PTZ, "ter": "http://www.onvif.org/ver10/error"}
_DECLARED = "".join(f" xmlns:{prefix}={quoteattr(name)}" for prefix, name in PREFIXES.items())


class SoapError(Exception):
    """A refusal that becomes a SOAP fault.

    Parameters
    ----------
    reason : str
        For a person.
    *subcodes : str
        ONVIF's names of it, such as ``InvalidArgVal``, from general to special.
    receiver : bool, optional
        Whether the camera cannot, rather than the request being wrong.
    """

    def __init__(self, reason: str, *subcodes: str, receiver: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.subcodes = subcodes
        self.receiver = receiver


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes
    ----------
    service : str
        Namespace of the operation.
    operation : str
        Its name.
    body : xml.etree.ElementTree.Element
        Its element.
    security : xml.etree.ElementTree.Element or None
        The WS-Security header.
    """

    service: str
    operation: str
    body: Element
    security: Element | None


def parse(received: bytes) -> Request:
    """Read a request.

    Parameters
    ----------
    received : bytes
        The body of an HTTP request.

    Returns
    -------
    Request
        What it asks.

    Raises
    ------
    SoapError
        If it is no SOAP 1.2 envelope with one operation, or has a document type declaration.
    """
    if len(received) > MAX_BYTES:
        raise SoapError(f"more than {MAX_BYTES} bytes")
    try:
        text = received.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise SoapError("a document type declaration is not taken")
        root = ET.fromstring(text)  # noqa: S314 - without a declaration there is nothing to expand
    except (UnicodeDecodeError, ET.ParseError, ValueError, RecursionError) as error:
        raise SoapError(f"not well-formed XML in UTF-8: {error}", "WellFormed") from None
    body = root.find(f"{{{S}}}Body")
    if root.tag != f"{{{S}}}Envelope" or body is None or len(body) != 1:
        raise SoapError("not a SOAP 1.2 envelope with one operation in its body", "WellFormed")
    service, _, operation = body[0].tag.removeprefix("{").rpartition("}")
    return Request(service, operation, body[0], root.find(f"{{{S}}}Header/{{{WSSE}}}Security"))


def envelope(content: str) -> str:
    """Wrap an answer.

    Parameters
    ----------
    content : str
        The element of the answer, with the prefixes of `PREFIXES`.

    Returns
    -------
    str
        The document.
    """
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<s:Envelope{_DECLARED}><s:Body>{content}</s:Body></s:Envelope>'


def fault(error: SoapError) -> str:
    """Write a refusal.

    Parameters
    ----------
    error : SoapError
        The refusal.

    Returns
    -------
    str
        The document.
    """
    subcode = ""
    for name in reversed(error.subcodes):
        subcode = f"<s:Subcode><s:Value>ter:{name}</s:Value>{subcode}</s:Subcode>"
    code = f"<s:Code><s:Value>s:{'Receiver' if error.receiver else 'Sender'}</s:Value>{subcode}</s:Code>"
    return envelope(
        f'<s:Fault>{code}<s:Reason><s:Text xml:lang="en">{escape(error.reason)}</s:Text></s:Reason></s:Fault>'
    )


def text_of(parent: Element, name: str, space: str = PTZ) -> str:
    """Read the text of a child.

    Parameters
    ----------
    parent : xml.etree.ElementTree.Element
        The element it is in.
    name : str
        Its name.
    space : str, optional
        Its namespace.

    Returns
    -------
    str
        Stripped; empty where there is no such child.
    """
    return (parent.findtext(f"{{{space}}}{name}") or "").strip()
