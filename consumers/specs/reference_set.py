"""Captions that were judged by reading them, to hold judges against: the built-in set, or one's own.

A file has one JSON object a line: ``caption``, and either ``verdict`` or ``verdicts`` by the names of goals;
``reason`` and ``source`` are for people. ``consumers/specs/reference/README.md`` is the built-in set's card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.schemas.ids import caption_id
from onibus.schemas.records import Verdict

Half = Literal["first", "second"]
_DECIDED = (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE)


class Reference(NamedTuple):
    """A caption and what a person says about it; ``unsure`` where that is debatable."""

    caption: str
    verdict: Verdict
    reason: str

    @property
    def half(self) -> Half:
        """Which half of a set it is in: examples in prompts come from the first, figures from the second."""
        return "first" if caption_id(self.caption)[0] % 2 == 0 else "second"


def built_in_path() -> Path:
    """Where the built-in set lies."""
    return Path(str(files("onibus.consumers.specs") / "reference" / "captions.jsonl"))


def goal_name(spec_name: str, known: Mapping[str, object]) -> str:
    """Which of a set's goals a spec is about: the longest one that its name begins with.

    Raises:
        OnibusError: there is none.
    """
    fitting = [name for name in known if spec_name == name or spec_name.startswith(f"{name}-")]
    if not fitting:
        raise OnibusError(
            f"spec {spec_name} is about none of the goals of the reference set ({', '.join(known)}); name "
            "one with --goal"
        )
    return max(fitting, key=len)


def _goal_of(spec_name: str, goal: str | None, known: Mapping[str, object]) -> str:
    if goal is not None and goal not in known:
        raise OnibusError(f"--goal {goal}: the set has no such goal; give {' or '.join(known)}")
    return goal or goal_name(spec_name, known)


def read_references(path: Path, spec_name: str, goal: str | None = None) -> list[Reference]:
    """The captions of a file with their verdicts.

    Args:
        goal: whose verdicts, where a file has several; by default that of the spec's name.

    Raises:
        OnibusError: the file cannot be read, or a line of it is not as it must be.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OnibusError(f"cannot read {path}: {reason_of(error)}; correct --against") from error
    found = [
        _reference(f"{path}, line {number}", line, spec_name, goal)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise OnibusError(f"{path} holds no captions; write one per line, or correct --against")
    return found


def _reference(place: str, line: str, spec_name: str, goal: str | None) -> Reference:
    try:
        row: Any = json.loads(line)
        caption, reason = row["caption"], row.get("reason", "")
        if "verdicts" in row:
            name = _goal_of(spec_name, goal, row["verdicts"])
            verdict = Verdict(row["verdicts"][name])
        else:
            verdict = Verdict(row["verdict"])
        if not isinstance(caption, str):
            raise ValueError("caption is no text")
        if verdict not in _DECIDED:
            raise ValueError(f"verdict {verdict.value}")
        caption.encode()  # half of a surrogate pair can be written in JSON
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OnibusError(
            f"{place}: {error}; write an object with caption, and verdict or verdicts (helpful, unhelpful or "
            "unsure)"
        ) from error
    return Reference(caption, verdict, str(reason))
