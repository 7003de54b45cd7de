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

    def heard(self, attempt: Attempt, *, is_cut: bool) -> None:
        """Count an answer.

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
        advice = why_unreadable(self._spec.sampling.get("max_tokens", ""), is_cut=is_cut)
        raise ModelRefusedError(
            f"none of the {which} {self._in_a_row} answers of {self._spec.model} under spec "
            f"{self._spec.name} holds a verdict, the last one: {shown(attempt.raw_answer)}{advice}"
        )


def why_unreadable(max_tokens: str, *, is_cut: bool) -> str:
    """The end of a line about an answer that cannot be read: why that may be, and what to do."""
    if is_cut:
        limit = f"max_tokens {max_tokens}" if max_tokens else "the server's limit"
        return f"; it was cut at {limit}: raise max_tokens in the spec's [sampling]"
    return "; choose another model, or fit the spec's template and [answer] to what it writes"


def shown(answer: str) -> str:
    """The beginning and the end of an answer, as one line."""
    if len(answer) > _SHOWN:
        answer = f"{answer[: _SHOWN // 2]} … {answer[-_SHOWN // 2 :]}"
    return repr(answer)
