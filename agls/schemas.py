"""Write the JSON Schemas of all messages, generated from the records themselves."""

import json
import re
from inspect import cleandoc
from pathlib import Path

from agls.errors import InputError
from agls.messages import WIRE_RECORDS, Wire, json_schema


def schema_name(kind: type[Wire]) -> str:
    """Name the schema file of a record.

    Parameters
    ----------
    kind : type
        A record of `agls.messages.WIRE_RECORDS`.

    Returns
    -------
    str
        Such as ``slew_request.json``.
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() + ".json"


def schema_text(kind: type[Wire]) -> str:
    """Write the JSON Schema of a record.

    Parameters
    ----------
    kind : type
        A record of `agls.messages.WIRE_RECORDS`.

    Returns
    -------
    str
        JSON Schema (draft 2020-12), indented, ending in a line break.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema(kind)}
    for definition in schema["$defs"].values():
        definition["description"] = cleandoc(definition["description"])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write one schema file per record that travels.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is not there.

    Returns
    -------
    list of pathlib.Path
        The files written.

    Raises
    ------
    InputError
        If the folder cannot be written into.
    """
    try:
        return _write_all(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written into ({error.strerror}); give a folder") from None


def _write_all(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in WIRE_RECORDS:
        path = folder / schema_name(kind)
        partial = path.with_suffix(".json.part")
        partial.write_text(schema_text(kind), encoding="utf-8")
        partial.replace(path)
        written.append(path)
    return written
