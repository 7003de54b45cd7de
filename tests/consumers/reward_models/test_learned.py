"""What a model has learned from, in short: the same data again, and nothing but this log's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from onibus.consumers.reward_models.learned import LearnedLog, read_learned
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import OutgoingRecord, send_transaction
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.codec import SingleObjectCodec
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    MODEL,
    SPEC_ID,
    TEXTS,
    annotation,
    publish_annotations,
)


def learned(*blocks: OutgoingRecord, block_bytes: int = 350_000) -> LearnedLog:
    values = {number: record.value for number, record in enumerate(blocks) if record.value is not None}
    return LearnedLog(SingleObjectCodec(), "reward-data", MODEL, SPEC_ID, values, block_bytes)


def told(log: LearnedLog) -> list[tuple[int, int, bytes, tuple[str, ...], Verdict | None, Origin, int]]:
    return [
        (p, offset, a.subject_id, a.texts, a.verdict, a.origin, a.annotated_at)
        for p, offset, a in log.taken()
    ]


def grown(annotations: Sequence[Annotation], **how: int) -> tuple[LearnedLog, list[OutgoingRecord]]:
    log = learned(**how)
    for number, one in enumerate(annotations):
        log.add(number % 2, number, one)
    return log, log.cut({0: 100, 1: 101, 2: 7})


def test_blocks_hold_all_that_a_model_learns_from_in_the_order_in_which_it_was_taken() -> None:
    annotations = [
        annotation(KEY_FOUND, at=5),
        annotation("long " * 200, Verdict.UNSURE),
        annotation(TEXTS[1], Verdict.HELPFUL, Origin.HUMAN),
        annotation(TEXTS[1], origin=Origin.WITHDRAWAL),
    ]
    log, blocks = grown(annotations)
    log.add(2, 9, None)
    again = learned(*blocks)
    assert again.offsets == log.offsets == {0: 100, 1: 101, 2: 7}
    assert told(again) == [
        (n % 2, n, a.subject_id, tuple(text[:256] for text in a.texts), a.verdict, a.origin, a.annotated_at)
        for n, a in enumerate(annotations)
    ]
    assert told(again) == [], "taken once, and forgotten"
    assert again.marks[1].key == ids.label_key(SPEC_ID, annotations[3].subject_id)


def test_much_is_cut_into_blocks_that_fit_a_record_and_the_chain_goes_on_after_a_restart() -> None:
    log, blocks = grown([annotation(text) for text in TEXTS], block_bytes=500)
    assert len(blocks) > 3
    assert all(record.value is not None and len(record.value) < 1_000 for record in blocks)
    again = learned(*blocks)
    assert log.cut(log.offsets) == [], "nothing has come since"
    again.add(0, 200, annotation("another"))
    more = again.cut({0: 201})
    whole = learned(*blocks, *more)
    assert len(told(whole)) == len(TEXTS) + 1
    assert whole.offsets == {0: 201, 1: 101, 2: 7}


def test_what_does_not_belong_together_is_no_chain() -> None:
    _, blocks = grown([annotation(text) for text in TEXTS], block_bytes=500)
    _, others = grown([annotation(text) for text in reversed(TEXTS)], block_bytes=500)
    torn = learned(*blocks[:2], others[2], *blocks[3:])
    assert 0 < len(told(torn)) < len(TEXTS)
    assert torn.offsets != {0: 100, 1: 101, 2: 7}
    assert told(learned(others[1], *blocks)) == []
    assert told(learned(blocks[0]._replace(value=b"junk"), *blocks[1:])) == []


def test_a_block_is_due_after_so_many_records_of_the_log_whoever_wrote_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onibus.consumers.reward_models.learned.WRITTEN_EVERY", 50)
    log, _ = grown([annotation(KEY_FOUND)])
    assert not log.is_due({0: 120, 1: 130, 2: 7})
    assert log.is_due({0: 120, 1: 131, 2: 7})


def test_blocks_count_only_while_the_log_is_the_one_that_they_are_of(settings: Settings) -> None:
    codec, names = codec_for(settings), TopicNames(settings.topic_prefix)
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    log = [
        (record.partition, record.offset, codec.decode(Annotation, record.value))
        for batch in clients.read_all(settings, names.annotations)
        for record in batch
    ]
    ends = {partition: offset + 1 for partition, offset, _ in log}

    def taken(shown: Sequence[tuple[int, int, Annotation]], offsets: dict[int, int]) -> int:
        """How many annotations a trainer takes from blocks that tell of these."""
        written = LearnedLog(codec, names.reward_data, MODEL, SPEC_ID, {})
        for record in shown:
            written.add(*record)
        producer = clients.transactional_producer(settings, f"{settings.topic_prefix}reward-trainer.test")
        producer.init_transactions()
        send_transaction(producer, written.cut(offsets))
        producer.close()
        return len(list(read_learned(settings, codec, MODEL, SPEC_ID).taken()))

    assert taken(log, ends) == len(TEXTS)
    assert taken(log, {p: end + 1 for p, end in ends.items()}) == 0, "the log ends before"
    others = [(p, offset, annotation(f"{one.texts[0]} ")) for p, offset, one in log]
    assert taken(others, ends) == 0, "other captions stand there"
    assert taken(log[:5], {}) == 5
