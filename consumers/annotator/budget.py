"""A budget of tokens or dollars that a group of annotators keeps without talking to each other.

Spent is what stands on the log of answers, and everyone follows that log. What is left is shared out by
partitions: who owns a quarter of them may have questions under way for a quarter of what is left, each
reckoned at the most that it can cost. Shares add up to one at most, so what is under way anywhere fits into
what is left. A share that is too small for one question makes its owner stop, and leaves it to the others;
the owner of partition 0 stays until all that is left is too small.

Not on the log, and so not counted: answers lost with an annotator that was killed, and requests without an
answer that a provider may bill all the same.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from kafka import KafkaConsumer

from onibus.consumers.annotator.batch import Batch
from onibus.consumers.annotator.cost import Cost, Prices, Spending
from onibus.consumers.language_models.ask_until_readable import READABLE_TRIES
from onibus.consumers.language_models.base import Attempt
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.infra.kafka import clients
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.money import dollars
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec, DecodeError
from onibus.schemas.records import Annotation, AnnotationSpec, Kind

_log = logging.getLogger(__name__)

_MOST_TOKENS_OUT = 1_024
"""Reckoned for a spec that sets no max_tokens."""
_CAPTION_BYTES = 512
_CAPTIONS = {Kind.JUDGE_ONE: 1, Kind.COMPARE_TWO: 2}
_RECORDS_PER_POLL = 5_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent in all; None: no limit."""

    tokens: int | None = None
    usd: float | None = None
    prices: Prices = field(default_factory=Prices)

    @property
    def are_given(self) -> bool:
        """Whether there is any limit."""
        return self.tokens is not None or self.usd is not None

    def questions(self, spent: Cost, dearest: Cost, share: float) -> float:
        """How many questions of at most ``dearest`` fit into this share of what is left."""
        fits = math.inf
        if self.tokens is not None and dearest.tokens:
            fits = min(fits, share * (self.tokens - spent.tokens) / dearest.tokens)
        if self.usd is not None and (price := self.prices.usd(dearest)):
            fits = min(fits, share * (self.usd - self.prices.usd(spent)) / price)
        return max(0.0, fits)

    def line(self, spent: Cost) -> str:
        """What is spent of what, for a person."""
        parts = []
        if self.tokens is not None:
            parts.append(f"{spent.tokens:,} of {self.tokens:,} tokens")
        if self.usd is not None:
            parts.append(f"{dollars(self.prices.usd(spent))} of ${self.usd:g}")
        return ", ".join(parts)


def dearest_question(specs: Collection[AnnotationSpec]) -> Cost:
    """At most what one question costs.

    A token is a byte or more, an answer ends at max_tokens, and one that cannot be read is asked for again.
    """
    tokens_in = max(_prompt_bytes(s) + _CAPTION_BYTES * _CAPTIONS[s.kind] for s in specs)
    tokens_out = max(int(s.sampling.get("max_tokens", _MOST_TOKENS_OUT)) for s in specs)
    answers = max(READABLE_TRIES, *(AnswerFormat.model_validate_json(s.parser).samples for s in specs))
    return Cost(tokens_in=answers * tokens_in, tokens_out=answers * tokens_out)


def _prompt_bytes(spec: AnnotationSpec) -> int:
    return len("".join((spec.template, spec.goal, *(m.content for m in spec.messages))).encode())


class GroupBudget:
    """What is left for one annotator of the group.

    Args:
        specs: whose answers count, by spec id.
        name: this annotator's; what it commits itself it reports by :meth:`committed`.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        limits: Limits,
        specs: Mapping[bytes, AnnotationSpec],
        name: str,
    ) -> None:
        self._settings, self._codec, self._limits, self._name = settings, codec, limits, name
        self._specs = frozenset(specs)
        self._dearest = dearest_question(specs.values())
        self._topic = TopicNames(settings.topic_prefix).annotations
        self._spent, self._probes = Cost(), Cost()
        self._consumer: KafkaConsumer | None = None

    def load(self, stopping: threading.Event) -> None:
        """Add up everything that is on the log, then follow it. ``stopping`` ends it early.

        Raises:
            OnibusError: the cluster cannot be reached, has no such topic, or does not go on.
            KafkaError: it does not answer.
        """
        consumer = clients.consumer(self._settings, max_poll_records=_RECORDS_PER_POLL)
        self._consumer, self._spent = consumer, replace(self._probes)
        for _ in until_end(consumer, clients.partitions_of(consumer, self._topic), stopping):
            self._poll(timeout_ms=500, own=True)
        _log.info("budget: %s spent", self.line())

    def follow(self, stopping: threading.Event) -> None:
        """Add what others have committed since. If the log is another one than before, count it anew."""
        assert self._consumer is not None
        self._poll(timeout_ms=0, own=False)
        if self._consumer.take_lost():
            self.close()
            self.load(stopping)

    def committed(self, batch: Batch) -> None:
        """This annotator has committed a batch."""
        for answer in batch.answers:
            for attempt in answer.attempts:
                self._spend(attempt)

    def probed(self, attempt: Attempt) -> None:
        """A question of our own was answered at the start; it stands on no log."""
        self._probes.add(Cost(1, 0, attempt.tokens_in, attempt.tokens_out))
        self._spend(attempt)

    def questions(self, share: float, unpaid: int) -> int:
        """How many more questions may be asked now.

        Args:
            share: of the partitions that this annotator owns.
            unpaid: its questions that are asked and not committed.
        """
        fits = self._limits.questions(self._spent, self._dearest, share)
        return max(0, int(min(fits, 1_000_000_000)) - unpaid)

    def line(self) -> str:
        """What is spent of what, for a person."""
        return self._limits.line(self._spent)

    def dearest_line(self) -> str:
        """At most what one question costs, for a person: each try at the longest prompt and answer."""
        line = f"{self._dearest.tokens:,} tokens"
        return line if self._limits.usd is None else f"{line} (${self._limits.prices.usd(self._dearest):.4f})"

    def _spend(self, attempt: Attempt) -> None:
        self._spent.add(Cost(1, 0, attempt.tokens_in, attempt.tokens_out))

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close(timeout_ms=1_000)

    def _poll(self, timeout_ms: int, own: bool) -> None:
        assert self._consumer is not None
        found = Spending()
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                try:
                    annotation = self._codec.decode(Annotation, record.value)
                except DecodeError:
                    continue  # counted where it matters, by the readers of answers
                if own or annotation.annotator != self._name:
                    found.count([annotation])
        self._spent.add(found.total(self._specs))
