"""Creates frozen records quickly from their fields: after Avro itself, the slowest part of decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, make_dataclass
from operator import itemgetter
from typing import Any, TypeVar

R = TypeVar("R")


def assembler(record_type: type[R]) -> Callable[[Mapping[str, Any]], R]:
    """A function that creates a record from all of its fields by name, six times as fast as its ``__init__``.

    The ``__init__`` of a frozen dataclass sets each field with ``object.__setattr__``. Here they are assigned
    to an object of a class with the same slots that is not frozen; then the object is given the record's
    class, which Python allows between classes with equal ``__slots__`` (Language Reference, 3.3.2.4.1).

    Args:
        record_type: a dataclass with slots, at least two fields, and no ``__post_init__``.
    """
    assert "__slots__" in vars(record_type), "it has no slots"
    assert not hasattr(record_type, "__post_init__"), "it would not be called"
    names = [f.name for f in fields(record_type)]  # type: ignore[arg-type]  # a TypeVar cannot say dataclass
    thawed: Any = make_dataclass(record_type.__name__, names, slots=True, eq=False, repr=False)
    values = itemgetter(*names)

    def assemble(raw: Mapping[str, Any]) -> R:
        record = thawed(*values(raw))
        record.__class__ = record_type
        frozen: R = record
        return frozen

    return assemble
