"""An annotator on a real broker: what it skips, gives up, remembers, and how it ends."""

import asyncio
import os
import signal
import subprocess
import threading
import time

import pytest

from onibus.consumers.annotator.pending import Pending
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, DeadLetter, Label, Origin, Verdict
from tests.command import run_onibus, start_onibus, the_one_line
from tests.consumers.annotating import (
    HeldModel,
    annotator,
    assert_each_exactly_once,
    caption_ends,
    committed_offsets,
    expected_keys,
    label_keys,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.waiting import wait_until

TEXTS = [f"You see here {n} arrows." for n in range(120)]


def test_labels_and_annotations_say_where_they_come_from(settings: Settings) -> None:
    specs, _ = rules_specs("keys-and-doors")
    (spec_id,) = specs
    texts = ["g - a key named The Master Key of Thievery.", "This door is locked."]
    publish(settings, texts)
    with annotator(settings, "a7", *rules_specs("keys-and-doors")):
        wait_for_labels(settings, 2)
    sources = {r.key: (r.partition, r.offset) for r in records(settings, "captions")}
    for text, verdict in zip(texts, [Verdict.HELPFUL, Verdict.UNHELPFUL], strict=True):
        caption_id = ids.caption_id(text)
        key = ids.label_key(spec_id, caption_id)
        (label_record,) = [r for r in records(settings, "labels") if r.key == key]
        label = codec.decode(Label, label_record.value)
        assert (label.verdict, label.annotator) == (verdict, "a7")
        assert (label.caption_partition, label.caption_offset) == sources[caption_id]
        assert label_record.partition == label.caption_partition
        assert label.observed_at <= label.annotated_at
        (annotation_record,) = [r for r in records(settings, "annotations") if r.key == key]
        annotation = codec.decode(Annotation, annotation_record.value)
        assert (annotation.texts, annotation.verdict, annotation.origin) == ((text,), verdict, Origin.RULES)
        assert annotation.model == "rules"
        assert annotation.model_revision == specs[spec_id].model_revision
    assert read_specs(settings)[spec_id].name == "keys-and-doors"


def test_several_specs_are_labelled_in_one_go(settings: Settings) -> None:
    specs, rules = rules_specs("goals", "combat", "gold")
    publish(settings, TEXTS)
    with annotator(settings, specs=specs, model=rules) as one:
        wait_for_labels(settings, 3 * len(TEXTS))
        assert one.stop().labels == 3 * len(TEXTS)
    assert_each_exactly_once(settings, specs, TEXTS)


@pytest.mark.slow
def test_a_spec_that_comes_later_gets_only_its_own_labels(settings: Settings) -> None:
    """In the same group: what has its label under the first spec is asked about under the second only."""
    publish(settings, TEXTS)
    with annotator(settings, model=HeldModel(rules_specs()[1], allowed=50), most_under_way=10) as first:
        wait_for_labels(settings, 40)
        first.stop()
    both, rules = rules_specs("goals", "combat")
    goals = next(spec_id for spec_id, spec in both.items() if spec.name == "goals")
    before = {key for key in label_keys(settings) if key.startswith(goals)}
    counting = HeldModel(rules)
    counting.open.set()
    with annotator(settings, specs=both, model=counting):
        wait_until(lambda: len(label_keys(settings)) >= 2 * len(TEXTS) - len(before), 30, "labels")
    assert max(label_keys(settings).values()) == 1
    assert sum(counting.asked.values()) == len(label_keys(settings)) - len(before)


@pytest.mark.parametrize("newest", [1_000, 3])
def test_unreadable_captions_are_dead_letters_and_do_not_stop_anything(
    settings: Settings, newest: int
) -> None:
    """Also those that stand in a backlog, and are read only after what is newer."""
    specs, _ = rules_specs()
    names = TopicNames(settings.topic_prefix)
    good_id = ids.caption_id(TEXTS[0])
    producer = clients.producer(settings)
    broken = [
        (b"\x00" * 16, b"no avro at all"),
        (good_id, codec.MARKER + bytes(20)),
        (b"short", b""),
        (None, b"no key"),
        (good_id, None),
        (b"\x01" * 16, None),
        (b"\x02" * 16, b"x" * 200_000),
    ]
    for key, value in broken:
        producer.send(names.captions, key=key, value=value, partition=1)
    producer.flush()
    publish(settings, ["another text"], value=lambda _: records_of_another())
    publish(settings, TEXTS)
    with annotator(settings, pending=Pending(newest=newest)) as one:
        wait_for_labels(settings, len(TEXTS))
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 30, "offsets to move on")
        assert one.stop().dead_letters == len(broken) + 1
    producer.close()
    letters = [codec.decode(DeadLetter, r.value) for r in records(settings, "dead-letters")]
    assert len(letters) == len(broken) + 1
    kept = [(letter.original_key, letter.original_value) for letter in letters]
    assert all(pair in kept for pair in broken)
    assert {letter.component for letter in letters} == {"annotator"}
    assert_each_exactly_once(settings, specs, TEXTS)


