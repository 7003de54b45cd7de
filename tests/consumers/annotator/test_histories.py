"""Any history of an annotator and of others in its group: every caption is labelled once, or still owed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from onibus.consumers.annotator.batch import Batch, BatchRecords
from onibus.consumers.annotator.decisions import Annotator
from onibus.consumers.annotator.pending import Pending
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.language_models.base import Answer, Attempt, Question
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.kafka.topics import TopicNames
from onibus.schemas import codec, ids
from onibus.schemas.codec import SingleObjectCodec
from onibus.schemas.records import CaptionObserved, Label, Origin, Verdict

NAMES = TopicNames("t.")
GOALS = load_spec("goals")
SPEC = ids.spec_id(GOALS)
PARTITIONS = (0, 1)
LABEL = codec.encode(Label(Verdict.HELPFUL, 0, 0, 1, 1, "another"))


@dataclass
class Log:
    """One partition as the brokers have it: captions, the group's committed offset, labels."""

    captions: list[str] = field(default_factory=list)
    committed: int = 0
    labels: list[tuple[bytes, bytes]] = field(default_factory=list)

    def has_label(self, text: str) -> bool:
        return any(key == key_of(text) for key, _ in self.labels)


def key_of(text: str) -> bytes:
    return ids.label_key(SPEC, ids.caption_id(text))


