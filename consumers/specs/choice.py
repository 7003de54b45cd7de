"""Which spec is meant by what a person types: ``NAME``, ``NAME@ID`` or ``NAME@MODEL``.

A name stands for the spec of that name that was announced last. The other two choose among several of one
name: by the beginning of an id in hex digits, or by the model that answers. Specs are given by their ids, in
the order of their last announcement, as :func:`~onibus.consumers.specs.spec_file.read_specs` gives them.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Mapping

from onibus.infra.errors import did_you_mean
from onibus.schemas.records import AnnotationSpec

SHORTEST_ID = 4
"""Hex digits that the beginning of an id needs at least."""


def specs_meant(specs: Mapping[bytes, AnnotationSpec], text: str) -> list[bytes]:
    """Ids of the specs that ``text`` can stand for, the one announced last at the end."""
    name, at, which = text.partition("@")
    named = [spec_id for spec_id, spec in specs.items() if spec.name == name]
    if not at:
        return named
    by_model = [spec_id for spec_id in named if specs[spec_id].model == which]
    return by_model or [spec_id for spec_id in named if begins(spec_id, which)]


def begins(spec_id: bytes, text: str) -> bool:
    """Whether the id in hex digits begins with ``text``, which must be long enough."""
    is_hex = len(text) >= SHORTEST_ID and set(text) <= set(string.hexdigits)
    return is_hex and spec_id.hex().startswith(text.lower())


def spec_in_use(specs: Mapping[bytes, AnnotationSpec], text: str) -> bytes | None:
    """Id of the spec that ``text`` stands for now; None without one."""
    found = specs_meant(specs, text)
    return found[-1] if found else None


def is_ambiguous(specs: Mapping[bytes, AnnotationSpec], text: str) -> bool:
    """Whether ``text`` stands for specs of several models: the next announcement may change who judges."""
    return len({specs[spec_id].model for spec_id in specs_meant(specs, text)}) > 1


def choice_line(specs: Mapping[bytes, AnnotationSpec], chosen: bytes) -> str:
    """One line that says which spec a name stands for, and which others have that name."""
    name = specs[chosen].name
    named = specs_meant(specs, name)
    others = [spec_id for spec_id in named if spec_id != chosen]
    line = f"spec {name} is {_shown(specs, chosen)}"
    if named[-1] == chosen and others:
        line += ", announced last"
    if others:
        line += "; of the same name: " + ", ".join(_shown(specs, spec_id) for spec_id in others)
    return line


def log_choice(log: logging.Logger, specs: Mapping[bytes, AnnotationSpec], text: str, chosen: bytes) -> None:
    """Say which spec ``text`` stands for: as a warning, with advice, where that is ambiguous."""
    if is_ambiguous(specs, text):
        name = specs[chosen].name
        advice = f"choose one with --spec {name}@ID or --spec {name}@MODEL"
        log.warning("%s; %s", choice_line(specs, chosen), advice)
    else:
        log.info("%s", choice_line(specs, chosen))


def missing_line(specs: Mapping[bytes, AnnotationSpec], text: str) -> str:
    """One line for a spec that ``text`` stands for and no annotator has announced."""
    name = text.partition("@")[0]
    line = f"no annotator has announced {text} yet"
    if others := specs_meant(specs, name):
        return f"{line}; of that name there is " + ", ".join(_shown(specs, spec_id) for spec_id in others)
    hint = did_you_mean(name, {spec.name for spec in specs.values()}, "", most=2)
    return f"{line}; {hint}" if hint else line


def _shown(specs: Mapping[bytes, AnnotationSpec], spec_id: bytes) -> str:
    return f"{spec_id.hex()} (model {specs[spec_id].model})"
