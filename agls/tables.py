"""Read TOML into records strictly, and say in one sentence what is wrong with it.

Everything said is made from the records' own definitions: the key, the value given, and what would be accepted
(range, pattern, choices, meaning). The same definitions print the commented examples.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from agls.errors import InputError

MAX_FILE_BYTES = 16 * 1024 * 1024

T = TypeVar("T")
Step = str | int


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table of a configuration file has in common: frozen, nothing unknown accepted."""


def load_table(path: Path, kind: type[T]) -> T:
    """Read a TOML file as a record, strictly.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : type
        The record it must hold.

    Returns
    -------
    T
        The record.

    Raises
    ------
    InputError
        If the file cannot be read, is not TOML, or holds anything that the record does not accept.
    """
    text, raw = read_toml(path)
    for steps, number in _numbers(raw, ()):
        if not math.isfinite(number):
            raise InputError(_value_fault(path, text, raw, kind, steps))
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InputError(_sentence(path, text, raw, kind, str(error))) from None


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a TOML file as it is.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    text : str
        What the file holds.
    raw : dict
        The same as plain values.

    Raises
    ------
    InputError
        If the file cannot be read or is not TOML.
    """
    text = _read(path)
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML, {_lower(str(error))}; see `agls config example`") from None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, but a TOML file has at most {MAX_FILE_BYTES}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text, which a TOML file must be") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a readable TOML file is needed") from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _numbers(value: Any, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], float]]:
    """Find every floating-point number in a document, with the way to it."""
    if isinstance(value, float):
        yield steps, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, (*steps, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, (*steps, index))


# ----------------------------------------------------------------------------------------- what is wrong, and where


def _sentence(path: Path, text: str, raw: Any, kind: type, problem: str) -> str:
    """Turn msgspec's account of a fault into a sentence for a person."""
    message, _, where = problem.rpartition(" - at `$")
    if not message:
        message, where = problem, ""
    steps = tuple(int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]`]+)", where))
    if unknown := re.match(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return _unknown_fault(path, text, raw, kind, steps, unknown[1])
    if missing := re.match(r"Object missing required field `(.*)`", message, re.DOTALL):
        needed = (*steps, missing[1])
        lacks = f"{_named(raw, steps)} lacks {missing[1]}"
        return f"{_place(path, text, steps)}: {lacks}, which must be {_wanted(kind, raw, needed)}"
    return _value_fault(path, text, raw, kind, steps)


def _value_fault(path: Path, text: str, raw: Any, kind: type, steps: tuple[Step, ...]) -> str:
    value = _shown(_at(raw, steps), str(*steps[-1:]))
    return f"{_place(path, text, steps)}: {_named(raw, steps)} is {value}, but must be {_wanted(kind, raw, steps)}"


def _unknown_fault(path: Path, text: str, raw: Any, kind: type, steps: tuple[Step, ...], key: str) -> str:
    where = _place(path, text, (*steps, key))
    name = key if re.fullmatch(r"[\w-]{1,64}", key) else repr(key[:64])
    start = f"{where}: {_named(raw, steps)} has no key {name} (its value is {_shown(_at(raw, (*steps, key)), key)})"
    names = [field.encode_name for field in _fields(_type_at(kind, raw, steps))]
    if nearest := _nearest(key, names):
        return f"{start}; did you mean {nearest}, {_wanted(kind, raw, (*steps, nearest))}?"
    return f"{start}; accepted are {', '.join(names)}"


def _nearest(key: str, names: list[str]) -> str:
    """Find the accepted key that was probably meant: the same quantity in another unit, or the nearest spelling."""
    stem = key.rpartition("_")[0] or key
    same = [name for name in names if name.rpartition("_")[0] == stem or name == stem or name.rpartition("_")[0] == key]
    return (same or difflib.get_close_matches(key, names, n=1) or [""])[0]


def _place(path: Path, text: str, steps: tuple[Step, ...]) -> str:
    line = _line(text, steps)
    return f"{path}, line {line}" if line else str(path)


def _line(text: str, steps: tuple[Step, ...]) -> int:
    """Find the line of a key or table, 0 where it is written in a way this does not follow (inline tables, dots)."""
    counts: dict[str, int] = {}
    table: tuple[Step, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\- ]+?)\s*\]", line):
            names: list[Step] = [name.strip() for name in header[2].split(".")]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
            table = tuple(part for depth, name in enumerate(names, 1) for part in _entry(names[:depth], name, counts))
            if steps and table == steps:
                return number
        elif (key := re.match(r"\s*([\w-]+)\s*=", line)) and steps[: len(table) + 1] == (*table, key[1]):
            return number
    return 0


def _entry(names: list[Step], name: Step, counts: dict[str, int]) -> tuple[Step, ...]:
    index = counts.get(".".join(map(str, names)))
    return (name,) if index is None else (name, index)


def _at(raw: Any, steps: tuple[Step, ...]) -> Any:
    for step in steps:
        raw = raw[step]
    return raw


def _named(raw: Any, steps: tuple[Step, ...]) -> str:
    """Write the way to a value as ``sensor[2].latitude_deg``, with the entry's own name where it has one."""
    way = ""
    for depth, step in enumerate(steps, 1):
        way += f"[{step}]" if isinstance(step, int) else f".{step}" if way else step
        entry = _at(raw, steps[:depth])
        own = (
            [v for k, v in entry.items() if k.endswith("_id")]
            if isinstance(step, int) and isinstance(entry, dict)
            else []
        )
        if own and isinstance(own[0], str):
            way += f' ("{own[0][:64]}")' if depth == len(steps) else ""
    return way or "the file"


def _shown(value: Any, key: str = "") -> str:
    """Write a value as TOML would, shortened; never one that may be a secret, for the sentence may end in a log."""
    if re.search("pass|secret|token", key, re.IGNORECASE) or re.search(r"://[^/\s]*@", str(value)):
        text = "not shown"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = f"a list of {len(value)}"
    else:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return repr(text)[1:-1] if len(text) <= 80 else f"{text[:77]!r}..."


# --------------------------------------------------------------------------------------------- what is accepted


def strip(kind: inspect.Type) -> tuple[inspect.Type, dict[str, str]]:
    """Take off what is said of a type and the choice of None.

    Parameters
    ----------
    kind : msgspec.inspect.Type
        The type.

    Returns
    -------
    inner : msgspec.inspect.Type
        The type inside.
    said : dict of str to str
        Its ``description`` and ``title``, where it has them.
    """
    said: dict[str, str] = {}
    while True:
        if isinstance(kind, inspect.Metadata):
            said = (kind.extra_json_schema or {}) | said
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kinds = [other for other in kind.types if not isinstance(other, inspect.NoneType)]
            if len(kinds) != 1:
                return kind, said
            kind = kinds[0]
        else:
            return kind, said


def _fields(kind: inspect.Type) -> tuple[inspect.Field, ...]:
    inner = strip(kind)[0]
    return inner.fields if isinstance(inner, inspect.StructType) else ()


def _type_at(kind: type, raw: Any, steps: tuple[Step, ...]) -> inspect.Type:
    """Follow the way to a value through the definitions."""
    here = inspect.type_info(kind)
    for depth, step in enumerate(steps):
        inner = strip(here)[0]
        if isinstance(inner, inspect.UnionType):
            inner = _variant(inner, _at(raw, steps[:depth]), step)
        if isinstance(inner, inspect.StructType):
            here = next((field.type for field in inner.fields if field.encode_name == step), inspect.AnyType())
        elif isinstance(inner, inspect.DictType):
            here = inner.value_type
        elif isinstance(inner, inspect.LiteralType):
            here = inner
        else:
            here = getattr(inner, "item_type", inspect.AnyType())
    kinds = strip(here)[0]
    return _variant(kinds, _at(raw, steps), "") if isinstance(kinds, inspect.UnionType) else here


def _variant(union: inspect.UnionType, entry: Any, step: Step) -> inspect.Type:
    """Pick what a table's own word (its tag) says it is; for the way to that word, all the words there are."""
    structs = {str(one.tag): one for one in union.types if isinstance(one, inspect.StructType) and one.tag is not None}
    tag_field = next((one.tag_field for one in structs.values()), None)
    said = entry.get(tag_field) if isinstance(entry, dict) else None
    if structs and (step == tag_field or said not in structs):
        return inspect.LiteralType(tuple(sorted(structs)))
    return structs.get(str(said), union)


def _wanted(kind: type, raw: Any, steps: tuple[Step, ...]) -> str:
    wanted = _type_at(kind, raw, steps)
    meaning = strip(wanted)[1].get("description")
    return accepted(wanted) + (f" ({meaning})" if meaning else "")


def accepted(kind: inspect.Type) -> str:
    """Say in words what values a type accepts.

    Parameters
    ----------
    kind : msgspec.inspect.Type
        The type.

    Returns
    -------
    str
        Such as ``a number from -90 to 90``.
    """
    inner, said = strip(kind)
    if "title" in said:
        return said["title"]
    if isinstance(inner, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(inner, inspect.IntType) else "a number") + _range(inner)
    if isinstance(inner, inspect.StrType):
        return "a text" + _shape(inner)
    if isinstance(inner, inspect.LiteralType):
        return "one of " + ", ".join(_shown(value) for value in inner.values)
    if isinstance(inner, inspect.BoolType):
        return "true or false"
    if isinstance(inner, inspect.StructType):
        return "a table with " + ", ".join(field.encode_name for field in inner.fields)
    if hasattr(inner, "item_type"):
        items, _ = strip(inner.item_type)
        return "[[...]] tables" if isinstance(items, inspect.StructType) else f"a list, each {accepted(items)}"
    return "another kind of value"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:.15g} to {kind.le:.15g}"
    words = (("more than", kind.gt), ("at least", kind.ge), ("less than", kind.lt), ("at most", kind.le))
    return " " + " and ".join(f"{word} {limit:.15g}" for word, limit in words if limit is not None)


def _shape(kind: inspect.StrType) -> str:
    shapes = []
    if kind.min_length:
        shapes.append(f"of at least {kind.min_length} character" + "s" * (kind.min_length > 1))
    if kind.max_length is not None:
        shapes.append(f"of at most {kind.max_length} characters")
    if kind.pattern is not None:
        shapes.append(f"matching {kind.pattern}")
    return (" " + ", ".join(shapes)) if shapes else ""
