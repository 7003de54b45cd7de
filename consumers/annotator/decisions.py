"""The annotator without Kafka, clock or model: captions in, questions out; answers in, batches out.

A batch is everything that one transaction writes: labels, annotations, dead letters, and the offset to
commit for each partition. Partitions come and go (:meth:`Annotator.begin`, :meth:`Annotator.end`); an
answer for a partition that has gone is kept for when its caption comes back, for it has been paid for. And
who comes back while the question is still under way waits for that answer, and does not ask again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.asking_again import AskingAgain, Tally, decided
from onibus.consumers.annotator.batch import Batch, BatchRecords, Subject, Unreadable, lookups_of
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.caption_records import read_caption
from onibus.consumers.annotator.comparing import Comparing
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.pending import OwedRange, Pending, PendingCaption
from onibus.consumers.annotator.under_way import Key, UnderWay, key_of
from onibus.consumers.annotator.work import Work
from onibus.consumers.labels.table import NO_LABEL, LabelTable
from onibus.consumers.language_models.base import Answer, Question
from onibus.infra.kafka.same_log_check import Mark
from onibus.schemas import ids
from onibus.schemas.codec import DecodeError
from onibus.schemas.records import Kind

SPARE_ANSWERS = 10_000
"""Answers kept of partitions that have gone; more push out the oldest."""
COMPARISONS = 4
"""Comparisons that a caption leads to under each spec that compares two."""
_BLANK = bytes(ids.CAPTION_ID_BYTES)


class Annotator:
    """Decides what is asked, and what is written about the answers.

    Args:
        records: makes records of answers, and knows the specs: every caption gets a label under each that
            judges one, and leads to comparisons under each that compares two.
        pending: the stack to use.
        partners: captions to compare with; needed for specs that compare two.
        comparisons: that each caption leads to.
        caption_filter: which captions each spec is asked about; all, if not given.
        again: decides what is asked again; nothing is, if not given.

    Attributes:
        records: as given.
        comparing: ids of the specs that compare two.
        pairs: decides what is compared.
        asked: the questions under way.
    """

    def __init__(
        self,
        records: BatchRecords,
        pending: Pending | None = None,
        partners: ComparisonPartners | None = None,
        comparisons: int = COMPARISONS,
        caption_filter: CaptionFilter | None = None,
        again: AskingAgain | None = None,
    ) -> None:
        self.records, self.again = records, again
        self.pending = Pending() if pending is None else pending
        self._caption_filter = caption_filter or CaptionFilter(records.specs)
        self._judging = [i for i, spec in records.specs.items() if spec.kind is Kind.JUDGE_ONE]
        self.comparing = [i for i, spec in records.specs.items() if spec.kind is Kind.COMPARE_TWO]
        self.pairs = Comparing(ComparisonPartners() if partners is None else partners, comparisons)
        self._codec, self._topics = records.codec, records.topics
        self._tables: dict[int, LabelTable] = {}
        self._assignments: dict[int, int] = {}
        self._assignment = 0
        self._committed: dict[int, int] = {}
        self._marks: dict[int, Mark] = {}
        self._finished: list[Work] = []
        self._writing: list[Work] = []
        self._unreadable: list[Unreadable] = []
        self.asked = UnderWay(self._is_current)
        self._spare: OrderedDict[Key, Answer] = OrderedDict()

    def begin(self, partition: int, position: int, end: int, labels: LabelTable) -> int:
        """Own a partition from ``position`` on; returns the offset to read from.

        Args:
            end: everything below it is on the log by now.
            labels: holds every label that was written for this partition, and where specs compare two, the
                number of comparisons.
        """
        self._assignment += 1
        self._assignments[partition] = self._assignment
        self._tables[partition] = labels
        self._committed[partition] = position
        if self.again is not None:
            self.again.begin(partition)
        return self.pending.assign(partition, position, end)

    def end(self, partition: int) -> None:
        """Own a partition no longer: nothing of it is written any more."""
        for work in [*self._finished, *self.asked.half_answered]:
            if work.caption.partition == partition:
                self._keep([answer for _, answer in work.answers])
        del self._assignments[partition], self._tables[partition], self._committed[partition]
        self._marks.pop(partition, None)
        self.asked.forget_taken_back()
        self.pending.revoke(partition)
        if self.again is not None:
            self.again.end(partition)
        self._finished = [work for work in self._finished if work.caption.partition != partition]
        self._writing = [work for work in self._writing if work.caption.partition != partition]
        self._unreadable = [record for record in self._unreadable if record.partition != partition]

    @property
    def partitions(self) -> list[int]:
        """The partitions owned, ascending."""
        return sorted(self._assignments)

    @property
    def under_way(self) -> int:
        """Captions that are asked about and not answered in full yet."""
        return self.taken - self.finished - len(self._writing)

    @property
    def taken(self) -> int:
        """Captions that are asked about and not on the log yet."""
        return self.pending.taken + (0 if self.again is None else self.again.taken)

    @property
    def finished(self) -> int:
        """Captions that are answered in full and in no batch yet."""
        return len(self._finished)

    @property
    def has_finished(self) -> bool:
        """Whether there are labels or dead letters to write."""
        return bool(self._finished or self._unreadable)

    def see(
        self,
        partition: int,
        offsets: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        read_back: OwedRange | None = None,
    ) -> int:
        """Take over caption records of one partition, in the order of the log.

        Args:
            read_back: the owed range that they are from, if they are not new.

        Returns:
            How many needed nothing: labelled already, or on the way.
        """
        known = 0
        wanting = np.flatnonzero(self._wanting(partition, keys))
        for i in wanting:
            known += not self._consider(partition, offsets[i], keys[i], values[i], read_back)
        if read_back is None and offsets:
            self.pending.advance(partition, offsets[-1] + 1)
            self._marks[partition] = Mark.of(offsets[-1], keys[-1])
            if self.again is not None:
                self.again.came_again(partition, np.delete(np.array(keys, object), wanting))
        return len(keys) - len(wanting) + known

    def give_up(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None, reason: str
    ) -> None:
        """Make a dead letter of an unreadable record of a partition that is owned."""
        self._unreadable.append(Unreadable(topic, partition, offset, key, value, reason))

    def questions(self, most: int) -> list[Question]:
        """Questions about up to ``most`` further captions, newest first; then about what is asked again."""
        questions: list[Question] = []
        captions = self.pending.take(most)
        for caption, missing in zip(captions, self._missing(captions), strict=True):
            if not missing:  # a person was faster; or there is nothing to compare it with
                self.pending.settle([caption])
                continue
            assignment = self._assignments[caption.partition]
            work = Work(caption, assignment, {subject.key: subject for subject in missing})
            asked = [self._question(work, subject) for subject in list(work.missing.values())]
            questions += [question for question in asked if question is not None]
        if self.again is not None and not len(self.pending):
            questions += self._asked_again(self.again.choose(most - len(captions)))
        return questions

    def answered(self, answer: Answer) -> None:
        """Take over an answer to one of :meth:`questions`."""
        key = key_of(answer)
        waiting = self.asked.pop(key)
        owed = [work for work in waiting if work.again is None]  # withdrawn while it was asked again, say
        for work in waiting if owed else ():
            self._drop_again(work)
        for work in owed or waiting:
            self._accept(work, key, answer)
        if not waiting:
            self._keep([answer])

    def finish_half_answered(self, partitions: Collection[int]) -> None:
        """Have the answers written that captions of partitions that are given up have, and that lack others.

        They stay owed.
        """
        self._finished += [w for w in self.asked.half_answered if w.caption.partition in partitions]

    def batch(self, most: int, now: int) -> Batch | None:
        """What to write next, with labels of up to ``most`` captions; None if nothing has changed.

        Call :meth:`committed` or :meth:`failed` with it before the next one. All else may go on meanwhile.

        Args:
            now: time in microseconds since the epoch.

        Raises:
            RegistryError: records cannot be encoded now; nothing has changed.
        """
        batch = Batch()
        works = self._finished[:most]
        batch.captions = [work.caption for work in works if work.again is None and not work.missing]
        touched = set()
        for work in works:
            self._write_work(batch, work, now)
            touched.add(work.caption.partition)
        for record in self._unreadable:
            self.records.unreadable(batch, record, now)
            touched.add(record.partition)
        # Only now: a schema registry that is away has let nothing be encoded, and the answers are paid for.
        self._writing, self._finished, self._unreadable = works, self._finished[most:], []
        # A partition that is written to always has its offset in the transaction, changed or not: that is
        # what makes the broker check that it is still ours, and the next owner wait for this transaction.
        batch.offsets = {
            partition: offset
            for partition, offset in self.pending.low_water(batch.captions).items()
            if partition in touched or offset != self._committed[partition]
        }
        batch.assignments = {partition: self._assignments[partition] for partition in batch.offsets}
        batch.marks = {p: mark.text() for p, mark in self._marks.items() if p in batch.offsets}
        return batch if batch.offsets else None

    def committed(self, batch: Batch) -> None:
        """The batch is on the log."""
        for work in self._writing:
            self._drop_again(work)
        self._writing = []
        for partition, offset in batch.offsets.items():
            if self._assignments.get(partition) != batch.assignments[partition]:
                continue  # it went to somebody else while this was written
            self._committed[partition] = offset
            self.pending.settle(c for c in batch.captions if c.partition == partition)
            labels = [r for r in batch.records if r.topic == self._topics.labels and r.partition == partition]
            self._tables[partition].apply([r.key for r in labels], [r.value for r in labels])

    def failed(self, batch: Batch) -> None:
        """Nothing of the batch was written, or no one knows: end every partition, and begin it again."""
        self._writing = []
        self._keep(batch.answers)

    def _wanting(self, partition: int, keys: Sequence[bytes | None]) -> NDArray[np.bool_]:
        """Which records are of captions that lack labels, or are not readable: bool (n,).

        What a caption is compared with is found out only when its turn comes: it takes far longer.
        """
        well_formed = [key is not None and len(key) == ids.CAPTION_ID_BYTES for key in keys]
        wanting = ~np.array(well_formed, np.bool_)
        subjects = lookups_of([key if good else _BLANK for key, good in zip(keys, well_formed, strict=True)])
        for spec_id in self._judging:
            wanting |= self._tables[partition].verdicts(spec_id, subjects) == NO_LABEL
        for spec_id in self.comparing:
            wanting |= self.pairs.owed(self._tables[partition], spec_id, subjects) > 0
        return wanting

    def _missing(self, captions: Sequence[PendingCaption]) -> list[list[Subject]]:
        """What of each caption has no label."""
        missing: list[list[Subject]] = [[] for _ in captions]
        for partition in {caption.partition for caption in captions}:
            mine = [i for i, caption in enumerate(captions) if caption.partition == partition]
            subjects = lookups_of([captions[i].caption_id for i in mine])
            for spec_id in self._judging:
                lacking = self._tables[partition].verdicts(spec_id, subjects) == NO_LABEL
                for place in np.flatnonzero(lacking):
                    if spec_id in captions[mine[place]].specs:
                        missing[mine[place]].append(Subject.single(spec_id, captions[mine[place]]))
            for spec_id in self.comparing:
                table = self._tables[partition]
                owed = self.pairs.owed(table, spec_id, subjects)
                for caption, place in ((captions[mine[n]], n) for n in np.flatnonzero(owed > 0)):
                    if spec_id in caption.specs:
                        missing[mine[place]] += self.pairs.missing(table, spec_id, caption, int(owed[place]))
        return missing

    def _consider(
        self,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        read_back: OwedRange | None,
    ) -> bool:
        """Whether this record changed anything."""
        if key is not None and self.pending.touch(partition, key):
            return False
        try:
            caption = read_caption(self._codec, key, value)
        except DecodeError as error:
            if read_back is not None and self.pending.was_read(partition, offset):
                return False  # a dead letter since then
            self.give_up(self._topics.captions, partition, offset, key, value, str(error))
            return True
        assert key is not None
        assert value is not None
        specs = self._caption_filter.specs(caption)
        if not specs:
            return False
        pending = PendingCaption(partition, offset, key, caption.text, caption.observed_at, value, specs)
        if read_back is None:
            self.pending.offer(pending)
        else:
            self.pending.offer_old(pending)
        return True

    def _asked_again(self, tallies: Sequence[Tally]) -> list[Question]:
        questions = []
        for t in tallies:
            work = Work(t.caption, self._assignments[t.partition], {t.subject.key: t.subject}, again=t)
            questions.append(self._question(work, t.subject, len(t.said)))
        return [question for question in questions if question is not None]

    def _drop_again(self, work: Work) -> None:
        if work.again is not None and self.again is not None:
            self.again.settle(work.again)

    def _question(self, work: Work, subject: Subject, earlier: int = 0) -> Question | None:
        """What to ask for this; None if it has been answered, or is under way, since an earlier ownership."""
        key = subject.key
        spare = self._spare.pop(key, None)
        if spare is not None and work.again is None:  # it may be on the log, and is no further answer
            self._accept(work, key, spare)
            return None
        if not self.asked.add(key, work):
            return None
        return Question(subject.spec_id, subject.texts[0], key, *subject.texts[1:], earlier=earlier)

    def _is_current(self, work: Work) -> bool:
        return self._assignments.get(work.caption.partition) == work.assignment

    def _accept(self, work: Work, key: Key, answer: Answer) -> None:
        work.answers.append((work.missing.pop(key), answer))
        if not work.missing:
            self._finished.append(work)

    def _keep(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if not answer.question.earlier:
                self._spare[key_of(answer)] = answer
        while len(self._spare) > SPARE_ANSWERS:
            self._spare.popitem(last=False)

    def _write_work(self, batch: Batch, work: Work, now: int) -> None:
        caption = work.caption
        for subject, answer in work.answers:
            # A person may have answered while the question was under way: that label stays.
            if (tally := work.again) is not None and self.again is not None:
                self.again.written(tally, len(answer.attempts) or 1)
                answer, is_open = decided(answer, tally.said), not tally.by_person
            else:
                answer = decided(answer)
                is_open = not self._tables[caption.partition].contains(*subject.key)
            again = tally is not None
            self.records.judged(batch, caption, subject, answer, now, with_label=is_open, again=again)
        batch.answers.extend(answer for _, answer in work.answers)
