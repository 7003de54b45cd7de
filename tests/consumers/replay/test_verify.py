"""``onibus replay verify``: models and labels made again from the log, and what it says when they are not."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from onibus.consumers.replay.verify_models import TrainingCheck
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.processor import processor
from onibus.consumers.reward_models.publisher import newest_version
from onibus.consumers.reward_models.transfer import cut, model_name
from onibus.consumers.reward_models.version_reader import trainings
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.settings import Settings, environment_of
from onibus.infra.version import version
from onibus.schemas import codec, ids
from onibus.schemas.records import Kind, RewardUpdate, Verdict
from tests.command import OnibusProcess
from tests.consumers.annotating import annotator, publish, records, rules_specs
from tests.consumers.replay.running import exit_code, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    MODEL,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
    updates,
)
from tests.consumers.reward_models.test_loop import trainer_in_a_thread
from tests.waiting import wait_until

PAIRS_NAME = f"{SPEC_NAME}-pairs"


def of_model(settings: Settings, model: str) -> list[RewardUpdate]:
    return [update for update in updates(settings) if update.model == model]


def compact_eagerly(settings: Settings, *topics: str) -> None:
    eager = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    with clients.admin(settings) as admin:
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, settings.topic_prefix + t, eager) for t in topics]
        )


def test_a_clock_that_was_set_back_makes_no_time_below_zero() -> None:
    check = TrainingCheck("goals", versions=2, identical=2, replay_seconds=1.0, online_seconds=-691_200.0)
    assert check.line == "goals: 2 of 2 versions identical, made again in 1.0 s"


@pytest.mark.slow
def test_runs_that_were_killed_and_labels_that_were_corrected_come_out_bit_for_bit(
    settings: Settings,
) -> None:
    compact_eagerly(settings, "labels", "reward-models")
    texts = TEXTS[:14]
    specs, rules = rules_specs(SPEC_NAME, PAIRS_NAME)
    pairs_id = next(spec_id for spec_id, spec in specs.items() if spec.kind is Kind.COMPARE_TWO)
    pairs_model = model_name(PAIRS_NAME, pairs_id)
    killed = OnibusProcess(
        "trainer", ("train-reward", "--spec", SPEC_NAME, "--seed", "3"), settings.runs_dir / "log"
    )
    with annotator(settings, specs=specs, model=rules):
        publish(settings, texts[:8])
        killed.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
        with trainer_in_a_thread(settings, PAIRS_NAME, pairs_id, Kind.COMPARE_TWO) as errors:
            wait_until(lambda: of_model(settings, MODEL), 100, "a version")
            assert killed.process is not None
            killed.process.kill()
            killed.process.wait()
            onibus(settings, "labels", "set", TEXTS[0], "unhelpful", "--spec", SPEC_NAME)
            onibus(settings, "labels", "withdraw", TEXTS[3], "--yes")
            wait_until(lambda: of_model(settings, pairs_model), 60, "a version of the ranking model")
        publish(settings, texts[8:])
        with (
            trainer_in_a_thread(settings) as more_errors,
            trainer_in_a_thread(settings, PAIRS_NAME, pairs_id, Kind.COMPARE_TWO),
        ):
            before = len(of_model(settings, pairs_model))
            wait_until(
                lambda: of_model(settings, MODEL)[-1].metrics["labels"] == len(texts) - 1, 100, "all labels"
            )
            wait_until(
                lambda: len(of_model(settings, pairs_model)) > before, 60, "the ranking model to go on"
            )
    assert not errors + more_errors
    told = onibus_json(settings, "replay", "verify")
    assert {(t["model"], t["identical"]) for t in told["trainings"]} == {
        (model, len(of_model(settings, model))) for model in (MODEL, pairs_model)
    }
    assert told["labels"]["differences"] == []
    assert told["labels"]["labels"] >= 2 * len(texts) - 2
    assert f"{len(of_model(settings, MODEL))} of" in onibus(
        settings, "replay", "verify", MODEL, "--no-labels"
    )


def test_another_log_is_told_with_the_first_version_that_differs_and_how_far(settings: Settings) -> None:
    log = [annotation(text) for text in TEXTS[:8]]
    publish_annotations(settings, log)
    with trainer_in_a_thread(settings):
        wait_until(lambda: len(updates(settings)) >= 2, 60, "two versions")
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}elsewhere."})
    create_topics(elsewhere)
    last = max(range(8), key=lambda n: n if updates(settings)[0].metrics["labels"] <= n else -1)
    log[last] = annotation(log[last].texts[0], Verdict.UNSURE)
    publish_annotations(elsewhere, log)
    copy(settings, elsewhere, "reward-updates", "reward-models")
    assert exit_code(elsewhere, "replay", "verify", "--no-labels") == 1
    check = checked(elsewhere)
    assert check.first_different is not None
    assert check.identical == check.first_different - 1 < check.versions
    assert check.apart is not None
    assert 0 < check.apart.largest < 1
    assert "is the first that differs" in check.line


def test_equal_weights_made_by_another_torch_are_identical(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    whole = newest_version(settings, MODEL)
    assert whole is not None
    file = read_model_file(whole.data)
    theirs = replace(file, provenance=replace(file.provenance, torch_version="1.0.0")).to_bytes()
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}elsewhere."})
    create_topics(elsewhere)
    publish_annotations(elsewhere, [annotation(text) for text in TEXTS[:4]])
    (update,) = updates(settings)
    other = replace(update, torch_version="1.0.0", weights_sha256=sha256(theirs).digest())
    send(elsewhere, "reward-updates", [(MODEL.encode(), codec.encode(other))])
    send(elsewhere, "reward-models", [(b"", codec.encode(chunk)) for chunk in cut(MODEL, 1, theirs)])
    check = checked(elsewhere)
    assert (check.identical, check.versions, check.torch_versions) == (1, 1, ("1.0.0",))


@pytest.mark.parametrize(
    ("theirs", "named"),
    [("Another CPU (AVX512)", "Another CPU (AVX512)"), ("", "a processor that was not recorded")],
)
def test_what_another_processor_made_is_said_to_be(settings: Settings, theirs: str, named: str) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    (update,) = updates(settings)
    assert update.processor == processor()
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}elsewhere."})
    create_topics(elsewhere)
    publish_annotations(elsewhere, [annotation(text) for text in TEXTS[:4]])
    other = replace(update, processor=theirs, weights_sha256=bytes(32))
    send(elsewhere, "reward-updates", [(MODEL.encode(), codec.encode(other))])
    line = checked(elsewhere).line
    assert "0 of 1 versions identical" in line
    assert f"(made on {named}, this is {processor()})" in line


@pytest.mark.parametrize(("theirs", "named"), [("0.0.9", "onibus 0.0.9"), ("", "onibus 0.1.0 or older")])
def test_versions_of_another_onibus_name_it_and_are_no_failure(
    settings: Settings, theirs: str, named: str
) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    update = updates(settings)[0]
    assert update.onibus == version()
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}elsewhere."})
    create_topics(elsewhere)
    publish_annotations(elsewhere, [annotation(text) for text in TEXTS[:4]])
    other = replace(update, onibus=theirs, weights_sha256=bytes(32))
    send(elsewhere, "reward-updates", [(MODEL.encode(), codec.encode(other))])
    line = checked(elsewhere).line
    assert f"version 1 was made by {named}" in line
    assert "differs" not in line
    assert exit_code(elsewhere, "replay", "verify", "--no-labels") == 0


def checked(settings: Settings):  # type: ignore[no-untyped-def]
    from onibus.consumers.replay.verify_models import verify_training
    from onibus.consumers.reward_models.version_reader import read_updates
    from onibus.consumers.specs.known_specs import KnownSpecs

    (training,) = trainings(read_updates(settings))
    return verify_training(settings, training, KnownSpecs.read(settings))


def copy(source: Settings, target: Settings, *topics: str) -> None:
    """The records of single-partition topics, bit for bit."""
    for topic in topics:
        send(target, topic, [(record.key, record.value) for record in records(source, topic)])


def send(settings: Settings, topic: str, pairs: list[tuple[bytes, bytes]]) -> None:
    producer = clients.producer(settings)
    for key, value in pairs:
        producer.send(settings.topic_prefix + topic, key=key, value=value, partition=0)
    producer.flush()
    producer.close()


def test_a_label_that_the_log_does_not_explain_is_told(settings: Settings) -> None:
    publish(settings, [KEY_FOUND, TEXTS[1]])
    specs, rules = rules_specs(SPEC_NAME)
    (spec_id,) = specs
    with annotator(settings, specs=specs, model=rules):
        wait_until(lambda: len(records(settings, "labels")) == 2, 30, "labels")
    wait_until(lambda: "labels: all 2" in onibus(settings, "replay", "verify"), 10, "a quiet log")
    key = ids.label_key(spec_id, ids.caption_id(KEY_FOUND))
    producer = clients.producer(settings)
    partition = next(r.partition for r in records(settings, "labels") if r.key == key)
    producer.send(settings.topic_prefix + "labels", key=key, value=None, partition=partition)
    producer.flush()
    producer.close()
    from onibus.consumers.replay.verify_labels import verify_labels

    # An annotation of the last second may still be on its way to the label topic, so it takes so long.
    wait_until(lambda: verify_labels(settings).differences, 10, "the difference")
    (difference,) = verify_labels(settings).differences
    assert (difference.subject_id, difference.on_topic) == (key[8:], None)
    assert difference.by_log is Verdict.HELPFUL


def test_a_log_that_was_cut_names_what_is_missing(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    topic = f"{settings.topic_prefix}annotations"
    with clients.admin(settings) as admin:
        admin.delete_records({TopicPartition(topic, 2): 3})
    for command in (
        ("labels", "list"),
        ("labels", "export", settings.runs_dir / "x.jsonl"),
        ("replay", "verify"),
    ):
        line = refusal(settings, *command)
        assert "partition 2: offsets 0 to 2" in line, command
        assert topic in line


def test_a_partition_that_is_missing_is_named(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with clients.admin(settings) as admin:
        admin.create_partitions({f"{settings.topic_prefix}labels": settings.partitions + 1})
    onibus(settings, "labels", "list")  # nothing is there: it stays unused
    wait_until(lambda: label_in(settings, settings.partitions), 20, "the new partition to be known")
    assert "annotations has no partition 4" in refusal(settings, "labels", "list")


def label_in(settings: Settings, partition: int) -> bool:
    producer = clients.producer(settings)
    topic = f"{settings.topic_prefix}labels"
    try:
        if partition not in producer.partitions_for(topic):
            return False
        producer.send(topic, key=bytes(24), value=None, partition=partition).get(timeout=10)
        return True
    finally:
        producer.close()


def test_a_model_of_a_spec_that_nobody_announced_is_named(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    stranger = replace(update(1, "stranger-00"), spec_ids=(bytes(8),))
    send(settings, "reward-updates", [(b"stranger-00", codec.encode(stranger))])
    line = refusal(settings, "replay", "verify")
    assert f"spec {bytes(8).hex()} was never announced" in line
    assert f"{SPEC_NAME} (" in line


def update(version: int, model: str = "m") -> RewardUpdate:
    return RewardUpdate(model, version, "", (), 0, {}, 0, 1, "", {}, {}, bytes(32), 0)


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ([], []),
        ([1, 2, 3], [[1, 2, 3]]),
        ([1, 2, 1, 2, 3], [[1, 2], [1, 2, 3]]),
    ],
)
def test_a_training_that_began_anew_is_another(versions: list[int], found: list[list[int]]) -> None:
    assert [[u.version for u in t.versions] for t in trainings(map(update, versions))] == found


@pytest.mark.parametrize(("versions", "missing"), [([2], "1 to 1"), ([1, 4], "2 to 3")])
def test_missing_versions_are_named(versions: list[int], missing: str) -> None:
    with pytest.raises(OnibusError, match=f"versions {missing} of reward model m are missing"):
        trainings(map(update, versions))
    with pytest.raises(OnibusError, match="stands on reward-updates again"):
        trainings(map(update, [1, 2, 2]))
