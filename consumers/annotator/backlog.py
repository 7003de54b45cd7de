"""Where a group begins: at what is seen from now on, or further back, once it is known what that costs.

A caption that is still met is published again within a minute, so a new group misses nothing that matters
when it begins at the end of the log. What stood there before is its backlog; it is fetched only when asked
for. A group that has offsets goes on from them, whatever is asked, unless captions of the backlog before them
lack a label. Found out here, committed by :mod:`.group_offsets`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.batch import lookups_of
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.annotator.group_offsets import GroupOffsets, committed
from onibus.consumers.labels.reader import read_labels
from onibus.consumers.labels.table import NO_LABEL
from onibus.consumers.language_models.ask_until_readable import estimated_tokens
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.prompts import Prompt
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.money import dollars
from onibus.infra.settings import Settings
from onibus.infra.times import parse_time
from onibus.schemas.ids import caption_id
from onibus.schemas.records import AnnotationSpec, CaptionObserved, Kind

_log = logging.getLogger(__name__)

_MOST_TOKENS_OUT = 1_024
_ALL = "all"
_RECORDS_PER_POLL = 5_000
_FIRST_MINUTES, _FURTHER = 1.0, 4
"""How far back the newest captions are looked for first, and how many times as far if these are too few: a
week is reached in eight steps."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much of the log a group is to be asked about besides what comes from now on.

    Attributes:
        text: as it was given.
        since: milliseconds since the epoch on the broker's clock; what stands before the first record of
            that time, or a later one, is left out.
        captions: the newest so many at most.
    """

    text: str
    since: int = 0
    captions: int | None = None

    @classmethod
    def parse(cls, text: str) -> Backlog:
        """``all``, a number of captions, or a time.

        Raises:
            OnibusError: it is neither.
        """
        if text == _ALL:
            return cls(text)
        if text.isdecimal():
            return cls(text, captions=int(text))
        also = "; or all, or a number of captions, such as 500"
        since = parse_time(text, "--backlog", else_accepted=also)
        return cls(text, since=round(since.timestamp() * 1000))


class Owed(NamedTuple):
    """What asking about a backlog takes.

    Attributes:
        captions: distinct ones without a label.
        questions: a caption leads to one under each spec, or to several comparisons.
        cost: prompt tokens about, answer tokens at most.
    """

    captions: int
    questions: int
    cost: Cost

    def line(self, backlog: Backlog, prices: Prices) -> str:
        """It as a sentence without its end."""
        tokens = f"about {self.cost.tokens_in:,} tokens in and at most {self.cost.tokens_out:,} out"
        is_priced = prices.are_given or self.cost.usd
        money = f", at most {dollars(prices.usd(self.cost))}" if is_priced else ", at no price given"
        asked = f"{self.captions:,} captions: {self.questions:,} questions"
        return f"the backlog ({backlog.text}) is {asked}, {tokens}{money}"


class _Found(NamedTuple):
    """The newest record of a caption that lacks labels."""

    partition: TopicPartition
    offset: int
    timestamp: int
    caption_id: bytes
    size: int
    specs: frozenset[bytes]


class GroupStart:
    """Finds out where a group begins that no one has joined yet.

    Args:
        group: consumer group, full name.
        specs: what its annotators ask, by spec id.
        caption_filter: which captions they ask about.
        comparisons: that a caption leads to under each spec that compares two.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        specs: Mapping[bytes, AnnotationSpec],
        caption_filter: CaptionFilter,
        comparisons: int,
    ) -> None:
        self._settings, self._group, self._specs = settings, group, dict(specs)
        self._caption_filter, self._comparisons = caption_filter, comparisons
        self._topics, self._codec = TopicNames(settings.topic_prefix), codec_for(settings)

    def offsets(self, backlog: Backlog | None, approve: Callable[[Owed], None]) -> GroupOffsets:
        """Those of partitions that have none, and of those whose backlog is asked for.

        Args:
            approve: called with what the backlog takes, if that is anything; raises if it is too much.

        Raises:
            OnibusError: ``approve`` did.
            KafkaError: the cluster does not answer.
        """
        reader = clients.consumer(self._settings, group_id=self._group)
        try:
            partitions = clients.partitions_of(reader, self._topics.captions)[: self._settings.partitions]
            reader.assign(partitions)
            found = {tp: committed(reader, tp) for tp in partitions}
            at = {tp: None if one is None else int(one.offset) for tp, one in found.items()}
            ends = self._from_now_on(reader, at, is_all=backlog is None)
        finally:
            reader.close()
        unjudged = [] if backlog is None else self._unjudged(backlog, {**at, **ends}, set(ends))
        if unjudged:
            approve(self._owed(unjudged))
        firsts: dict[TopicPartition, int] = {}
        for one in unjudged:
            firsts[one.partition] = min(one.offset, firsts.get(one.partition, one.offset))
        return GroupOffsets(self._group, ends, firsts)

    def _from_now_on(
        self, reader: KafkaConsumer, at: Mapping[TopicPartition, int | None], is_all: bool
    ) -> dict[TopicPartition, int]:
        """The ends of the partitions in which the group has no offset yet; logged if that ``is_all``."""
        new = [tp for tp, offset in at.items() if offset is None]
        if not new:
            return {}
        firsts, ends = reader.beginning_offsets(new), reader.end_offsets(new)
        there = sum(ends[tp] - firsts[tp] for tp in new)
        if there and is_all:
            _log.info(
                "group %s is new: it begins at what is seen from now on; %d caption records are on the log "
                "already, --backlog asks about these, too",
                self._group,
                there,
            )
        return {tp: int(ends[tp]) for tp in new}

    def _unjudged(
        self, backlog: Backlog, at: Mapping[TopicPartition, int | None], new: Container[TopicPartition]
    ) -> list[_Found]:
        """Captions of the backlog that lack a label and whose newest record lies before the group's offset.

        Args:
            new: partitions that no one of the group has read yet.
        """
        reader = clients.consumer(self._settings, max_poll_records=_RECORDS_PER_POLL)
        lacking: list[_Found] = []
        try:
            for since in _reaches(backlog):
                newest, is_all = self._newest(reader, since)
                before = [one for one in newest if one.offset < (at.get(one.partition) or 0)]
                lacking = self._lacking(before, new)
                if is_all or (backlog.captions is not None and len(lacking) >= backlog.captions):
                    break
        finally:
            reader.close()
        return _newest_first(lacking)[: backlog.captions]

    def _newest(self, reader: KafkaConsumer, since: int) -> tuple[Collection[_Found], bool]:
        """The newest record of each caption seen since then, and whether nothing lies before."""
        partitions = clients.partitions_of(reader, self._topics.captions)
        ends, firsts = reader.end_offsets(partitions), reader.beginning_offsets(partitions)
        found = reader.offsets_for_times(dict.fromkeys(partitions, since))
        start = {tp: int(found[tp].offset) if found.get(tp) else int(ends[tp]) for tp in partitions}
        newest: dict[bytes, _Found] = {}
        for _ in until_end(reader, partitions, start=start):
            for batch in reader.poll(timeout_ms=500).values():
                self._take(batch, newest)
        return newest.values(), all(start[tp] <= firsts[tp] for tp in partitions)

    def _take(self, records: Sequence[ConsumerRecord], newest: dict[bytes, _Found]) -> None:
        for record in records:
            if record.key is None:
                continue
            caption = decoded_quietly(self._codec, CaptionObserved, record.value)
            if caption is None:
                continue
            specs = self._caption_filter.specs(caption)
            if specs and record.key == caption_id(caption.text):
                place = TopicPartition(record.topic, record.partition), record.offset, record.timestamp
                newest[record.key] = _Found(*place, record.key, len(caption.text), specs)

    def _lacking(self, captions: list[_Found], new: Container[TopicPartition]) -> list[_Found]:
        """Those without a label under a spec that judges one; each that was never read, if two are compared.

        Which comparisons a caption leads to is found out only when its turn comes.
        """
        if not captions:
            return []
        labels = read_labels(self._settings)
        subjects = lookups_of([one.caption_id for one in captions])
        found: dict[bytes, _Found] = {}
        for spec_id, spec in self._specs.items():
            if spec.kind is Kind.COMPARE_TWO:
                is_open = np.array([one.partition in new for one in captions])
            else:
                is_open = labels.verdicts(spec_id, subjects) == NO_LABEL
            for place in np.flatnonzero(is_open):
                one = captions[place]
                if spec_id in one.specs:
                    specs = found[one.caption_id].specs if one.caption_id in found else frozenset[bytes]()
                    found[one.caption_id] = one._replace(specs=specs | {spec_id})
        return list(found.values())

    def _owed(self, captions: list[_Found]) -> Owed:
        cost, questions = Cost(), 0
        for spec_id, spec in self._specs.items():
            sizes = [one.size for one in captions if spec_id in one.specs]
            each = self._comparisons if spec.kind is Kind.COMPARE_TWO else 1
            around = estimated_tokens(Prompt(spec).example())
            each *= AnswerFormat.model_validate_json(spec.parser).samples
            asked = len(sizes) * each
            tokens_out = int(spec.sampling.get("max_tokens", _MOST_TOKENS_OUT))
            cost.add(Cost(tokens_in=asked * around + each * sum(sizes) // 4, tokens_out=asked * tokens_out))
            questions += asked
        return Owed(len(captions), questions, cost)


def _newest_first(captions: Sequence[_Found]) -> list[_Found]:
    """In an order in which the first so many are, in each partition, those from some offset on.

    A group can only be set back to an offset: all captions after it are asked about. The records of several
    producers are not quite in the order of their times, so a record counts as no older than those before it.
    """
    latest: dict[TopicPartition, int] = {}
    ordered: list[tuple[int, int, _Found]] = []
    for one in sorted(captions, key=lambda one: one.offset):
        latest[one.partition] = max(one.timestamp, latest.get(one.partition, 0))
        ordered.append((latest[one.partition], one.offset, one))
    ordered.sort(key=lambda found: found[:2], reverse=True)
    return [one for _, _, one in ordered]


def _reaches(backlog: Backlog) -> Iterator[int]:
    """Since when to read, milliseconds since the epoch: for a number of captions further and further back."""
    if backlog.captions is None:
        yield backlog.since
        return
    now, minutes = time.time(), _FIRST_MINUTES
    while True:
        yield max(0, round(1000 * (now - 60 * minutes)))
        minutes *= _FURTHER
