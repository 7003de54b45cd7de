"""A budget of tokens or dollars that a group of annotators keeps without talking to each other.

Spent is what stands on the log of answers, and everyone follows that log. Sums are kept beside the group's
offsets (:mod:`~onibus.consumers.annotator.spent_mark`), so a start adds up only what came since.

What is left is shared out by partitions: who owns a quarter of them may have questions under way for a
quarter of what is left, each reckoned at the most that it can cost. Shares add up to one at most, so what is
under way anywhere fits into what is left. A share that is too small for one question makes its owner stop,
and leaves it to the others; the owner of partition 0 stays until all that is left is too small.

Not on the log, and so not counted: answers lost with an annotator that was killed, and requests without an
answer that a provider may bill all the same.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.consumers.annotator.batch import Batch
from onibus.consumers.annotator.cost import Cost, Prices, Spending
from onibus.consumers.annotator.spent_mark import SpentMark, name_of
from onibus.consumers.language_models.ask_until_readable import answer_tokens, tries_of
from onibus.consumers.language_models.base import Attempt
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import decoded_quietly
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.money import dollars
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.ids import SPEC_ID_BYTES
from onibus.schemas.records import Annotation, AnnotationSpec, Kind

_log = logging.getLogger(__name__)

_CAPTION_BYTES = 512
_CAPTIONS = {Kind.JUDGE_ONE: 1, Kind.COMPARE_TWO: 2}
_RECORDS_PER_POLL = 5_000
_MARK_MS = 1_000
_MARKS_SECONDS = 15.0
"""Longer than a transaction with offsets may stay open, which these are not known before."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent in all; None: no limit.

    Attributes:
        judges: the prices of each judge of a panel; without a panel there is one judge, at ``prices``.
    """

    tokens: int | None = None
    usd: float | None = None
    prices: Prices = field(default_factory=Prices)
    judges: tuple[Prices, ...] = ()

    def of_all_judges(self, one: Cost) -> Cost:
        """What is asked of one judge, asked of all: with the price at each, where there is a panel."""
        if not self.judges:
            return one
        total = Cost()
        for prices in self.judges:
            each = replace(one, usd=prices.usd(one), priced_in=one.tokens_in, priced_out=one.tokens_out)
            total.add(each)
        return total

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
    tokens_out = max(map(answer_tokens, specs))
    formats = [AnswerFormat.model_validate_json(spec.parser) for spec in specs]
    answers = max(tries_of(one) * one.samples for one in formats)
    return Cost(tokens_in=answers * tokens_in, tokens_out=answers * tokens_out)


def _prompt_bytes(spec: AnnotationSpec) -> int:
    return len("".join((spec.template, spec.goal, *(m.content for m in spec.messages))).encode())


class GroupBudget:
    """What is left for one annotator of the group.

    Args:
        specs: whose answers count, by spec id.
        name: this annotator's; what it commits itself it reports by :meth:`committed`.
        group: consumer group, full name, beside whose offsets sums are kept.

    Attributes:
        is_limited: whether there are limits; without them nothing is read.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        limits: Limits,
        specs: Mapping[bytes, AnnotationSpec],
        name: str,
        group: str,
    ) -> None:
        self._settings, self._codec, self._limits, self._name = settings, codec, limits, name
        self._specs, self._group = frozenset(specs), group
        self.is_limited = limits.are_given
        self._dearest = limits.of_all_judges(dearest_question(specs.values()))
        self._topics = TopicNames(settings.topic_prefix)
        self._topic = self._topics.annotations
        self._spent, self._probes = Cost(), Cost()
        self._read: dict[int, Cost] = defaultdict(Cost)
        self._consumer: KafkaConsumer | None = None

    def load(self, stopping: threading.Event, *, from_marks: bool = True) -> None:
        """Add up everything that is on the log, then follow it; nothing without limits.

        Args:
            stopping: ends it early.
            from_marks: go on from the sums that are kept, where there are any.

        Raises:
            OnibusError: the cluster cannot be reached, has no such topic, or does not go on.
            KafkaError: it does not answer.
        """
        if not self.is_limited:
            return
        consumer = clients.consumer(self._settings, max_poll_records=_RECORDS_PER_POLL)
        self._consumer, self._spent = consumer, replace(self._probes)
        self._read.clear()
        partitions = clients.partitions_of(consumer, self._topic)
        marks = self._marks(partitions, consumer.end_offsets(partitions)) if from_marks else {}
        for tp, mark in marks.items():
            self._read[tp.partition] = mark.cost
            self._spent.add(mark.cost)
        start = {tp: mark.offset for tp, mark in marks.items()}
        for _ in until_end(consumer, partitions, stopping, start=start):
            self._poll(timeout_ms=500, own=True)
        _log.info("budget: %s spent", self.line())

    def follow(self, stopping: threading.Event) -> None:
        """Add what others have committed since. If the log is another one than before, count it anew."""
        if self._consumer is None:
            return
        self._poll(timeout_ms=0, own=False)
        if self._consumer.take_lost():
            self.close()
            self.load(stopping, from_marks=False)

    def mark(self, partition: int) -> str:
        """What to append to the metadata of the group's offset in a partition."""
        if self._consumer is None:
            return ""
        position = self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=100)
        if position is None:
            return ""
        return SpentMark(name_of(self._specs), int(position), self._read[partition]).text()

    def _marks(
        self, partitions: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, SpentMark]:
        """Those of the same specs that fit the log, if they can be had soon."""
        found, deadline = {}, time.monotonic() + _MARKS_SECONDS
        with clients.consumer(self._settings, group_id=self._group) as reader:
            for tp in partitions:
                mark = self._mark_of(reader, tp.partition, deadline)
                if mark is not None and mark.specs == name_of(self._specs) and mark.offset <= ends[tp]:
                    found[tp] = mark
        return found

    def _mark_of(self, reader: KafkaConsumer, partition: int, deadline: float) -> SpentMark | None:
        of_captions = TopicPartition(self._topics.captions, partition)
        while time.monotonic() < deadline:
            try:
                at = reader.committed(of_captions, metadata=True, timeout_ms=_MARK_MS)
            except KafkaError as error:  # a transaction with offsets is open, say
                if not error.retriable:
                    raise
            else:
                return None if at is None else SpentMark.parse(at.metadata or "")
        return None

    def committed(self, batch: Batch) -> None:
        """This annotator has committed a batch."""
        for answer in batch.answers:
            for attempt in answer.attempts:
                self._spend(attempt)

    def probed(self, attempt: Attempt) -> None:
        """A question of our own was answered at the start; it stands on no log."""
        self._probes.add(Cost.of(attempt))
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
        self._spent.add(Cost.of(attempt))

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            with contextlib.suppress(KafkaError):  # the broker may be away
                self._consumer.close(timeout_ms=1_000)

    def _poll(self, timeout_ms: int, own: bool) -> None:
        assert self._consumer is not None
        found, all_of_partition = Spending(), dict[int, Spending]()
        for tp, records in self._consumer.poll(timeout_ms=timeout_ms).items():
            read = all_of_partition.setdefault(tp.partition, Spending())
            for record in records:
                if (record.key or b"")[:SPEC_ID_BYTES] not in self._specs:
                    continue
                annotation = decoded_quietly(self._codec, Annotation, record.value)
                if annotation is None:
                    continue
                read.count([annotation])
                if own or annotation.annotator != self._name:
                    found.count([annotation])
        for partition, read in all_of_partition.items():
            total = replace(self._read[partition])
            total.add(read.total(self._specs))
            self._read[partition] = total
        self._spent.add(found.total(self._specs))