def records_of_another() -> bytes:
    """A caption record whose text is not the one that its key names."""
    from onibus.schemas.records import CaptionObserved

    return codec.encode(CaptionObserved("not what the key says", "score", "r", 0, 0, 0, 1, -1, 1))


def test_unreadable_labels_are_dead_letters_and_do_not_stop_anything(settings: Settings) -> None:
    specs, _ = rules_specs()
    producer = clients.producer(settings)
    for partition in range(settings.partitions):
        for key, value in [(b"x", b"y"), (bytes(24), b"no avro")]:
            producer.send(settings.topic_prefix + "labels", key=key, value=value, partition=partition)
    producer.flush()
    producer.close()
    publish(settings, TEXTS)
    with annotator(settings) as one:
        wait_for_labels(settings, len(TEXTS) + 2)
        wait_until(lambda: one.process.summary.dead_letters == 2 * settings.partitions, 30, "dead letters")
    counts = label_keys(settings)
    assert all(counts[key] == 1 for key in expected_keys(specs, TEXTS))
    letters = [codec.decode(DeadLetter, r.value) for r in records(settings, "dead-letters")]
    assert {letter.source_topic for letter in letters} == {settings.topic_prefix + "labels"}
    assert {letter.original_value for letter in letters} == {b"y", b"no avro"}


def test_the_end_of_a_backlog_is_judged_before_the_rest_of_it_is_read(settings: Settings) -> None:
    specs, rules = rules_specs()
    pending, held = Pending(newest=5), HeldModel(rules)
    texts = [f"You see here {n} arrows." for n in range(3_000)]
    publish(settings, texts)
    with annotator(settings, model=held, most_under_way=12, pending=pending) as one:
        wait_until(lambda: len(held.asked) == 12, 30, "the first questions")
        assert set(held.asked) < set(texts[-100:])
        assert one.process.summary.consumed == 5 * settings.partitions
        held.open.set()
        wait_for_labels(settings, len(texts))
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 30, "every offset")
        assert one.stop().consumed == len(texts)
    assert_each_exactly_once(settings, specs, texts)


def test_newest_first_through_a_stack_that_is_far_too_small(settings: Settings) -> None:
    """Nearly everything falls off the stack and is read back from the log; nothing is lost or done twice."""
    specs, rules = rules_specs()
    pending = Pending(capacity=10, ranges=3)
    held = HeldModel(rules, allowed=0)
    publish(settings, TEXTS)
    with annotator(settings, model=held, most_under_way=4, pending=pending) as one:
        wait_until(lambda: pending.owed_offsets >= len(TEXTS) - 20, 30, "the stack to overflow")
        late = [f"You hear {n} bells." for n in range(5)]
        publish(settings, late)
        wait_until(lambda: one.process.summary.consumed == len(TEXTS) + 5, 30, "the late ones to be read")
        held.open.set()
        wait_for_labels(settings, len(TEXTS) + 5)
        order = [r.timestamp for r in records(settings, "labels") if r.key[8:] in map(ids.caption_id, late)]
        others = [r.timestamp for r in records(settings, "labels")]
        assert sorted(order)[-1] <= sorted(others)[len(others) // 2]
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 30, "every offset")
        one.stop()
    assert_each_exactly_once(settings, specs, TEXTS + late)


