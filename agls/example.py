"""Print a commented example of a configuration file, made from the records themselves."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from msgspec import NODEFAULT, inspect

from agls.tables import accepted, strip

WIDTH = 118

# What an example says where a key has no default.
SAMPLES: dict[str, Any] = {
    "sensor_id": "north-03",
    "camera_id": "cam-main-and-5th",
    "subscriber_id": "rtcc",
    "url": "https://rtcc.example/agls",
    "name": "Example City",
    "latitude_deg": 40.4406,
    "longitude_deg": -79.9959,
    "height_m": 230.0,
}


def example(kind: type, holding: Any = None) -> str:
    """Print a commented configuration file: an example, or one that holds what is given.

    Every key appears with its meaning, what it accepts and its default. In an example, keys without a default, and the
    position of the sensor, hold values to replace; the rest is there to be changed or left out.

    Parameters
    ----------
    kind : type
        The record of the file: `agls.config.SiteConfig` or `agls.config.NodeConfig`.
    holding : Any, optional
        Such a record without lists of tables (a node's); tables that it does not have are left out.

    Returns
    -------
    str
        TOML that `agls.config` accepts.

    Raises
    ------
    TypeError
        If `kind` is not a record.
    """
    described = inspect.type_info(kind)
    if not isinstance(described, inspect.StructType):
        raise TypeError(f"{kind.__name__} is not a record")
    title = (kind.__doc__ or "").splitlines()[0]
    lines = [*_comment(title), "# Every key is shown. A key left out takes its default."]
    return "\n".join([*lines, *_table(described, "", holding)]) + "\n"


def _table(kind: inspect.StructType, way: str, holding: Any) -> Iterator[str]:
    """Print the keys of a table, then the tables below it."""
    below = []
    for field in kind.fields:
        inner, said = strip(field.type)
        held = getattr(holding, field.name, None)
        if (record := _record(inner)) and (holding is None or held is not None):
            below.append((f"{way}{field.encode_name}", record, record is not inner, held))
        elif record:
            continue
        else:
            yield ""
            yield from _comment(_meaning(field, said))
            yield _line(field, held)
    for name, record, many, held in below:
        yield ""
        yield ""
        yield from _comment((record.cls.__doc__ or "").splitlines()[0] + (" One such table for each." if many else ""))
        yield f"[[{name}]]" if many else f"[{name}]"
        yield from _table(record, f"{name}.", held)


def _record(kind: inspect.Type) -> inspect.StructType | None:
    """Find the record that a table, or each of several tables, holds."""
    inner = strip(kind.item_type)[0] if hasattr(kind, "item_type") else kind
    return inner if isinstance(inner, inspect.StructType) else None


def _meaning(field: inspect.Field, said: dict[str, str]) -> str:
    text = said.get("description", "")
    text = f"{text[:1].upper()}{text[1:]}; {accepted(field.type)}"
    if field.default is NODEFAULT:
        return text + "; must be given."
    return text + ("; may be left out." if field.default is None else f"; default {json.dumps(field.default)}.")


def _line(field: inspect.Field, held: Any) -> str:
    given = field.default if field.default not in (NODEFAULT, None) else SAMPLES.get(field.encode_name)
    given = given if held is None else held
    if given is None:
        return f"# {field.encode_name} = 0.0"
    return f"{field.encode_name} = {json.dumps(given, ensure_ascii=False)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
