"""The annotator without Kafka: what it asks, what it writes, what it never does twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from onibus.consumers.annotator.batch import Batch, BatchRecords
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.decisions import Annotator
from onibus.consumers.annotator.pending import Pending
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.language_models.base import Answer, Attempt, Question
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.kafka.topics import TopicNames
from onibus.schemas import codec, ids
from onibus.schemas.codec import RegistryError, SingleObjectCodec
from onibus.schemas.records import Annotation, CaptionObserved, DeadLetter, Label, Origin, Record, Verdict
from tests.logged import logged

NAMES = TopicNames("t.")
GOALS, COMBAT = load_spec("goals"), load_spec("combat")
GOALS_ID, COMBAT_ID = ids.spec_id(GOALS), ids.spec_id(COMBAT)
NOW = 1_700_000_000_000_000


def annotator(*specs: bytes, capacity: int = 100) -> Annotator:
    all_specs = {GOALS_ID: GOALS, COMBAT_ID: COMBAT}
    chosen = {spec_id: all_specs[spec_id] for spec_id in specs or (GOALS_ID,)}
    records = BatchRecords(chosen, Origin.RULES, "a1", SingleObjectCodec(), NAMES)
    return Annotator(records, Pending(capacity=capacity))


def see(who: Annotator, texts: Sequence[str], start: int = 0, partition: int = 0) -> int:
    values = [codec.encode(CaptionObserved(t, "score", "r", 0, 0, 0, 1, -1, NOW - 5)) for t in texts]
    keys = [ids.caption_id(t) for t in texts]
    return who.see(partition, range(start, start + len(texts)), keys, values)


def answer(question: Question, verdict: Verdict = Verdict.HELPFUL) -> Answer:
    return Answer(question, verdict, (Attempt(verdict, "raw", "", bytes(16), 0, 0, 1, NOW),))


def asked(texts: Sequence[str], *specs: bytes) -> tuple[Annotator, list[Question]]:
    """An annotator of one partition that has asked about these captions."""
    who = annotator(*specs)
    who.begin(0, 0, 0, LabelTable())
    see(who, texts)
    return who, who.questions(10)


def come_back(who: Annotator, texts: Sequence[str]) -> None:
    """The partition goes, and comes back with its captions."""
    who.end(0)
    who.begin(0, 0, 0, LabelTable())
    see(who, texts)


def written(batch: Batch | None, topic: str) -> list[tuple[bytes | None, bytes]]:
    return [(r.key, r.value) for r in batch.records if r.topic == topic] if batch else []


def test_answers_that_could_not_be_encoded_are_written_later_and_not_asked_for_again() -> None:
    class Away(SingleObjectCodec):
        is_away = True

        def encode(self, topic: str, record: Record) -> bytes:
            if self.is_away and isinstance(record, Annotation):
                raise RegistryError("the schema registry is away")
            return super().encode(topic, record)

    registry = Away()
    who = Annotator(BatchRecords({GOALS_ID: GOALS}, Origin.LLM, "a1", registry, NAMES))
    who.begin(0, 0, 0, LabelTable())
    see(who, ["You kill the newt!"])
    (question,) = who.questions(10)
    who.answered(answer(question))
    with pytest.raises(RegistryError):
        who.batch(10, NOW)
    who.end(0)  # as every failure does: all is restored from the log
    who.begin(0, 0, 0, LabelTable())
    see(who, ["You kill the newt!"])
    assert who.questions(10) == [], "it has been paid for"
    registry.is_away = False
    batch = who.batch(10, NOW)
    assert len(written(batch, NAMES.labels)) == len(written(batch, NAMES.annotations)) == 1


def test_a_caption_becomes_a_question_then_a_label_an_annotation_and_an_offset() -> None:
    who = annotator()
    who.begin(3, 40, 40, LabelTable())
    see(who, ["You kill the newt!"], 41, partition=3)
    (question,) = who.questions(10)
    assert (question.text, question.spec_id) == ("You kill the newt!", GOALS_ID)
    who.answered(answer(question))
    batch = who.batch(10, NOW)
    assert batch is not None
    key = ids.label_key(GOALS_ID, ids.caption_id("You kill the newt!"))
    ((label_key, label_bytes),) = written(batch, NAMES.labels)
    assert label_key == key
    assert codec.decode(Label, label_bytes) == Label(Verdict.HELPFUL, 3, 41, NOW - 5, NOW, "a1")
    ((annotation_key, annotation_bytes),) = written(batch, NAMES.annotations)
    assert annotation_key == key
    assert codec.decode(Annotation, annotation_bytes).texts == ("You kill the newt!",)
    assert batch.offsets == {3: 42}
    assert {r.partition for r in batch.records} == {3}


def test_what_is_labelled_pending_or_under_way_is_not_asked_again() -> None:
    who, table = annotator(), LabelTable()
    label = codec.encode(Label(Verdict.HELPFUL, 0, 0, 1, 1, "a"))
    table.apply([ids.label_key(GOALS_ID, ids.caption_id("labelled"))], [label])
    who.begin(0, 0, 0, table)
    assert see(who, ["labelled", "new", "new", "labelled"]) == 3
    questions = who.questions(10)
    assert [q.text for q in questions] == ["new"]
    assert see(who, ["new", "other", "new"], 4) == 2
    assert [q.text for q in who.questions(10)] == ["other"]
    who.answered(answer(questions[0]))
    batch = who.batch(10, NOW)
    assert batch is not None
    who.committed(batch)
    assert see(who, ["new"], 7) == 1
    assert not who.questions(10)


def test_the_offset_stays_below_what_is_still_owed() -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    see(who, ["a", "b", "c"])
    questions = {q.text: q for q in who.questions(10)}
    who.answered(answer(questions["c"]))
    batch = who.batch(10, NOW)
    assert batch is not None
    assert batch.offsets == {0: 0}  # nothing moved, and yet it is there: it is what fences
    who.committed(batch)
    who.answered(answer(questions["a"]))
    batch = who.batch(10, NOW)
    assert batch is not None
    assert batch.offsets == {0: 1}
    who.committed(batch)
    assert who.batch(10, NOW) is None


def test_the_newest_caption_is_asked_about_first() -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    see(who, ["a", "b", "c"])
    see(who, ["a"], 3)
    assert [q.text for q in who.questions(2)] == ["a", "c"]


def test_under_several_specs_a_caption_is_written_when_all_have_answered() -> None:
    who, (first, second) = asked(["x"], GOALS_ID, COMBAT_ID)
    who.answered(answer(first))
    assert not who.has_finished
    who.answered(answer(second, Verdict.UNHELPFUL))
    batch = who.batch(10, NOW)
    assert {label.spec_id: label.verdict for label in batch.labels if batch} == {  # type: ignore[union-attr]
        first.spec_id: Verdict.HELPFUL,
        second.spec_id: Verdict.UNHELPFUL,
    }


@pytest.mark.parametrize("returns", [False, True])
def test_an_answer_for_a_partition_that_went_is_not_written_but_is_not_paid_for_again(returns: bool) -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    who.begin(1, 0, 0, LabelTable())
    see(who, ["x"])
    (question,) = who.questions(10)
    who.end(0)
    if returns:
        who.begin(0, 0, 0, LabelTable())
    who.answered(answer(question))
    assert not who.has_finished
    if not returns:
        who.begin(0, 0, 0, LabelTable())
    see(who, ["x"])
    assert not who.questions(10)  # the answer is at hand
    batch = who.batch(10, NOW)
    assert len(written(batch, NAMES.labels)) == 1


def test_a_caption_that_comes_back_waits_for_the_answer_that_is_under_way() -> None:
    who, (question,) = asked(["x"])
    for _ in range(2):
        who.end(0)
        assert who.asked.strays == 1
        who.begin(0, 0, 0, LabelTable())
        see(who, ["x"])
        assert not who.questions(10), "it is being paid for"
        assert who.asked.strays == 0
    who.answered(answer(question))
    assert len(written(who.batch(10, NOW), NAMES.labels)) == 1


def test_what_one_spec_has_answered_is_not_asked_again_when_the_partition_comes_back() -> None:
    who, (first, second) = asked(["x"], GOALS_ID, COMBAT_ID)
    who.answered(answer(first))
    come_back(who, ["x"])
    assert not who.questions(10), "one is paid for, the other under way"
    who.answered(answer(second))
    assert len(written(who.batch(10, NOW), NAMES.labels)) == 2


def test_a_failed_batch_keeps_its_answers_for_when_the_captions_come_back() -> None:
    who, questions = asked(["x", "y"])
    for question in questions:
        who.answered(answer(question))
    batch = who.batch(10, NOW)
    assert batch is not None
    who.failed(batch)
    come_back(who, ["x", "y"])
    assert not who.questions(10)
    again = who.batch(10, NOW)
    assert sorted(written(again, NAMES.labels)) == sorted(written(batch, NAMES.labels))


def test_what_a_person_labelled_meanwhile_is_not_asked() -> None:
    who, table = annotator(), LabelTable()
    who.begin(0, 0, 0, table)
    see(who, ["x", "y"])
    label = codec.encode(Label(Verdict.UNHELPFUL, 0, -1, 1, 1, "a person"))
    table.apply([ids.label_key(GOALS_ID, ids.caption_id("x"))], [label])
    (question,) = who.questions(10)
    assert question.text == "y"
    who.answered(answer(question))
    batch = who.batch(10, NOW)
    assert batch is not None
    assert batch.offsets == {0: 2}


def test_an_unreadable_caption_is_a_dead_letter_and_its_offset_is_gone_past() -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    who.see(0, [0, 1], [ids.caption_id("x"), b"short"], [b"garbage", None])
    batch = who.batch(10, NOW)
    assert batch is not None
    letters = [codec.decode(DeadLetter, value) for _, value in written(batch, NAMES.dead_letters)]
    assert [(x.source_offset, x.original_value) for x in letters] == [(0, b"garbage"), (1, None)]
    assert batch.offsets == {0: 2}
    assert not written(batch, NAMES.labels)


def test_a_model_that_gave_up_makes_an_unsure_label_an_annotation_and_a_dead_letter() -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    see(who, ["x"])
    (question,) = who.questions(1)
    who.answered(Answer(question, Verdict.UNSURE, (), given_up="refused"))
    batch = who.batch(10, NOW)
    ((_, label),) = written(batch, NAMES.labels)
    ((_, annotation),) = written(batch, NAMES.annotations)
    ((_, letter),) = written(batch, NAMES.dead_letters)
    assert codec.decode(Label, label).verdict is Verdict.UNSURE
    assert codec.decode(Annotation, annotation).reason == "refused"
    kept = codec.decode(DeadLetter, letter)
    assert (kept.reason, kept.spec_id, kept.original_key) == ("refused", GOALS_ID, ids.caption_id("x"))
    assert codec.decode(CaptionObserved, kept.original_value).text == "x"


def test_batches_are_bounded() -> None:
    who = annotator()
    who.begin(0, 0, 0, LabelTable())
    see(who, [f"caption {n}" for n in range(7)])
    for question in who.questions(7):
        who.answered(answer(question))
    sizes = []
    while (batch := who.batch(3, NOW)) is not None:
        sizes.append(len(batch.labels))
        who.committed(batch)
    assert sizes == [3, 3, 1]


def seen(task: str, run: str, captioner: str = "message") -> CaptionObserved:
    return CaptionObserved("It is dark.", task, run, 0, 0, 0, 1, -1, NOW, captioner)


def test_captions_that_no_spec_is_for_are_mentioned_once_per_task(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    chosen = CaptionFilter([b"spec0000"], {b"spec0000": ["kitchne"]})
    for run in ("one", "two", "one"):
        assert chosen.specs(seen("kitchen", run)) == frozenset()
    assert chosen.specs(seen("kitchne", "one")) == {b"spec0000"}
    lines = [record.getMessage() for record in logged(caplog)]
    assert lines == [
        "captions of task kitchen (run one, captioner message) are left out: no spec here is for them"
    ]


def test_a_spec_is_asked_about_captions_of_its_captioner_alone() -> None:
    chosen = CaptionFilter(
        [b"any", b"changes", b"own"], captioners={b"changes": "message-and-changes", b"own": "words:say"}
    )
    assert chosen.specs(seen("score", "one")) == {b"any"}
    assert chosen.specs(seen("score", "one", "message-and-changes")) == {b"any", b"changes"}
    assert chosen.specs(seen("score", "one", "words:say 1.0")) == {b"any", b"own"}


def test_what_is_asked_about_again_by_hand_is_asked_whatever_task_or_captioner_a_spec_is_for() -> None:
    chosen = CaptionFilter([b"spec0000"], {b"spec0000": ["keyroom-*"]}, {b"spec0000": "words:say"})
    assert chosen.specs(seen("", "again", "")) == {b"spec0000"}
    assert chosen.specs(seen("", "again", "message")) == frozenset()
