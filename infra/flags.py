"""How a field of an option model is typed on the command line, where its name and type do not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from onibus.infra.errors import OnibusError

M = TypeVar("M", bound=BaseModel)

MOST_SEED = 2**62
"""Random number generators take 64 bits, and numbers are added to a seed."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Metadata of a field, as in ``specs: Annotated[tuple[SpecShare, ...], Flag("--spec", repeated=True)]``.

    Attributes:
        name: of the flag.
        repeated: the flag can be given several times; the model is given a list of texts.
        default: what the help says of the default instead of the field's own; empty: nothing.
    """

    name: str | None = None
    repeated: bool = False
    default: str | None = None


def flag_name(field: str, metadata: list[object]) -> str:
    """``--learning-rate`` for the field ``learning_rate``, unless its :class:`Flag` says otherwise."""
    given = next((one.name for one in metadata if isinstance(one, Flag)), None)
    return given or "--" + field.replace("_", "-")


def made(model: type[M], given: Mapping[str, Any]) -> M:
    """The options ``given`` by flags, the others as the model's defaults have them.

    Raises:
        OnibusError: a value is out of range; names its flag.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise OnibusError(message) from error
        field = str(first["loc"][0])
        known = model.model_fields.get(field)
        flag = flag_name(field, known.metadata if known else [])
        raise OnibusError(f"{flag}: {message}; give another value") from error
