"""The backlog of a group: what stood on the log before it began, or before where it is, and what that costs.

``--backlog`` names a part of the log: all of it, the newest so many captions, or what was seen since a time.
Of these, the ones that lack a label are asked about. So the same command, given again after it was
interrupted, asks about the rest and nothing else. What a group owes anyhow, since it stands after its
offsets, is part of what is announced.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.batch import lookups_of
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.cost import Cost, Prices
from onibus.consumers.labels.table import NO_LABEL
from onibus.consumers.language_models.ask_until_readable import answer_tokens, estimated_tokens, tries_of
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
        if text.isascii() and text.isdecimal():
            return cls(text, captions=int(text))
        also = "; or all, or a number of captions, such as 500"
        since = parse_time(text, "--backlog", else_accepted=also)
        return cls(text, since=max(0, round(since.timestamp() * 1000)))


class Owed(NamedTuple):
    """What asking about a backlog takes.

    Attributes:
        captions: distinct ones without a label.
        questions: a caption leads to one under each spec, or to several comparisons.
        cost: prompt tokens about, answer tokens at most.
        anyhow: captions among them that the group is asked about without a backlog, too.
        tries: how often a question is asked at most, until its answer can be read.
    """

    captions: int
    questions: int
    cost: Cost
    anyhow: int = 0
    tries: int = 1

    def line(self, backlog: Backlog, prices: Prices) -> str:
        """It as a sentence without its end."""
        anyhow = f", {self.anyhow:,} of them owed anyhow" if self.anyhow else ""
        more = f" (up to {self.tries} times that where answers cannot be read)" if self.tries > 1 else ""
        tokens = f"about {self.cost.tokens_in:,} tokens in and at most {self.cost.tokens_out:,} out"
        is_priced = prices.are_given or self.cost.usd
        money = f", at most {dollars(prices.usd(self.cost))}" if is_priced else ", at no price given"
        asked = f"{self.captions:,} captions{anyhow}: {self.questions:,} questions"
        return f"the backlog ({backlog.text}) is {asked}, {tokens}{money}{more}"


class _Found(NamedTuple):
    """The newest record of a caption.

    Attributes:
        is_wanted: whether it stands in the part of the log that was named.
        questions: how many it still leads to, by spec id.
    """

    partition: TopicPartition
    offset: int
    timestamp: int
    caption_id: bytes
    size: int
    specs: frozenset[bytes]
    is_wanted: bool = False
    questions: Mapping[bytes, int] = MappingProxyType({})


class BacklogReader:
    """Finds the captions that a group is to be asked about and that lack labels.

    Args:
        specs: what its annotators ask, by spec id.
        caption_filter: which captions they ask about.
        comparisons: that a caption leads to under each spec that compares two.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Mapping[bytes, AnnotationSpec],
        caption_filter: CaptionFilter,
        comparisons: int,
    ) -> None:
        self._settings, self._specs = settings, dict(specs)
        self._caption_filter, self._comparisons = caption_filter, comparisons
        self._topics, self._codec = TopicNames(settings.topic_prefix), codec_for(settings)

    def read(
        self, backlog: Backlog, begins: Mapping[TopicPartition, int]
    ) -> tuple[dict[TopicPartition, int], Owed]:
        """Offsets to set the group back to, and what it is asked about from there on.

        Args:
            begins: where the group begins without a backlog.

        Raises:
            KafkaError: the cluster does not answer.
        """
        with clients.consumer(self._settings, max_poll_records=_RECORDS_PER_POLL) as reader:
            for since in _reaches(backlog):
                found, is_all = self._newest(reader, since, begins)
                wanted = [one for one in found if one.is_wanted]
                if is_all or (backlog.captions is not None and len(wanted) >= backlog.captions):
                    break
        chosen = {one.caption_id for one in _newest_first(wanted)[: backlog.captions]}
        lacking = self._lacking(found)
        back: dict[TopicPartition, int] = {}
        for one in lacking:
            if one.caption_id in chosen and one.offset < begins.get(one.partition, 0):
                back[one.partition] = min(one.offset, back.get(one.partition, one.offset))
        starts = {**begins, **back}
        asked = [one for one in lacking if one.offset >= starts.get(one.partition, one.offset + 1)]
        anyhow = sum(one.offset >= begins[one.partition] for one in asked)
        return back, self._owed(asked)._replace(anyhow=anyhow)

    def _newest(
        self, reader: KafkaConsumer, since: int, begins: Mapping[TopicPartition, int]
    ) -> tuple[Collection[_Found], bool]:
        """The newest record of each caption seen since then or owed, and whether nothing lies before."""
        partitions = clients.partitions_of(reader, self._topics.captions)
        ends, firsts = reader.end_offsets(partitions), reader.beginning_offsets(partitions)
        found = reader.offsets_for_times(dict.fromkeys(partitions, since))
        wanted = {tp: int(found[tp].offset) if found.get(tp) else int(ends[tp]) for tp in partitions}
        start = {tp: max(int(firsts[tp]), min(begins.get(tp, at), at)) for tp, at in wanted.items()}
        newest: dict[bytes, _Found] = {}
        for _ in until_end(reader, partitions, start=start):
            for tp, batch in reader.poll(timeout_ms=500).items():
                self._take(batch, newest, wanted[tp])
        return newest.values(), all(wanted[tp] <= firsts[tp] for tp in partitions)

    def _take(self, records: Sequence[ConsumerRecord], newest: dict[bytes, _Found], wanted_from: int) -> None:
        for record in records:
            if record.key is None:
                continue
            caption = decoded_quietly(self._codec, CaptionObserved, record.value)
            if caption is None:
                continue
            specs = self._caption_filter.specs(caption)
            if specs and record.key == caption_id(caption.text):
                place = TopicPartition(record.topic, record.partition), record.offset, record.timestamp
                is_wanted = record.offset >= wanted_from
                newest[record.key] = _Found(*place, record.key, len(caption.text), specs, is_wanted)

    def _lacking(self, captions: Collection[_Found]) -> list[_Found]:
        """Those that lack a label, or comparisons that they are to lead to, with how many questions."""
        if not captions:
            return []
        captions, labels = list(captions), self._labels()
        subjects = lookups_of([one.caption_id for one in captions])
        questions: list[dict[bytes, int]] = [{} for _ in captions]
        for spec_id, spec in self._specs.items():
            if spec.kind is Kind.COMPARE_TWO:
                open_ = self._comparisons - labels.comparisons(spec_id, subjects).astype(np.int64)
            else:
                open_ = (labels.verdicts(spec_id, subjects) == NO_LABEL).astype(np.int64)
            for place in np.flatnonzero(open_ > 0):
                if spec_id in captions[place].specs:
                    questions[place][spec_id] = int(open_[place])
        return [one._replace(questions=own) for one, own in zip(captions, questions, strict=True) if own]

    def _labels(self) -> ComparisonLabels:
        comparing = [i for i, spec in self._specs.items() if spec.kind is Kind.COMPARE_TWO]
        table = ComparisonLabels(self._codec, comparing)
        for records in clients.read_all(self._settings, self._topics.labels):
            table.apply_records(records)
        return table

    def _owed(self, captions: list[_Found]) -> Owed:
        cost, questions, tries = Cost(), 0, 1
        for spec_id, spec in self._specs.items():
            asked = [(one.questions[spec_id], one.size) for one in captions if spec_id in one.questions]
            answer_format = AnswerFormat.model_validate_json(spec.parser)
            count = answer_format.samples * sum(number for number, _ in asked)
            size = answer_format.samples * sum(number * size for number, size in asked)
            tokens_in = count * estimated_tokens(Prompt(spec).example()) + size // 4
            cost.add(Cost(tokens_in=tokens_in, tokens_out=count * answer_tokens(spec)))
            tries, questions = max(tries, tries_of(answer_format)), questions + count
        return Owed(len(captions), questions, cost, tries=tries)


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
