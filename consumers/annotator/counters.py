"""What an annotator counts: its summary at the end, and its metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from onibus.consumers.annotator.batch import Batch
from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.language_models.base import Answer, Attempt
from onibus.infra.money import dollars
from onibus.infra.observability import metrics
from onibus.schemas.records import AnnotationSpec, Verdict

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AnnotatorSummary:
    """What an annotator did in its life."""

    seconds: float = 0.0
    consumed: int = 0
    known: int = 0
    labels: int = 0
    dead_letters: int = 0
    transactions: int = 0
    failed_transactions: int = 0
    first_preferred: int = 0
    second_preferred: int = 0
    further: int = 0
    """Answers about what had an answer: see ``--ask-again``."""
    usd: float | None = None
    """Dollars for answers and probes; None where no price was given."""

    @property
    def position_bias(self) -> float | None:
        """Share of decided comparisons that went to the caption shown first, less a half; None without any.

        Each caption of a pair has the same chance to be shown first, so a judge without bias comes to 0.
        """
        decided = self.first_preferred + self.second_preferred
        return self.first_preferred / decided - 0.5 if decided else None

    def line(self) -> str:
        """The summary as one line for a person."""
        further = f"{self.further:,} further answers; " if self.further else ""
        return (
            f"{self.labels:,} labels from {self.consumed:,} caption records "
            f"({self.known:,} labelled before or of other tasks) "
            f"in {self.seconds:.0f} s; {further}{self.transactions:,} transactions, "
            f"{self.failed_transactions:,} failed; {self.dead_letters:,} dead letters"
            f"{'' if self.usd is None else f'; {dollars(self.usd)}'}{self._bias()}"
        )

    def _bias(self) -> str:
        if (bias := self.position_bias) is None:
            return ""
        decided = self.first_preferred + self.second_preferred
        return f"; of {decided:,} decided comparisons {bias + 0.5:.1%} went to the caption shown first"


class AnnotatorCounts:
    """Keeps the summary and the process's metrics in step."""

    def __init__(self, specs: Mapping[bytes, AnnotationSpec], prices: Prices | None = None) -> None:
        self.summary = AnnotatorSummary()
        self._prices = prices
        self._names = {spec_id: spec.name for spec_id, spec in specs.items()}

    def consumed(self, records: int, known: int) -> None:
        """So many caption records were read, of which so many needed nothing."""
        self.summary.consumed += records
        self.summary.known += known
        metrics.CAPTIONS_CONSUMED.inc(records)
        metrics.CAPTIONS_KNOWN.inc(known)

    def committed(self, batch: Batch) -> None:
        """A transaction was committed."""
        now = time.time_ns() // 1000
        self.summary.transactions += 1
        self.summary.labels += len(batch.labels)
        self.summary.dead_letters += batch.dead_letters
        metrics.TRANSACTIONS.labels(outcome="committed").inc()
        metrics.DEAD_LETTERS.labels(component="annotator").inc(batch.dead_letters)
        for label in batch.labels:
            of_spec = _of_spec(self._names[label.spec_id])
            self.summary.first_preferred += label.verdict is Verdict.FIRST
            self.summary.second_preferred += label.verdict is Verdict.SECOND
            of_spec.labels[label.verdict].inc()
            latency = of_spec.waiting if label.was_waiting else of_spec.latency
            latency.observe(max(0, now - label.observed_at) / 1e6)
        if (bias := self.summary.position_bias) is not None:
            metrics.POSITION_BIAS.set(bias)
        for answer in batch.answers:
            self.summary.further += answer.question.earlier > 0
            name = self._names[answer.question.spec_id]
            _of_spec(name).count(answer)
            self._spent(name, answer.attempts)

    def probed(self, spec_id: bytes, attempt: Attempt) -> None:
        """A question of our own was answered at the start: it costs what any other costs."""
        name = self._names[spec_id]
        _of_spec(name).count_probe(attempt)
        self._spent(name, [attempt])

    def not_written(self, captions: int) -> None:
        """The annotator ends, and the answers about so many captions are not on the log."""
        if captions:
            _log.warning(
                "the answers about %d captions could not be written in time; they will be asked about again",
                captions,
            )

    def failed(self) -> None:
        """A transaction failed, or no one knows."""
        self.summary.failed_transactions += 1
        metrics.TRANSACTIONS.labels(outcome="failed").inc()

    def _spent(self, name: str, attempts: Sequence[Attempt]) -> None:
        cost = Cost.of(*attempts)
        if self._prices is not None or cost.priced_in or cost.priced_out:
            usd = (self._prices or Prices()).usd(cost)
            self.summary.usd = (self.summary.usd or 0.0) + usd
            metrics.COST.labels(spec=name).inc(usd)


class _SpecMetrics:
    """The metrics of one spec; looking them up by labels for each record would cost as much as the record."""

    def __init__(self, name: str) -> None:
        self.labels = {v: metrics.LABELS_WRITTEN.labels(spec=name, verdict=v.value) for v in Verdict}
        self.latency = metrics.LABEL_LATENCY.labels(spec=name)
        self.waiting = metrics.WAITING_LABEL_LATENCY.labels(spec=name)
        self._answered = metrics.MODEL_CALLS.labels(spec=name, outcome="answered")
        self._unreadable = metrics.MODEL_CALLS.labels(spec=name, outcome="unreadable")
        self._refused = metrics.MODEL_CALLS.labels(spec=name, outcome="refused")
        self._probes = metrics.MODEL_CALLS.labels(spec=name, outcome="probe")
        self._seconds = metrics.MODEL_SECONDS.labels(spec=name)
        self._tokens_in = metrics.TOKENS.labels(spec=name, direction="in")
        self._tokens_out = metrics.TOKENS.labels(spec=name, direction="out")

    def count(self, answer: Answer) -> None:
        for attempt in answer.attempts:
            (self._unreadable if attempt.verdict is None else self._answered).inc()
            self._seconds.observe(attempt.latency_us / 1e6)
            self._count_tokens(attempt)
        if not answer.attempts:
            self._refused.inc()

    def count_probe(self, attempt: Attempt) -> None:
        self._probes.inc()
        self._count_tokens(attempt)

    def _count_tokens(self, attempt: Attempt) -> None:
        self._tokens_in.inc(attempt.tokens_in)
        self._tokens_out.inc(attempt.tokens_out)


@cache
def _of_spec(name: str) -> _SpecMetrics:
    """Bounded by the number of specs, which is given at the start."""
    return _SpecMetrics(name)