class AnyHistory(RuleBasedStateMachine):
    """One annotator, others that take over, and transactions that end in every way while work goes on."""

    @initialize(capacity=st.integers(1, 5), ranges=st.integers(1, 3), newest=st.integers(1, 4))
    def start(self, capacity: int, ranges: int, newest: int) -> None:
        self.bounds = {"capacity": capacity, "ranges": ranges, "newest": newest}
        self.logs = {partition: Log() for partition in PARTITIONS}
        self.restart()
        for partition in PARTITIONS:
            self.gain(partition)

    def restart(self) -> None:
        pending = Pending(**self.bounds)
        records = BatchRecords({SPEC: GOALS}, Origin.LLM, "a1", SingleObjectCodec(), NAMES)
        self.who = Annotator(records, pending)
        self.position: dict[int, int] = {}
        self.questions: list[Question] = []
        self.asked = Counter[str]()
        self.writing: Batch | None = None

    @rule(partition=st.sampled_from(PARTITIONS), names=st.lists(st.integers(0, 12), min_size=1, max_size=6))
    def publish(self, partition: int, names: list[int]) -> None:
        self.logs[partition].captions += [f"caption {partition}.{name}" for name in names]

    @rule(partition=st.sampled_from(PARTITIONS), most=st.integers(1, 8))
    def read(self, partition: int, most: int) -> None:
        if partition in self.position:
            start = self.position[partition]
            self._see(partition, start, min(len(self.logs[partition].captions), start + most))
            self.position[partition] = min(len(self.logs[partition].captions), start + most)

    @rule(most=st.integers(1, 5))
    def read_back(self, most: int) -> None:
        if len(self.who.pending) or (owed := self.who.pending.next_range(most)) is None:
            return
        self._see(owed.partition, owed.start, owed.end, owed)
        self.who.pending.was_read_back(owed)

    @rule(most=st.integers(1, 5))
    def ask(self, most: int) -> None:
        questions = self.who.questions(most)
        self.questions += questions
        self.asked.update(question.text for question in questions)
        assert max(self.asked.values(), default=1) == 1, "paid for twice by one annotator"

    @rule(place=st.integers(0, 100))
    def answer(self, place: int) -> None:
        if self.questions:
            question = self.questions.pop(place % len(self.questions))
            attempt = Attempt(Verdict.HELPFUL, "raw", "", bytes(16), 1, 1, 1, 1)
            self.who.answered(Answer(question, Verdict.HELPFUL, (attempt,)))

    @rule(most=st.integers(1, 5))
    def begin_to_write(self, most: int) -> None:
        if self.writing is None:
            self.writing = self.who.batch(most, 1)

    @rule(is_on_the_log=st.booleans(), is_known=st.booleans())
    def end_writing(self, is_on_the_log: bool, is_known: bool) -> None:
        if self.writing is None:
            return
        batch, self.writing = self.writing, None
        if is_on_the_log:
            self._commit(batch)
        if is_on_the_log and is_known:
            self.who.committed(batch)
            return
        self.who.failed(batch)
        for partition in list(self.position):
            self.lose(partition)
            self.gain(partition)

    @rule(partition=st.sampled_from(PARTITIONS))
    def lose(self, partition: int) -> None:
        if self.position.pop(partition, None) is not None:
            self.who.end(partition)

    @rule(partition=st.sampled_from(PARTITIONS))
    def gain(self, partition: int) -> None:
        """Not before the transaction with this partition's offset has ended: the broker makes owners wait."""
        is_pending = self.writing is not None and partition in self.writing.offsets
        if partition in self.position or is_pending:
            return
        log, table = self.logs[partition], LabelTable()
        table.apply([key for key, _ in log.labels], [value for _, value in log.labels])
        end = len(log.captions)
        self.position[partition] = self.who.begin(partition, log.committed, end, table)

    @rule(partition=st.sampled_from(PARTITIONS))
    def go_and_come_back(self, partition: int) -> None:
        self.lose(partition)
        self.gain(partition)
        self.read(partition, 8)

    @rule(partition=st.sampled_from(PARTITIONS), most=st.integers(1, 4))
    def another_works(self, partition: int, most: int) -> None:
        """Another owner labels some captions, oldest first, and commits."""
        is_pending = self.writing is not None and partition in self.writing.offsets
        if partition in self.position or is_pending:
            return
        log = self.logs[partition]
        for text in log.captions[log.committed : log.committed + most]:
            if not log.has_label(text):
                log.labels.append((key_of(text), LABEL))
        log.committed = min(len(log.captions), log.committed + most)

    @rule(is_on_the_log=st.booleans())
    def crash(self, is_on_the_log: bool) -> None:
        if self.writing is not None and is_on_the_log:
            self._commit(self.writing)
        self.restart()

    @invariant()
    def no_label_is_there_twice_and_none_is_missing_below_the_committed_offset(self) -> None:
        for log in self.logs.values() if hasattr(self, "logs") else ():
            assert max(Counter(key for key, _ in log.labels).values(), default=1) == 1
            for text in log.captions[: log.committed]:
                assert log.has_label(text) or text in log.captions[log.committed :], text

    def teardown(self) -> None:
        """Left alone, it labels everything and commits every offset."""
        if not hasattr(self, "logs"):
            return
        self.end_writing(is_on_the_log=True, is_known=True)
        for partition in PARTITIONS:
            self.gain(partition)
        for _ in range(200):
            for partition in PARTITIONS:
                self.read(partition, 8)
            self.read_back(5)
            self.ask(5)
            while self.questions:
                self.answer(0)
            self.begin_to_write(5)
            self.end_writing(is_on_the_log=True, is_known=True)
        for log in self.logs.values():
            assert {key for key, _ in log.labels} == {key_of(text) for text in log.captions}
            assert log.committed == len(log.captions)
        self.no_label_is_there_twice_and_none_is_missing_below_the_committed_offset()
        assert self.who.under_way == 0

    def _commit(self, batch: Batch) -> None:
        for partition, offset in batch.offsets.items():
            assert offset >= self.logs[partition].committed, "an offset went back"
            self.logs[partition].committed = offset
        for record in batch.records:
            if record.topic == NAMES.labels:
                assert record.key is not None
                self.logs[record.partition].labels.append((record.key, record.value))

    def _see(self, partition: int, start: int, end: int, owed: object = None) -> None:
        texts = self.logs[partition].captions[start:end]
        values = [codec.encode(CaptionObserved(t, "score", "r", 0, 0, 0, 1, -1, 1)) for t in texts]
        keys = [ids.caption_id(t) for t in texts]
        self.who.see(partition, range(start, end), keys, values, owed)  # type: ignore[arg-type]


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
