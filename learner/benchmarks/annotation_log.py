"""Reading and folding the annotation log beside a bare consumer, and the memory that both take."""

from __future__ import annotations

import gc
import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import fastavro
import psutil
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.labels.annotation_log_reader import AnnotationReader
from onibus.consumers.labels.fold import LabelFold
from onibus.infra.kafka.clients import consumer, partitions_of, producer
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.benchmarks.fresh_process import in_a_fresh_process
from onibus.learner.benchmarks.result import Figure
from onibus.schemas.avro_body import parse, schema_document
from onibus.schemas.codec import HEADER_BYTES, encode
from onibus.schemas.ids import caption_id, label_key
from onibus.schemas.records import Annotation, CaptionOffset, Origin, Verdict

SPEC = b"benchmrk"
MOST_ROUNDS = 5
READ_IN_ALL = 1_000_000
"""Annotations read by each side: of a short log in several rounds, of a long one in a single one."""
ANSWERS_A_CAPTION = 4
BOUND_MIB = 128
"""What reading the log may take, however long it is: one answer of the broker (50 MiB at most), the records
of polls made of it, and decoded annotations one at a time."""
_BURST = 2_000
_SAMPLED_EVERY = 1_000


def measure_fold(settings: Settings, annotations: int) -> list[Figure]:
    """Annotations a second, read and folded, beside kafka-python and fastavro alone; memory of both.

    The ratio of processor times is told beside that of wall times: other work on the machine moves it less.
    """
    publish(settings, (annotation(n, annotations // ANSWERS_A_CAPTION) for n in range(annotations)))
    bare, ours = [], []
    for _ in range(max(1, min(MOST_ROUNDS, READ_IN_ALL // annotations))):
        bare.append(times_of(lambda: _read_bare(settings)))
        ours.append(times_of(lambda: _fold(settings, annotations)))
    walls, processors = zip(
        *((b[0] / o[0], b[1] / o[1]) for b, o in zip(bare, ours, strict=True)), strict=True
    )
    streamed = in_a_fresh_process(_memory_of_reading, settings)
    taken = in_a_fresh_process(_memory_of_folding, settings, annotations)
    return [
        Figure(
            "bare kafka-python consumer and fastavro",
            annotations / statistics.median(wall for wall, _ in bare),
            "annotations/s",
        ),
        Figure(
            "annotation log, read and folded",
            annotations / statistics.median(wall for wall, _ in ours),
            "annotations/s",
        ),
        Figure.at_least("fold ÷ bare consumer and fastavro", statistics.median(walls), "ratio", 0.7),
        Figure("the same by processor time", statistics.median(processors), "ratio"),
        Figure.at_most(f"most memory that reading {annotations:,} takes", streamed / 2**20, "MiB", BOUND_MIB),
        Figure(f"memory of a fold, {ANSWERS_A_CAPTION} answers a caption", taken, "bytes a label"),
    ]


def annotation(number: int, captions: int) -> Annotation:
    """One answer about one of ``captions`` captions, as long as a language model's."""
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


def publish(settings: Settings, annotations: Iterable[Annotation]) -> None:
    """Put annotations on the log; those of a caption in one partition."""
    topic = TopicNames(settings.topic_prefix).annotations
    with producer(settings) as out:
        for number, one in enumerate(annotations):
            key = label_key(one.spec_id, one.subject_id)
            out.send(topic, encode(one), key=key, partition=one.subject_id[0] % settings.partitions)
            if number % _BURST == 0:
                out.flush()
        out.flush()


def _read_bare(settings: Settings) -> None:
    schema = parse(schema_document(Annotation))
    for records in bare_polls(settings, TopicNames(settings.topic_prefix).annotations):
        for record in records:
            fastavro.schemaless_reader(io.BytesIO(record.value[HEADER_BYTES:]), schema, None)


def bare_polls(settings: Settings, topic: str) -> Iterator[list[ConsumerRecord]]:
    """All that is on a topic, by kafka-python's consumer with as little around it as can be."""
    with consumer(settings, max_poll_records=5_000) as reader:
        partitions = partitions_of(reader, topic)
        reader.assign(partitions)
        reader.seek_to_beginning(*partitions)
        ends = reader.end_offsets(partitions)
        while any(reader.position(p) < ends[p] for p in partitions):
            yield from reader.poll(timeout_ms=200).values()


def _fold(settings: Settings, annotations: int) -> LabelFold:
    with AnnotationReader(settings) as reader:
        fold = LabelFold(reader.read(reader.ends))
    assert fold.annotations == annotations, "every annotation must have arrived"
    return fold


def _memory_of_reading(settings: Settings) -> int:
    """By how many bytes this process grows at most while it reads the log and keeps nothing."""
    process = psutil.Process()
    with AnnotationReader(settings) as reader:
        most = before = process.memory_info().rss
        for number, _ in enumerate(reader.read(reader.ends)):
            if number % _SAMPLED_EVERY == 0:
                most = max(most, process.memory_info().rss)
    return most - before


def _memory_of_folding(settings: Settings, annotations: int) -> float:
    """Bytes a label by which this process has grown once the log is folded and the reader is gone."""
    process = psutil.Process()
    before = process.memory_info().rss
    fold = _fold(settings, annotations)
    gc.collect()
    return (process.memory_info().rss - before) / len(fold)


def times_of(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor
