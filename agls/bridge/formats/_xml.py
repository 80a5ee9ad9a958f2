"""XML for the formats that are it: an element with its texts, in the order given; what is empty is left out."""

from collections.abc import Mapping
from xml.etree import ElementTree as ET


def element(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    """Add an element.

    Parameters
    ----------
    parent : Element
        What it is in.
    name : str
        Its name.
    text : str, optional
        Its text.
    **attributes : str
        Its attributes.

    Returns
    -------
    Element
        The element.
    """
    added = ET.SubElement(parent, name, attributes)
    added.text = text or None
    return added


def elements(parent: ET.Element, texts: Mapping[str, str]) -> None:
    """Add elements that hold a text each, but for those whose text is empty.

    Parameters
    ----------
    parent : Element
        What they are in.
    texts : mapping of str to str
        Names and texts, in order.
    """
    for name, text in texts.items():
        if text:
            element(parent, name, text)


def written(root: ET.Element) -> bytes:
    """Write a document.

    Parameters
    ----------
    root : Element
        Its root.

    Returns
    -------
    bytes
        XML in UTF-8, with a declaration.
    """
    ET.indent(root)
    return bytes(ET.tostring(root, "utf-8", xml_declaration=True)) + b"\n"
