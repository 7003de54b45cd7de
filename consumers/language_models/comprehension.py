"""Notices a model whose answers can never be read, before much is paid for them."""

from __future__ import annotations

from onibus.consumers.language_models.base import Attempt, ModelRefusedError
from onibus.schemas.records import AnnotationSpec

FIRST_ANSWERS = 20
"""So many answers at the start without a verdict end it. Of a model that writes one readable answer in two
this happens once in a million times."""
IN_A_ROW = 100
"""So many later."""
_SHOWN = 200  # characters of an answer in a line


class Comprehension:
    """What could be read of the answers under one spec; used on one asyncio loop."""

    def __init__(self, spec: AnnotationSpec) -> None:
        self._spec = spec
        self._was_read = False
        self._in_a_row = 0

    def heard(self, attempt: Attempt, advice: str) -> None:
        """Count an answer.

        Args:
            advice: why it cannot be read, if it cannot, and what to do: the end of a line.

        Raises:
            ModelRefusedError: none of the first :data:`FIRST_ANSWERS` could be read, or none of the last
                :data:`IN_A_ROW`.
        """
        if attempt.verdict is not None:
            self._was_read, self._in_a_row = True, 0
            return
        self._in_a_row += 1
        if self._in_a_row < (IN_A_ROW if self._was_read else FIRST_ANSWERS):
            return
        which = "last" if self._was_read else "first"
        raise ModelRefusedError(
            f"none of the {which} {self._in_a_row} answers of {self._spec.model} under spec "
            f"{self._spec.name} holds a verdict, the last one: {shown(attempt.raw_answer)}{advice}"
        )


def shown(answer: str) -> str:
    """The beginning and the end of an answer, as one line."""
    if len(answer) > _SHOWN:
        answer = f"{answer[: _SHOWN // 2]} … {answer[-_SHOWN // 2 :]}"
    return repr(answer)
