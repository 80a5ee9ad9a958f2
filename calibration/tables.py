"""Write a site or node file with what a calibration found, how sure it is in comments: TOML that `agls` reads.

The file is written whole from the record, checked by reading it back, and only then given its name. Comments of the
file that it was made from are not kept, so a calibration never writes over its input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agls.config import NodeConfig, SiteConfig, check_site, load_table
from agls.errors import InputError

T = TypeVar("T", SiteConfig, NodeConfig)
Way = tuple[str | int, ...]
Remarks = Mapping[Way, Sequence[str]]
ALL: Way = ()


def document(record: msgspec.Struct, remarks: Remarks | None = None) -> str:
    """Write a record as TOML; what has its default is left out.

    Parameters
    ----------
    record : msgspec.Struct
        A site or a node.
    remarks : mapping of tuple to sequence of str, optional
        Comments by the way to the table they belong to, such as ``("sensor", 3)``; ``()`` is the whole file.

    Returns
    -------
    str
        The file.
    """
    return "\n".join(_table(record, (), "", remarks or {})).lstrip("\n") + "\n"


def write_table(path: Path, record: T, remarks: Remarks | None = None, *, source: Path | None = None) -> T:
    """Write a site or node file such that it is whole or not there, and read it back.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    record : SiteConfig or NodeConfig
        What it shall hold.
    remarks : mapping of tuple to sequence of str, optional
        Comments, as `document` takes them.
    source : pathlib.Path, optional
        The file it was made from, which is not written over.

    Returns
    -------
    SiteConfig or NodeConfig
        The record as `agls` reads it from the file.

    Raises
    ------
    InputError
        If the file cannot be written, is `source`, or would hold what `agls` does not accept.
    """
    if source is not None and path.resolve() == source.resolve():
        raise InputError(
            f"{path}: is the file that is calibrated, whose comments would be lost; give another for --out"
        )
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(document(record, remarks), encoding="utf-8")
        read = _load(part, type(record))
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
    finally:
        part.unlink(missing_ok=True)
    return read


def _load(path: Path, kind: type[T]) -> T:
    return check_site(load_table(path, kind), str(path)) if kind is SiteConfig else load_table(path, kind)


def _table(record: msgspec.Struct, way: Way, name: str, remarks: Remarks) -> Iterator[str]:
    """Write the keys of a table, then the tables below it."""
    yield from (f"# {line}" for text in remarks.get(way, ()) for line in text.splitlines())
    below = []
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if value == field.default:
            continue
        if isinstance(value, msgspec.Struct) or (
            value and isinstance(value, tuple) and isinstance(value[0], msgspec.Struct)
        ):
            below.append((field.encode_name, value))
        else:
            yield f"{field.encode_name} = {_value(value)}"
    for key, value in below:
        full = f"{name}.{key}" if name else key
        if isinstance(value, msgspec.Struct):
            yield from ("", f"[{full}]", *_table(value, (*way, key), full, remarks))
            continue
        for number, item in enumerate(value):
            yield from ("", f"[[{full}]]", *_table(item, (*way, key, number), full, remarks))


def _value(value: Any) -> str:
    """Write a value as TOML; a JSON string is one, but for the delete character."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value) if isinstance(value, float) else int(value))
