"""The JSON Schemas in ``schemas/`` say what the decoder does."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import inspect

from agls.errors import MessageError
from agls.messages import NS_PER_S, WIRE_RECORDS, UtcNs, Wire, decode, encode, format_utc
from agls.schemas import schema_name, schema_text, write_schemas

VALIDATORS = {kind: Draft202012Validator(json.loads(schema_text(kind))) for kind in WIRE_RECORDS}


def test_the_committed_schemas_are_the_ones_the_code_gives(project: Path) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (project / "schemas").iterdir()}
    assert committed == {schema_name(kind): schema_text(kind) for kind in WIRE_RECORDS}, "run: agls schema"


def test_writing_the_schemas_leaves_nothing_else(tmp_path: Path) -> None:
    written = write_schemas(tmp_path / "new")
    assert sorted(written) == sorted((tmp_path / "new").iterdir())


@pytest.mark.parametrize("kind", WIRE_RECORDS)
def test_every_schema_is_a_schema(kind: type[Wire]) -> None:
    Draft202012Validator.check_schema(VALIDATORS[kind].schema)


@given(st.data())
def test_the_schema_and_the_decoder_accept_the_same_documents(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(WIRE_RECORDS))
    document = data.draw(documents(kind))
    assert VALIDATORS[kind].is_valid(document)
    record = decode(json.dumps(document).encode(), kind)
    assert VALIDATORS[kind].is_valid(json.loads(encode(record)))


@given(st.data())
def test_the_schema_and_the_decoder_refuse_the_same_documents(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(WIRE_RECORDS))
    document = data.draw(documents(kind).flatmap(broken))
    try:
        decode(json.dumps(document).encode(), kind)
    except MessageError:
        accepted = False
    else:
        accepted = True
    assert VALIDATORS[kind].is_valid(document) == accepted


TIMES = st.integers(0, 4_000_000_000 * NS_PER_S).map(format_utc)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
# Near misses for any value: wrong kind, out of range, odd texts.
ODD = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a\n", "a/b", "x" * 501, "2018-12-19T00:49:27", "2018-13-19T00:49:27Z",
                       "2018-12-19T00:49:27Z\n", "0000-01-01T00:00:00Z", "2018-12-19T24:00:00Z", "gunshot", "final"])
    | st.lists(st.integers(0, 3), max_size=3) | st.dictionaries(st.sampled_from(["gunshot", "cannon"]), st.just(60))
)  # fmt: skip


def broken(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw documents with one key taken out, put in or given an odd value."""
    keys = st.sampled_from(sorted(document))
    without = keys.map(lambda key: {name: value for name, value in document.items() if name != key})
    odd = st.tuples(keys, ODD).map(lambda change: {**document, change[0]: change[1]})
    extra = st.just({**document, "surprise": 1})
    inside = [
        broken(value).map(lambda changed, key=key: {**document, key: changed})
        for key, value in document.items()
        if isinstance(value, dict) and value
    ]
    return st.one_of(without, odd, extra, *inside)


def documents(kind: type[Wire]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw documents that hold such a record."""
    return values(inspect.type_info(kind))


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901 (one line for each kind of value)
    """Draw what a type accepts, as `json.loads` would give it."""
    match kind:
        case inspect.Metadata():
            return values(kind.type)
        case inspect.UnionType():
            return st.one_of(*map(values, kind.types))
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.CustomType():
            assert kind.cls is UtcNs
            return TIMES
        case inspect.StrType():
            return NAMES if kind.pattern else st.text(max_size=min(kind.max_length or 40, 40), alphabet="aé \n☃")
        case inspect.IntType():
            return st.integers(kind.ge, kind.le)
        case inspect.FloatType():
            low, high = (kind.ge if kind.gt is None else kind.gt), (kind.le if kind.lt is None else kind.lt)
            numbers = st.floats(
                low, high, allow_nan=False, allow_infinity=False, exclude_min=kind.gt is not None,
                exclude_max=kind.lt is not None, allow_subnormal=False,
            )  # fmt: skip
            return numbers | st.just(1)
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=3)
        case inspect.StructType():
            needed = {field.encode_name: values(field.type) for field in kind.fields if field.required}
            optional = {field.encode_name: values(field.type) for field in kind.fields if not field.required}
            tag = {kind.tag_field: st.just(kind.tag)} if kind.tag_field else {}
            return st.fixed_dictionaries({**tag, **needed}, optional=optional)
        case _:
            raise NotImplementedError(kind)
