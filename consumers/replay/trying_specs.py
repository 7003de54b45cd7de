"""A spec tried out: what a model answers to captions that are at hand, without Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from onibus.consumers.annotator.asking_again import decided
from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.run import annotation_specs, captions_under_way, language_model
from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Question
from onibus.consumers.specs.prompts import Prompt
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.schemas.records import AnnotationSpec, Kind, Origin


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of asking.

    Attributes:
        answers: in the order of the captions.
        seconds: from the first question to the last answer, without the model's start.
        probe: the questions that are asked at the start; None of rules, and where another spec has it.
    """

    spec_id: bytes
    spec: AnnotationSpec
    answers: tuple[Answer, ...]
    seconds: float
    probe: Attempt | None
    origin: Origin

    @property
    def is_of_panel(self) -> bool:
        """Whether several judges were asked, so that probabilities are shares of them."""
        return any(attempt.judge for answer in self.answers for attempt in answer.attempts)

    @property
    def start(self) -> Cost:
        """Of the questions of the start."""
        return Cost() if self.probe is None else Cost.of(self.probe)

    @property
    def cost(self) -> Cost:
        """Of the answers, repeated questions included; the probe apart."""
        total = Cost()
        for answer in self.answers:
            seconds = sum(attempt.latency_us for attempt in answer.attempts) / 1e6
            total.add(replace(Cost.of(*answer.attempts), answers=1, seconds=seconds))
            total.unreadable += bool(answer.given_up)
        return total


def try_spec(options: AnnotateOptions, captions: Sequence[tuple[str, ...]]) -> Trial:
    """Ask about captions, each a tuple of one text, or of two where the spec compares.

    Raises:
        OnibusError: the spec or an option is wrong, or the model refuses.
    """
    trials: list[Trial] = []
    try_specs(options, [captions], trials.append)
    return trials[0]


def without_repeats(options: AnnotateOptions) -> AnnotateOptions:
    """The same without specs that ask what an earlier one asks, as files of other names can."""
    asked: dict[bytes, str] = {}
    for name in options.specs:
        (spec_id,) = annotation_specs([load_spec_file(name)], options)
        asked.setdefault(spec_id, name)
    return replace(options, specs=tuple(asked.values()))


def try_specs(
    options: AnnotateOptions,
    captions: Sequence[Sequence[tuple[str, ...]]],
    tried: Callable[[Trial], object],
) -> None:
    """Ask under each of the options' specs about captions of its own, one spec after the other.

    What is wrong with any of them is found before the first is asked about.

    Args:
        captions: of each spec.
        tried: takes what came of a spec; the first has the question of the start.

    Raises:
        OnibusError: as for :func:`try_spec`.
    """
    files = [load_spec_file(name) for name in options.specs]
    specs = [next(iter(annotation_specs([file], options).items())) for file in files]
    for (_, spec), own in zip(specs, captions, strict=True):
        wanted = 2 if spec.kind is Kind.COMPARE_TWO else 1
        if any(len(texts) != wanted for texts in own):
            raise OnibusError(
                f"spec {spec.name} is asked about {wanted} at a time: give --caption {wanted} times"
            )
    model = language_model(files, options)

    async def ask() -> None:
        places = asyncio.Semaphore(captions_under_way(options))

        async def one(question: Question) -> Answer:
            async with places:
                return await model.answer(question)

        try:
            probe = await model.check()
            for (spec_id, spec), own in zip(specs, captions, strict=True):
                began = time.monotonic()
                questions = [Question(spec_id, texts[0], None, *texts[1:]) for texts in own]
                answers = tuple(map(decided, await asyncio.gather(*map(one, questions))))
                tried(Trial(spec_id, spec, answers, time.monotonic() - began, probe, model.origin))
                probe = None
        finally:
            await model.close()

    try:
        asyncio.run(ask())
    except ModelRefusedError as error:
        raise OnibusError(str(error)) from error


def conversation(spec: AnnotationSpec, texts: Sequence[str]) -> list[dict[str, str]]:
    """The messages that are sent about these captions."""
    prompt = Prompt(spec)
    return prompt.conversation(prompt.text(*texts))


def money(cost: Cost, prices: Prices) -> float | None:
    """What a trial cost; None where there is no price."""
    return prices.usd(cost) if prices.are_given or cost.usd else None
