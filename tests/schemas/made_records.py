"""Records that Hypothesis makes from the schemas, so that a new field is tested without being mentioned."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from onibus.schemas.codec import SCHEMA_FILES, schema_document
from onibus.schemas.records import Record

RECORD_TYPES = list(SCHEMA_FILES)


@cache
def records(record_type: type[Record]) -> st.SearchStrategy[Any]:
    """Any record of a type that its schema allows."""
    return st.builds(record_type, **_fields(record_type, schema_document(record_type)))


def _fields(record_type: type[Any], document: Any) -> dict[str, st.SearchStrategy[Any]]:
    hints = get_type_hints(record_type)
    return {f["name"]: _values(f["type"], hints[f["name"]]) for f in document["fields"]}


def _values(schema: Any, hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        own = next(h for h in get_args(hint) if h is not NoneType)
        return st.none() | _values(next(branch for branch in schema if branch != "null"), own)
    if isinstance(schema, str) and isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))  # named further up
    if isinstance(schema, str):
        return _PRIMITIVE[schema]
    match schema["type"]:
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "enum":
            assert issubclass(hint, StrEnum)
            return st.sampled_from(list(hint))
        case "array":
            return st.lists(_values(schema["items"], get_args(hint)[0]), max_size=4).map(tuple)
        case "map":
            return st.dictionaries(st.text(), _values(schema["values"], get_args(hint)[1]), max_size=4)
        case "record":
            return st.builds(hint, **_fields(hint, schema))
        case primitive:
            return _PRIMITIVE[primitive]


_PRIMITIVE: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "bytes": st.binary(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
}
