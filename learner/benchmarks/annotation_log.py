"""Reading and folding the annotation log beside a bare consumer, and questions to a board of many labels."""

from __future__ import annotations

import gc
import io
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import fastavro
import psutil
from kafka import TopicPartition

from consumers.replay.annotation_reader import AnnotationReader, LoggedAnnotation
from consumers.replay.label_board import LabelBoard
from consumers.replay.label_filter import LabelFilter
from consumers.replay.label_fold import LabelFold
from infra.clients import consumer, partitions_of, producer
from infra.codecs import codec_for
from infra.settings import Settings
from infra.topics import TopicNames
from learner.benchmarks.result import Figure
from schemas.avro_body import parse, schema_document
from schemas.codec import HEADER_BYTES, encode
from schemas.ids import caption_id, label_key
from schemas.records import Annotation, CaptionOffset, Origin, Verdict

SPEC = b"benchmrk"
ROUNDS = 3
ANSWERS_A_CAPTION = 4
_BURST = 2_000


def measure_fold(settings: Settings, annotations: int) -> list[Figure]:
    """Annotations a second, read and folded, beside kafka-python and fastavro alone; memory of the fold."""
    _publish(settings, annotations)
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(annotations / _seconds(lambda: _read_bare(settings)))
        ours.append(annotations / _seconds(lambda: _fold(settings, annotations)))
    gc.collect()
    before = psutil.Process().memory_info().rss
    fold = _fold(settings, annotations)
    gc.collect()
    taken = (psutil.Process().memory_info().rss - before) / len(fold)
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    return [
        Figure("bare kafka-python consumer and fastavro", statistics.median(bare), "annotations/s"),
        Figure("annotation log, read and folded", statistics.median(ours), "annotations/s"),
        Figure.at_least("fold ÷ bare consumer and fastavro", ratio, "ratio", 0.7),
        Figure(f"memory of a fold, {ANSWERS_A_CAPTION} answers a caption", taken, "bytes a label"),
    ]


def measure_questions(labels: int) -> list[Figure]:
    """Milliseconds of a filtered page of ``labels`` labels in memory."""
    board = LabelBoard()
    board.apply(LoggedAnnotation(0, n, n, _annotation(n, labels)) for n in range(labels))
    filters = {
        "words of the caption": LabelFilter(text="7 gold"),
        "verdict and annotator": LabelFilter(verdicts=frozenset({"helpful"}), annotator="annotator-1"),
    }
    board.page(LabelFilter(), 0, 50)  # sorted from here on, until the next record
    return [
        Figure.at_most(
            f"a page of {labels:,} labels by {name}",
            statistics.median(1000 * _seconds(partial(board.page, wanted, 0, 50)) for _ in range(5)),
            "ms",
            200,
        )
        for name, wanted in filters.items()
    ]


def _annotation(number: int, captions: int) -> Annotation:
    text = f"You see here {number % captions} gold pieces."
    return Annotation(
        spec_id=SPEC,
        subject_id=caption_id(text),
        texts=(text,),
        verdict=Verdict.HELPFUL if number % 5 == 0 else Verdict.UNHELPFUL,
        origin=Origin.LLM,
        sources=(CaptionOffset(number % 16, number),),
        prompt_hash=bytes(16),
        model="a-model",
        model_revision="main",
        sampling={"temperature": "0.1", "max_tokens": "256"},
        raw_answer="The message tells of gold, which is worth having.\nhelpful",
        reason="The message tells of gold, which is worth having.",
        tokens_in=310,
        tokens_out=14,
        latency_us=120_000,
        attempt=1,
        annotator="annotator-1",
        observed_at=1_700_000_000_000_000 + number,
        annotated_at=1_700_000_000_200_000 + number,
    )


def _publish(settings: Settings, count: int) -> None:
    topic = TopicNames(settings.topic_prefix).annotations
    with producer(settings) as out:
        for number in range(count):
            one = _annotation(number, count // ANSWERS_A_CAPTION)
            key = label_key(one.spec_id, one.subject_id)
            out.send(topic, encode(one), key=key, partition=one.subject_id[0] % settings.partitions)
            if number % _BURST == 0:
                out.flush()
        out.flush()


def _read_bare(settings: Settings) -> None:
    schema = parse(schema_document(Annotation))
    for value in _values(settings):
        fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)


def _values(settings: Settings) -> Iterator[bytes]:
    reader = consumer(settings, max_poll_records=5_000)
    partitions: list[TopicPartition] = partitions_of(reader, TopicNames(settings.topic_prefix).annotations)
    reader.assign(partitions)
    reader.seek_to_beginning(*partitions)
    ends = reader.end_offsets(partitions)
    while any(reader.position(p) < ends[p] for p in partitions):
        for records in reader.poll(timeout_ms=200).values():
            for record in records:
                yield record.value
    reader.close()


def _fold(settings: Settings, annotations: int) -> LabelFold:
    with AnnotationReader(settings, codec_for(settings)) as reader:
        fold = LabelFold(reader.read(reader.ends))
    assert fold.annotations == annotations, "every annotation must have arrived"
    return fold


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
