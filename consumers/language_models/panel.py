"""Several judges who are asked about each caption at the same time (``onibus annotate --panel``).

Each judge is a model of its own, with its own retries, requests at a time and circuit breaker. What they said
comes back as one answer with the attempts of all; what it comes to is reckoned where it is written, as it is
for captions that are asked again (:func:`onibus.consumers.annotator.asking_again.decided`).

A judge that does not answer is waited for as long as its vote can change the verdict, unless a quorum has
answered. Where the others have settled the verdict, or are a quorum, it is waited for a while only, and has
no vote then. Captions that need it keep their places among those that are asked about: once they hold all of
them, nothing is labelled until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from onibus.consumers.language_models.base import (
    Answer,
    Attempt,
    JudgeName,
    LanguageModel,
    ModelRefusedError,
    Progress,
    Question,
)
from onibus.consumers.specs.majority import can_change, majority
from onibus.consumers.specs.spec_file import RULES_MODEL
from onibus.infra.errors import OnibusError
from onibus.schemas.records import AnnotationSpec, Origin

PATIENCE_SECONDS = 60.0
"""How long a judge whose vote is not needed is waited for. Longer than the pauses between the probes of a
server that is away, so that it is still probed."""
_LAST_SECONDS = 2.0
"""How long the others are waited for when one judge can answer no question any more."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge of a panel and how it is asked.

    Attributes:
        judges: who it is under each spec, by spec id.
        usd_in, usd_out: US dollars for a million tokens; None where the judge has no prices of its own.
    """

    judges: Mapping[bytes, JudgeName]
    model: LanguageModel
    usd_in: float | None = None
    usd_out: float | None = None

    def priced(self, attempt: Attempt, spec_id: bytes | None = None) -> Attempt:
        """An attempt with what it cost and, under a spec, whose it is."""
        judge = None if spec_id is None else self.judges[spec_id]
        if self.usd_in is None and self.usd_out is None:
            return replace(attempt, judge=judge)
        usd = attempt.tokens_in * (self.usd_in or 0.0) + attempt.tokens_out * (self.usd_out or 0.0)
        return replace(attempt, judge=judge, usd=usd / 1e6)


def panel_spec(specs: Sequence[AnnotationSpec]) -> AnnotationSpec:
    """What is asked of a panel: a spec of its own, with labels of its own, whose id depends on every judge.

    Args:
        specs: the same spec under each judge.

    Raises:
        OnibusError: two judges have the same model and revision, so that no one could tell them apart.
    """
    names = sorted(f"{s.model}@{s.model_revision}" if s.model_revision else s.model for s in specs)
    if twice := next((one for one, other in pairwise(names) if one == other), None):
        advice = (
            "leave one out"
            if twice.startswith(f"{RULES_MODEL}@")
            else "give each another model or model_revision"
        )
        raise OnibusError(f"the panel has {twice} twice; {advice}")
    asked = max(specs, key=lambda spec: len(spec.sampling))  # rules have no sampling
    return replace(asked, model=" + ".join(names), model_revision=f"majority of {len(names)}")


class PanelModel:
    """Asks every judge.

    Args:
        seats: two judges or more.
        patience: seconds for a judge whose vote is not needed.
        quorum: judges whose votes are enough once ``patience`` is over; None for all whose vote can count.
    """

    def __init__(
        self, seats: Sequence[Seat], patience: float = PATIENCE_SECONDS, quorum: int | None = None
    ) -> None:
        self._seats, self._patience = tuple(seats), patience
        self._quorum = len(self._seats) if quorum is None else quorum
        asks_model = any(seat.model.origin is Origin.LLM for seat in seats)
        self.origin = Origin.LLM if asks_model else Origin.RULES
        self._paid = set[Question]()  # of those under way, those that a model has answered

    async def check(self) -> Attempt | None:
        """Check every judge; the tokens and dollars of all.

        Raises:
            ModelRefusedError: one of them can answer no question.
        """
        checked = await asyncio.gather(*(seat.model.check() for seat in self._seats))
        probes = [seat.priced(one) for seat, one in zip(self._seats, checked, strict=True) if one is not None]
        if not probes:
            return None
        prices = [probe.usd for probe in probes if probe.usd is not None]
        return replace(
            probes[0],
            tokens_in=sum(probe.tokens_in for probe in probes),
            tokens_out=sum(probe.tokens_out for probe in probes),
            usd=sum(prices) if prices else None,
        )

    async def answer(self, question: Question) -> Answer:
        """What every judge said whose vote can count.

        Raises:
            ModelRefusedError: one of them can answer no question any more.
        """
        heard, refusal = await self._heard(question)
        absent = [seat.judges[question.spec_id].model for seat, answer in heard if answer is None]
        without = f"without {', '.join(absent)}; " if absent else ""
        answers = [answer for _, answer in heard if answer is not None]
        if refusal is not None and not answers:
            raise refusal
        attempts = [
            replace(priced, reason=f"{without}{priced.reason}".removesuffix("; "))
            for seat, answer in heard
            if answer is not None
            for priced in (seat.priced(one, question.spec_id) for one in answer.attempts_or_reason())
        ]
        given_up = [answer.given_up for answer in answers if answer.given_up]
        why = "; ".join(dict.fromkeys(given_up)) if len(given_up) == len(answers) else ""
        verdict = majority([answer.verdict for answer in answers])
        answer = Answer(question, verdict, tuple(attempts), given_up=why)
        if refusal is not None:  # what it might have changed is asked again, when a person has helped
            is_open = can_change([one.verdict for one in answers], len(absent))
            raise ModelRefusedError(str(refusal), None if is_open else answer) from refusal
        return answer

    async def _heard(
        self, question: Question
    ) -> tuple[list[tuple[Seat, Answer | None]], ModelRefusedError | None]:
        """Each judge with its answer, None where it was not waited for any longer; and a judge's refusal."""
        asked = [asyncio.ensure_future(seat.model.answer(question)) for seat in self._seats]
        refusal: ModelRefusedError | None = None
        said: dict[int, Answer] = {}
        try:
            missing = set(asked)
            while missing:
                verdicts = [answer.verdict for answer in said.values()]
                is_needed = len(said) < self._quorum and can_change(verdicts, len(missing))
                timeout = _LAST_SECONDS if refusal else None if is_needed else self._patience
                try:
                    done, missing = await asyncio.wait(
                        missing, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                    )
                except asyncio.CancelledError:  # the annotator ends: what is settled is written
                    said |= await _ended(asked)
                    if can_change([answer.verdict for answer in said.values()], len(asked) - len(said)):
                        raise
                    break
                for task in done:
                    try:
                        said[place := asked.index(task)] = task.result()
                        if self._seats[place].model.origin is Origin.LLM:
                            self._paid.add(question)
                    except ModelRefusedError as error:
                        refusal = refusal or error
                if not done:
                    break
            return [(seat, said.get(number)) for number, seat in enumerate(self._seats)], refusal
        finally:
            self._paid.discard(question)
            await _ended(asked)

    def progress(self, question: Question) -> Progress:
        """That of the judge who has come farthest."""
        own = Progress.PAID if question in self._paid else Progress.WAITING
        return max(own, *(seat.model.progress(question) for seat in self._seats))

    async def close(self) -> None:
        """Close every judge."""
        await asyncio.gather(*(seat.model.close() for seat in self._seats))


async def _ended(asked: Sequence[asyncio.Future[Answer]]) -> dict[int, Answer]:
    """End what is asked; the answers of those that have one, by their places."""
    for task in asked:
        task.cancel()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    return {place: one for place, one in enumerate(outcomes) if isinstance(one, Answer)}