def test_a_persons_word_is_not_overwritten_and_a_withdrawn_label_is_asked_for_again(
    settings: Settings,
) -> None:
    specs, _ = rules_specs()
    (spec_id,) = specs
    text, key = TEXTS[0], ids.label_key(spec_id, ids.caption_id(TEXTS[0]))
    partition = int.from_bytes(ids.caption_id(text)[8:16], "little") % settings.partitions
    person = codec.encode(Label(Verdict.UNSURE, partition, -1, 1, 1, "a person"))
    producer = clients.producer(settings)

    def say(value: bytes | None) -> None:
        producer.send(settings.topic_prefix + "labels", key=key, value=value, partition=partition).get(10)

    with annotator(settings) as one:
        wait_until(lambda: len(one.partitions) == settings.partitions, 30, "partitions")
        tables: dict[int, LabelTable] = one.process._annotator._tables
        say(person)
        wait_until(lambda: tables[partition].contains(spec_id, key[8:]), 10, "the person's word to arrive")
        publish(settings, TEXTS)
        wait_for_labels(settings, len(TEXTS))
        assert label_keys(settings)[key] == 1
        say(None)
        wait_until(lambda: not tables[partition].contains(spec_id, key[8:]), 10, "the withdrawal to arrive")
        publish(settings, [text])
        wait_until(lambda: label_keys(settings)[key] == 3, 20, "a label of the annotator's own")
    producer.close()


@pytest.mark.slow
def test_a_second_annotator_of_the_same_name_is_told_so(settings: Settings) -> None:
    """They fence each other: one of them must give up, with a line that says why."""
    publish(settings, TEXTS)
    with annotator(settings, "same") as one, annotator(settings, "same") as two:

        def keep_busy() -> bool:
            publish(settings, [f"{TEXTS[0]} {os.urandom(4).hex()}" for _ in range(20)])
            return one.error is not None or two.error is not None

        wait_until(keep_busy, 60, "one of them to give up")
        loser = one if one.error is not None else two
        assert isinstance(loser.error, OnibusError)
        assert "--name" in str(loser.error)
        other = two if loser is one else one
        other.stop()


COMMAND = ("annotate", "--backlog", "all", "--yes")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_cleanly_in_the_middle_of_its_work(settings: Settings, number: int) -> None:
    texts = [f"You kill the newt {n}!" for n in range(20_000)]
    publish(settings, texts)
    environment = environment_of(settings)
    child = start_onibus(*COMMAND, "--name", "a1", environment=environment, stderr=subprocess.PIPE)
    wait_for_labels(settings, 1)
    child.send_signal(number)
    _, log = child.communicate(timeout=10)
    assert child.returncode == 0, log
    assert "ready: annotator a1 of group" in log
    assert "Traceback" not in log
    counts = label_keys(settings)
    assert 0 < len(counts) < len(texts)
    assert set(counts.values()) == {1}
    last = log.strip().splitlines()[-1]
    assert f"{len(counts):,} labels" in last


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--spec", "goal"], "did you mean goals?"),
        (["--spec", "nowhere/at-all.toml"], "cannot read the spec file"),
        (["--llm", "openai", "--model", "m"], "--base-url"),
        (["--llm", "openai", "--base-url", "http://127.0.0.1:1/v1"], "--model"),
        (["--bootstrap-servers", "127.0.0.1:1"], "127.0.0.1:1"),
        (["--topic-prefix", "nothing-there."], "onibus topics create"),
        (["--partitions", "5"], "partitions 4, not 5"),
    ],
)
def test_bad_input_ends_with_one_clear_line(settings: Settings, flags: list[str], complaint: str) -> None:
    environment = environment_of(settings)
    done = run_onibus(*COMMAND, *flags, folder=settings.runs_dir, environment=environment)
    assert complaint in the_one_line(done)


def test_a_model_that_takes_for_ever_to_start_keeps_no_annotator_from_stopping(settings: Settings) -> None:
    class Loading(HeldModel):
        begun = threading.Event()

        async def check(self) -> None:
            self.begun.set()
            while not self.open.is_set():
                await asyncio.sleep(0.01)

    _, rules = rules_specs()
    loading = Loading(rules)
    with annotator(settings, model=loading) as one:
        try:
            assert loading.begun.wait(timeout=20)
            began = time.monotonic()
            assert one.stop().labels == 0
            assert time.monotonic() - began < 5
        finally:
            loading.open.set()
