"""``--llm module:factory``: a language model of the user's own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Progress, Question
from onibus.consumers.specs.answer_format import WORDS
from onibus.consumers.specs.prompts import EXAMPLES
from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of, load_plugin, version_of
from onibus.schemas.records import AnnotationSpec, Kind, Origin

_log = logging.getLogger(__name__)


class Judge(Protocol):
    """What a factory makes: a :class:`~onibus.consumers.language_models.base.LanguageModel`, of which only
    this is needed. Where it has ``check``, ``close``, ``has_begun`` and ``origin``, they are used, too."""

    async def answer(self, question: Question) -> Answer:
        """Judge one caption, or compare two. Many calls run at the same time, on one asyncio loop, so it must
        not block: what takes long is awaited, or done in ``asyncio.to_thread``."""
        ...


Factory = Callable[[Mapping[bytes, AnnotationSpec]], Judge]
"""Is called once per annotator, with the specs by their 8-byte ids."""


def model_version(reference: str, given_as: str = "--llm") -> str:
    """The version of the module of ``module:factory``; part of the spec id, so each has its own labels.

    Args:
        given_as: what the user gave it by, for errors.

    Raises:
        OnibusError: it cannot be imported, or has no such name.
    """
    load_plugin(given_as, reference)
    return version_of(reference.partition(":")[0])


class PluginModel:
    """Asks the user's model, and sees that what it gives is an answer; what it raises ends the annotator.

    Args:
        reference: ``module:factory``, a :data:`Factory`.
        specs: what is asked, by spec id.
        given_as: what the user gave it by, for errors.

    Raises:
        OnibusError: the factory cannot be found, or failed.
    """

    def __init__(
        self, reference: str, specs: Mapping[bytes, AnnotationSpec], given_as: str = "--llm"
    ) -> None:
        self._name, self._specs = f"{given_as} {reference}", specs
        self._has_warned = False
        factory: Factory = load_plugin(given_as, reference)
        try:
            self._judge = factory(specs)
        except Exception as error:
            raise failure_of(self._name, error) from error
        if not callable(getattr(self._judge, "answer", None)):
            raise OnibusError(
                f"{self._name} made a {type(self._judge).__name__} without a method answer(question)"
            )
        self.origin: Origin = getattr(self._judge, "origin", Origin.LLM)

    async def check(self) -> Attempt | None:
        """The model's own check or, without one, its answer to a question like those that will be asked.

        So a judge that cannot answer ends before its spec is announced.

        Raises:
            ModelRefusedError: it failed.
        """
        check = getattr(self._judge, "check", None)
        if check is not None:
            return cast(Attempt | None, await self._asked(check))
        spec_id, spec = next(iter(self._specs.items()))
        second = EXAMPLES[1] if spec.kind is Kind.COMPARE_TWO else None
        answer = await self.answer(Question(spec_id, EXAMPLES[0], second))
        return answer.attempts[-1] if answer.attempts else None

    async def answer(self, question: Question) -> Answer:
        """The model's answer.

        Raises:
            ModelRefusedError: it failed, or what it gave is no answer to the question.
        """
        answer = await self._asked(lambda: self._judge.answer(question))
        if not isinstance(answer, Answer):
            raise ModelRefusedError(f"{self._name} gave a {type(answer).__name__}, not an Answer")
        kind = self._specs[question.spec_id].kind
        if answer.verdict not in WORDS[kind]:
            raise ModelRefusedError(
                f"{self._name} answered {answer.verdict}; under a spec of kind {kind} it may say "
                + ", ".join(sorted(WORDS[kind]))
            )
        return answer

    def progress(self, question: Question) -> Progress:
        """By the model's ``has_begun(question)``, if it has such a method; else it counts as sent."""
        has_begun = getattr(self._judge, "has_begun", None)
        if has_begun is None:
            return Progress.SENT
        try:
            return Progress.SENT if has_begun(question) else Progress.WAITING
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("%s; its questions count as sent", failure_of(f"{self._name}: has_begun", error))
            return Progress.SENT

    async def close(self) -> None:
        """The model's own close, if it has one."""
        close = getattr(self._judge, "close", None)
        if close is not None:
            await self._asked(close)

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            asked = ask()
            if not inspect.isawaitable(asked):
                raise OnibusError("its methods must be coroutines; write async def")
            return await asked
        except ModelRefusedError:
            raise
        except Exception as error:
            raise ModelRefusedError(str(failure_of(self._name, error))) from error
