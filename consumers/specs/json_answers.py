"""JSON objects in the middle of what a model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_MOST_TRIES = 20
_DEEPEST = 5


_JUDGED = re.compile(r"(?:the_)?(?:message|caption|input|text|prompt|example)s?", re.IGNORECASE)
"""Fields that repeat what was judged."""


class JsonObject(NamedTuple):
    """An object, and where it stands in the text."""

    start: int
    end: int
    value: Mapping[str, Any]


def json_objects(text: str) -> list[JsonObject]:
    """The outermost objects in ``text`` that are whole, in order."""
    found: list[JsonObject] = []
    decoder, position = json.JSONDecoder(strict=False), 0
    for _ in range(_MOST_TRIES):
        start = text.find("{", position)
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        found.append(JsonObject(start, end, value))
        position = end
    return found


def values_of(value: Any, name: re.Pattern[str], depth: int = 0) -> list[str]:
    """The texts of the fields that are called ``name``, at any depth."""
    if depth > _DEEPEST:
        return []
    if isinstance(value, list):
        return [text for part in value for text in values_of(part, name, depth + 1)]
    if not isinstance(value, dict):
        return []
    found = []
    for key, part in value.items():
        if isinstance(part, str) and name.fullmatch(key.strip()):
            found.append(part)
        elif not _JUDGED.fullmatch(key.strip()):
            found += values_of(part, name, depth + 1)
    return found
