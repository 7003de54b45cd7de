"""What tests of annotators share: captions onto the bus, annotators in threads, what must hold at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.budget import Limits
from onibus.consumers.annotator.counters import AnnotatorSummary
from onibus.consumers.annotator.decisions import COMPARISONS
from onibus.consumers.annotator.loop import AnnotatorProcess
from onibus.consumers.annotator.membership import Membership
from onibus.consumers.annotator.pending import Pending
from onibus.consumers.language_models.base import Answer, LanguageModel, Progress, Question
from onibus.consumers.language_models.rules import RulesModel
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, AnnotationSpec, CaptionObserved
from tests.waiting import wait_until

GROUP = "annotators.test"


def rules_specs(*names: str) -> tuple[dict[bytes, AnnotationSpec], RulesModel]:
    """Specs under their rules, and the model that judges by them."""
    files = [load_spec_file(name) for name in names or ("goals",)]
    specs = {ids.spec_id(file.for_rules()): file.for_rules() for file in files}
    return specs, RulesModel({ids.spec_id(file.for_rules()): file.rules for file in files if file.rules})


class HeldModel:
    """Answers as another model does, but only while :attr:`open` is set: so that captions stay under way."""

    def __init__(self, inner: LanguageModel, allowed: int = 0) -> None:
        self.origin = inner.origin
        self.open = threading.Event()
        self.asked = Counter[str]()
        self._inner, self._allowed = inner, allowed

    async def check(self) -> None:
        await self._inner.check()

    async def answer(self, question: Question) -> Answer:
        import asyncio

        self.asked[question.text] += 1
        if self._allowed > 0:
            self._allowed -= 1
        else:
            while not self.open.is_set():
                await asyncio.sleep(0.005)
        return await self._inner.answer(question)

    def progress(self, question: Question) -> Progress:
        return Progress.SENT

    async def close(self) -> None:
        await self._inner.close()


def publish(settings: Settings, texts: Iterable[str], value: Callable[[str], bytes] | None = None) -> None:
    """Put captions on the bus as rollout workers do."""
    producer = clients.producer(settings)
    topic = TopicNames(settings.topic_prefix).captions
    for text in texts:
        caption_id = ids.caption_id(text)
        observed = CaptionObserved(text, "score", "run", 0, 0, 0, 1, -1, time.time_ns() // 1000)
        producer.send(
            topic,
            key=caption_id,
            value=value(text) if value else codec.encode(observed),
            partition=ids.caption_partition(caption_id, settings.partitions),
        )
    producer.flush()
    producer.close()


def records(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """Everything committed on a topic, given without prefix."""
    return [r for batch in clients.read_all(settings, settings.topic_prefix + topic) for r in batch]


def annotations(settings: Settings) -> dict[str, list[Annotation]]:
    """Every committed annotation, by its (first) caption."""
    found = defaultdict(list)
    for record in records(settings, "annotations"):
        one = codec.decode(Annotation, record.value)
        found[one.texts[0]].append(one)
    return found


def label_keys(settings: Settings) -> Counter[bytes]:
    """How many committed records each label has."""
    return Counter(record.key for record in records(settings, "labels"))


def expected_keys(specs: Iterable[bytes], texts: Iterable[str]) -> set[bytes]:
    """Keys of the labels that these captions must get."""
    specs = list(specs)
    return {ids.label_key(spec, ids.caption_id(text)) for text in texts for spec in specs}


def wait_for_labels(settings: Settings, count: int, timeout: float = 60.0) -> None:
    """Wait until so many distinct labels are committed."""
    wait_until(lambda: len(label_keys(settings)) >= count, timeout, f"{count} labels", interval=0.1)


def assert_each_exactly_once(settings: Settings, specs: Iterable[bytes], texts: Iterable[str]) -> None:
    """Every caption has one label and one annotation under every spec: none is missing or there twice."""
    expected = Counter(expected_keys(specs, texts))
    assert label_keys(settings) == expected
    assert Counter(record.key for record in records(settings, "annotations")) == expected


def committed_offsets(settings: Settings, group: str = GROUP) -> dict[int, int]:
    """The group's committed offset of each partition of captions that has one."""
    reader = clients.consumer(settings, group_id=settings.topic_prefix + group)
    topic = TopicNames(settings.topic_prefix).captions
    try:
        found = {p: reader.committed(TopicPartition(topic, p)) for p in range(settings.partitions)}
        return {p: offset for p, offset in found.items() if offset is not None}
    finally:
        reader.close()


def caption_ends(settings: Settings) -> dict[int, int]:
    """End offset of each partition of captions that has records."""
    reader = clients.consumer(settings)
    topic = TopicNames(settings.topic_prefix).captions
    try:
        ends = reader.end_offsets([TopicPartition(topic, p) for p in range(settings.partitions)])
        return {tp.partition: end for tp, end in ends.items() if end}
    finally:
        reader.close()


def membership(settings: Settings, name: str, most_under_way: int = 100) -> Membership:
    """A member of the tests' group; others notice its death after two seconds."""
    return Membership(settings.topic_prefix + GROUP, name, most_under_way, session_timeout_ms=2_000)


class Running:
    """An annotator in a thread."""

    def __init__(self, process: AnnotatorProcess) -> None:
        self.process = process
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.summary: AnnotatorSummary | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summary = self.process.run(self.stopping)
        except BaseException as error:
            self.error = error

    @property
    def partitions(self) -> list[int]:
        """What it works on now."""
        return self.process._annotator.partitions

    def stop(self) -> AnnotatorSummary:
        """Stop as SIGTERM does."""
        self.stopping.set()
        self._thread.join(timeout=15)
        assert not self._thread.is_alive(), "the annotator did not stop within 15 s"
        if self.error is not None:
            raise self.error
        assert self.summary is not None
        return self.summary

    def died(self, timeout: float) -> BaseException:
        """What it ended with by itself."""
        self._thread.join(timeout=timeout)
        assert self.error is not None, "the annotator did not fail"
        return self.error


@contextmanager
def annotator(
    settings: Settings,
    name: str = "a1",
    specs: dict[bytes, AnnotationSpec] | None = None,
    model: LanguageModel | None = None,
    most_under_way: int = 100,
    on_step: Callable[[str], None] = lambda _: None,
    pending: Pending | None = None,
    limits: Limits | None = None,
    is_static: bool = False,
    group: str = GROUP,
    near_pairs: bool = False,
    ask_again: int = 0,
    judges: int = 1,
    comparisons: int = COMPARISONS,
) -> Iterator[Running]:
    """An annotator, stopped at the end whatever happens."""
    default_specs, default_model = rules_specs()
    specs = specs or default_specs
    publish_specs(settings, list(specs.values()))
    member = replace(
        membership(settings, name, most_under_way), is_static=is_static, group=settings.topic_prefix + group
    )
    rest = (on_step, pending, limits)
    further = {"near_pairs": near_pairs, "ask_again": ask_again, "judges": judges}
    further["comparisons"] = comparisons
    process = AnnotatorProcess(settings, specs, model or default_model, member, *rest, **further)
    running = Running(process)
    try:
        yield running
    finally:
        running.stopping.set()
        running._thread.join(timeout=20)
