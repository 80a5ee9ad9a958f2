"""Every document of every format against its schema, over generated incidents; and real peers that read them."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from agls.bridge import formats
from agls.bridge.record import CAUTION, IncidentRecord, shown
from agls.config import Dialect
from agls.errors import InputError
from bench.peers.environment import HERE, PeerAbsentError, python
from bench.rows import PROJECT, Ask, Plan, Row
from bench.schemas import Check, checks
from tests.bridge.records import random_records

COUNT, QUICK_COUNT = 10_000, 300
ALL = Ask(100, 100)
READ = "agls_incident: read as written by cloudevents and geojson-pydantic [%]"
DIALECTS = {
    "eido-1.1": Dialect(eido_profile="1.1", link="https://agls.example.gov/incidents/", agency="pd.example.gov")
}


def measure(plan: Plan) -> list[Row]:
    """Write and check documents, and let peers read them.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        A row for each format and peer.
    """
    schemas = PROJECT.parent / "shared" / "schemas"
    count = plan.draws(COUNT, QUICK_COUNT)
    rows = []
    for name, check in checks(schemas).items() if schemas.is_dir() else ():
        rows += _of_format(name, check, count, plan.first_seed)
    return rows + _of_peers(count, plan.first_seed)


def _of_format(name: str, check: Check, count: int, seed: int) -> list[Row]:
    document, _ = formats.load(name.partition("-")[0], DIALECTS.get(name))
    tally, faults, taken_s = Counter[str](), Counter[str](), []
    for record in random_records(count, seed):
        started = time.perf_counter()
        try:
            written = document(record)
        except InputError:
            tally["refused"] += 1
            continue
        taken_s.append(time.perf_counter() - started)
        wrong = check(written) + unsaid(record, written)
        tally["valid" if not wrong else "wrong"] += 1
        faults.update(one[:120] for one in wrong)
    made = tally["valid"] + tally["wrong"]
    remark = f"{tally['refused']} refused by name: no place on Earth" if tally["refused"] else ""
    note = "; ".join(f"{fault} ({number})" for fault, number in faults.most_common(3)) or remark
    usual_ms = 1e3 * float(np.percentile(taken_s, 95))
    return [
        Row(f"{name}: documents valid [%]", 100.0 * tally["valid"] / made, ALL, made, note=note),
        Row(f"{name}: writing one, 95th percentile [ms]", usual_ms, count=made),
    ]


def unsaid(record: IncidentRecord, document: bytes) -> list[str]:
    """Say which of the things are missing that every document must say.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    document : bytes
        What was made of it.

    Returns
    -------
    list of str
        Of caution, number of sensors, and the nearest address and intersection with their distance.
    """
    text, found = "\n".join(texts(document)), shown(record)
    wanted = {"caution": CAUTION[1:], "sensors": f"eard by {found.sensor_count} sensor"}
    for name, near in (("address", record.address), ("intersection", record.intersection)):
        if near is not None:
            wanted[name] = near.name
            wanted[f"{name}'s distance"] = "at " if near.distance_m < 1.0 else f"{near.distance_m:.0f} m "
    if record.exercise:
        wanted["exercise"] = "xercise" if "xercise" in text else "EXERCISE"
    return [f"{name} unsaid" for name, words in wanted.items() if words not in text]


def texts(document: bytes) -> Iterator[str]:
    """Find what a document says, whatever its format.

    Parameters
    ----------
    document : bytes
        JSON, XML or text.

    Yields
    ------
    str
        A text, or an attribute.
    """
    if document.startswith(b"{"):
        yield from _json_texts(json.loads(document))
    elif document.startswith(b"<"):
        for part in ET.fromstring(document).iter():  # noqa: S314 - our own
            yield from (part.text or "", *part.attrib.values())
    else:
        yield document.decode()


def _json_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _json_texts(one)


def _of_peers(count: int, seed: int) -> list[Row]:
    document, _ = formats.load("agls_incident")
    try:
        found = read_by_peers([document(record) for record in random_records(count, seed)])
    except PeerAbsentError as error:
        return [Row(READ, math.nan, ALL, note=str(error))]
    return [Row(READ, 100.0 * found["same"] / found["read"], ALL, found["read"], note="; ".join(found["wrong"][:1]))]


def read_by_peers(documents: list[bytes]) -> dict[str, Any]:
    """Let the package ``cloudevents`` and ``geojson-pydantic`` read CloudEvents.

    Parameters
    ----------
    documents : list of bytes
        Each a CloudEvent as JSON.

    Returns
    -------
    dict of str to Any
        ``read``, ``same`` (what was read is what was written), ``wrong`` (some that were not, and why).

    Raises
    ------
    PeerAbsentError
        If the peers' environment cannot be made.
    """
    command = [str(python("formats")), str(HERE / "read_cloudevents.py")]
    done = subprocess.run(command, input=b"\n".join(documents), capture_output=True, check=False, timeout=900)
    if done.returncode:
        raise PeerAbsentError(done.stderr.decode().strip().splitlines()[-1][:200])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def taky(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a TAK server, ``taky``, on 127.0.0.1.

    Parameters
    ----------
    folder : pathlib.Path
        An empty one, for what it keeps.
    port : int
        A free one.

    Returns
    -------
    subprocess.Popen
        The running server.

    Raises
    ------
    PeerAbsentError
        If the peers' environment cannot be made.
    """
    interpreter = python("formats")
    settings = f"[taky]\nhostname=localhost\nbind_ip=127.0.0.1\nroot_dir={folder}\n[cot_server]\nport={port}\n"
    (folder / "taky.conf").write_text(f"{settings}[dp_server]\nupload_path={folder}/dp\n[ssl]\nenabled=false\n")
    command = [str(interpreter.with_name("taky")), "-c", str(folder / "taky.conf")]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
