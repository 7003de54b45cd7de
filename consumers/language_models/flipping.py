"""A judge whose verdicts are wrong on purpose, to see what a reward stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b

from onibus.consumers.language_models.base import Answer, Attempt, LanguageModel, Progress, Question
from onibus.schemas.records import AnnotationSpec, Verdict

_OPPOSITE = {
    Verdict.HELPFUL: Verdict.UNHELPFUL,
    Verdict.UNHELPFUL: Verdict.HELPFUL,
    Verdict.FIRST: Verdict.SECOND,
    Verdict.SECOND: Verdict.FIRST,
}
"""Ties and ``unsure`` have none and stay as they are."""


@dataclass(frozen=True, slots=True)
class Flips:
    """Which verdicts are turned into their opposites.

    Whether one is depends on the seed, on what was judged, and on how many answers came before: an answer
    that is asked for again is flipped or not independently of the first one, whoever asks.

    Attributes:
        share: of the answers, 0 to 1.
    """

    share: float
    seed: int = 0

    def of(self, question: Question) -> bool:
        """Whether the answer to this question is flipped."""
        what = (str(self.seed), str(question.earlier), question.text, question.second or "")
        digest = blake2b("\0".join(what).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < self.share * 2**64

    def spec(self, spec: AnnotationSpec) -> AnnotationSpec:
        """The spec of a judge with flips: another one, with labels of its own."""
        if not self.share:
            return spec
        said = f"{self.share:.0%} flipped, seed {self.seed}"
        return replace(spec, model_revision=f"{spec.model_revision}; {said}".removeprefix("; "))


NO_FLIPS = Flips(0.0)


class FlippingModel:
    """Judges as another model does, and flips some of the verdicts."""

    def __init__(self, inner: LanguageModel, flips: Flips) -> None:
        self.origin = inner.origin
        self._inner, self._flips = inner, flips

    async def check(self) -> Attempt | None:
        """See :meth:`LanguageModel.check`."""
        return await self._inner.check()

    async def answer(self, question: Question) -> Answer:
        """See :meth:`LanguageModel.answer`."""
        answer = await self._inner.answer(question)
        return flipped(answer) if self._flips.of(question) else answer

    def progress(self, question: Question) -> Progress:
        """See :meth:`LanguageModel.progress`."""
        return self._inner.progress(question)

    async def close(self) -> None:
        """See :meth:`LanguageModel.close`."""
        await self._inner.close()


def flipped(answer: Answer) -> Answer:
    """The opposite answer, where there is one; the attempt that decided says that it was flipped."""
    opposite = _OPPOSITE.get(answer.verdict)
    if opposite is None or not answer.attempts:
        return answer
    *before, last = answer.attempts
    probability = None if last.probability is None else 1.0 - last.probability
    last = replace(last, verdict=opposite, probability=probability, was_flipped=True)
    return replace(answer, verdict=opposite, attempts=(*before, last))
