"""What answers have cost, by spec and annotator: a fold of the log of answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from onibus.consumers.language_models.base import Attempt
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.answer_parsing import read_answer
from onibus.consumers.specs.probabilities import is_readable
from onibus.schemas.records import Annotation, AnnotationSpec, Origin, Verdict

_MILLION = 1_000_000


class Asked(NamedTuple):
    """Who was asked, under what, by whom."""

    spec_id: bytes
    annotator: str
    model: str
    model_revision: str


@dataclass(slots=True)
class Cost:
    """Sums over answers.

    Attributes:
        seconds: of model time, from request to answer, added up over requests.
        usd: what the priced tokens cost, US dollars.
        priced_in, priced_out: tokens whose price was recorded with their answers.
    """

    answers: int = 0
    unreadable: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    priced_in: int = 0
    priced_out: int = 0

    @classmethod
    def of(cls, *attempts: Attempt) -> Cost:
        """Tokens of these attempts, and dollars of those that have a price."""
        total = cls()
        for a in attempts:
            priced = (0.0, 0, 0) if a.usd is None else (a.usd, a.tokens_in, a.tokens_out)
            total.add(cls(1, 0, a.tokens_in, a.tokens_out, 0.0, *priced))
        return total

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out

    @property
    def unpriced_tokens(self) -> int:
        """Those of which no price was recorded."""
        return self.tokens - self.priced_in - self.priced_out

    def add(self, other: Cost) -> None:
        """Take another sum on top."""
        self.answers += other.answers
        self.unreadable += other.unreadable
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.seconds += other.seconds
        self.usd += other.usd
        self.priced_in += other.priced_in
        self.priced_out += other.priced_out


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens."""

    usd_in: float = 0.0
    usd_out: float = 0.0

    @property
    def are_given(self) -> bool:
        """Whether there is any price."""
        return bool(self.usd_in or self.usd_out)

    def usd(self, cost: Cost) -> float:
        """What it cost: as recorded where a price was, at these prices otherwise."""
        unpriced_in, unpriced_out = cost.tokens_in - cost.priced_in, cost.tokens_out - cost.priced_out
        return cost.usd + (unpriced_in * self.usd_in + unpriced_out * self.usd_out) / _MILLION


@dataclass(slots=True)
class Spending:
    """Costs by who was asked; fed with annotations in any order.

    Args:
        specs: by id; of models' answers under these it is looked at whether they could be read.
    """

    specs: Mapping[bytes, AnnotationSpec] = field(default_factory=dict)
    by_asked: dict[Asked, Cost] = field(default_factory=lambda: defaultdict(Cost))

    def count(self, annotations: Iterable[Annotation]) -> None:
        """Take over answers of models and rules; what people say costs nothing here."""
        for a in annotations:
            if a.origin not in (Origin.LLM, Origin.RULES):
                continue
            asked = Asked(a.spec_id, a.annotator, a.model, a.model_revision)
            seconds = a.latency_us / _MILLION
            unreadable = int(self.is_unreadable(a))
            priced = (0.0, 0, 0) if a.usd is None else (a.usd, a.tokens_in, a.tokens_out)
            self.by_asked[asked].add(Cost(1, unreadable, a.tokens_in, a.tokens_out, seconds, *priced))

    def is_unreadable(self, annotation: Annotation) -> bool:
        """Whether no verdict stands in a model's answer: it is ``unsure`` then, as is one that says so."""
        said = annotation.said or annotation.verdict
        if said is not Verdict.UNSURE or annotation.origin is not Origin.LLM:
            return False
        if annotation.probability is not None and annotation.said is None:
            return False
        if (spec := self.specs.get(annotation.spec_id)) is None:
            return not annotation.raw_answer
        answer_format = AnswerFormat.model_validate_json(spec.parser)
        if answer_format.reads_probabilities is not None:
            return not is_readable(answer_format, annotation.raw_answer)
        return read_answer(answer_format, annotation.raw_answer, annotation.texts).verdict is None

    def total(self, spec_ids: Container[bytes] | None = None) -> Cost:
        """The sum over these specs, or all."""
        total = Cost()
        for asked, cost in self.by_asked.items():
            if spec_ids is None or asked.spec_id in spec_ids:
                total.add(cost)
        return total
