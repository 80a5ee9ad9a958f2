"""Read CloudEvents with the package cloudevents, and their data with geojson-pydantic.

Runs in the peers' environment. Given on standard input: a CloudEvent in each line. Told on standard output, as JSON:
``read``, ``same`` and ``wrong``.
"""

import json
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from geojson_pydantic import Feature, Point, Polygon


def main():
    """Read, compare, tell."""
    reader, read, wrong = JSONFormat(), 0, []
    for line in sys.stdin.buffer:
        said, read = json.loads(line), read + 1
        try:
            fault = _fault(said, reader.read(CloudEvent, line))
        except Exception as error:  # noqa: BLE001 - whatever a peer says of it is told
            fault = f"{type(error).__name__}: {error}"
        if fault:
            wrong.append(f"{said['id']}: {fault}"[:300])
    json.dump({"read": read, "same": read - len(wrong), "wrong": wrong[:5]}, sys.stdout)


def _fault(said, event):
    heard = (event.get_id(), event.get_source(), event.get_type(), event.get_subject(), event.get_data())
    if heard != tuple(said[name] for name in ("id", "source", "type", "subject", "data")):
        return "it reads otherwise than it was written"
    if event.get_time() is None or event.get_datacontenttype() != "application/geo+json":
        return "time or content type are lost"
    feature = Feature.model_validate(said["data"])
    Feature[Point | None, dict].model_validate(said["data"])
    area = feature.properties["area"]
    if area is not None:
        Polygon.model_validate(area)
    return ""


if __name__ == "__main__":
    main()
