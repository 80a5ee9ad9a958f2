"""Drive ONVIF cameras with onvif-python, and hold what they answer against ONVIF's schema.

Runs in the peers' environment. Given on standard input, as JSON: a list of cameras, each ``host``, ``port``,
``username``, ``password``, ``steps`` and perhaps ``http_digest``; a step is ``[service, operation, arguments]``, or
``["wait"]`` until the head stands still. Told on standard output: for each camera a list, for each step its answer or
``{"failed": why}``; with ``"schema": true`` also ``{"invalid": [...], "judged": n}`` at the end.
"""

import json
import sys
import time
from pathlib import Path

import onvif
import xmlschema
from lxml import etree
from onvif.operator import CacheMode
from zeep import Plugin
from zeep.helpers import serialize_object

WSDL = Path(onvif.__file__).parent / "wsdl"
SERVICES = ("ver20/ptz/wsdl/ptz.wsdl", "ver10/media/wsdl/media.wsdl", "ver10/device/wsdl/devicemgmt.wsdl")
ACCOUNT = ("host", "port", "username", "password", "http_digest")
MAIN = "main"
WAIT_S, STEP_S = 20.0, 0.01


class _Listener(Plugin):
    """Keep what came in."""

    def __init__(self):
        self.received = []

    def ingress(self, envelope, http_headers, operation):  # noqa: ARG002 - zeep names them
        """Keep an answer."""
        body = envelope.find("{http://www.w3.org/2003/05/soap-envelope}Body")
        self.received.append(etree.fromstring(etree.tostring(body[0])))
        return envelope, http_headers


def main():
    """Read, drive, tell."""
    cameras = json.load(sys.stdin)
    schemas = [_schema(WSDL / name) for name in SERVICES] if any(camera.get("schema") for camera in cameras) else []
    json.dump([_drive(camera, schemas) for camera in cameras], sys.stdout, default=str)


def _drive(camera, schemas):
    """Drive one camera step by step; a step that fails does not end it."""
    listener, told = _Listener(), []
    account = {key: camera[key] for key in ACCOUNT if key in camera}
    try:
        client = onvif.ONVIFClient(**account, timeout=5, cache=CacheMode.MEM, plugins=[listener])
    except Exception as error:  # noqa: BLE001 - whatever a broken camera does to a client is told
        return [{"failed": str(error)}]
    for step in camera["steps"]:
        try:
            told.append(_wait(client) if step[0] == "wait" else _ask(client, *step))
        except Exception as error:  # noqa: BLE001 - likewise
            told.append({"failed": str(error)})
    if camera.get("schema"):
        answers = [answer for answer in listener.received if not answer.tag.endswith("}Fault")]
        told.append(
            {"invalid": [wrong for answer in answers for wrong in _wrong(schemas, answer)], "judged": len(answers)}
        )
    return told


def _ask(client, service, operation, arguments):
    return serialize_object(getattr(getattr(client, service)(), operation)(**arguments), dict)


def _wait(client):
    """Ask for the status until the head stands still."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        status = _ask(client, "ptz", "GetStatus", {"ProfileToken": MAIN})
        if status["MoveStatus"] == {"PanTilt": "IDLE", "Zoom": "IDLE"}:
            return status
        time.sleep(STEP_S)
    return {"failed": "still moving"}


def _schema(path):
    """Take the schema out of a service's description, with its namespaces; only XSD 1.1 loads it."""
    inner = etree.parse(str(path)).find(".//{http://www.w3.org/2001/XMLSchema}schema")
    for brought in inner.findall("{*}import"):
        if place := brought.get("schemaLocation"):
            brought.set("schemaLocation", (path.parent / place).resolve().as_uri())
    return xmlschema.XMLSchema11(etree.tostring(inner, encoding="unicode"))


def _wrong(schemas, answer):
    space = etree.QName(answer).namespace
    known = [schema for schema in schemas if schema.target_namespace == space]
    return [f"{answer.tag}: {error.reason}" for schema in known for error in schema.iter_errors(answer)] + (
        [] if known else [f"{answer.tag}: no schema for it"]
    )


if __name__ == "__main__":
    main()
