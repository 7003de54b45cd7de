"""What reward models believe of captions and pairs, as annotators follow them."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from onibus.consumers.annotator.model_scores import FollowedModels
from onibus.consumers.reward_models.character_cnn import helpful_probability, to_bytes, to_rows
from onibus.consumers.reward_models.publisher import VersionWriter
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.reward_models.transfer import chunk_key, model_name
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.schema_registry import TRIES
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.records import Kind
from tests.consumers.annotating import rules_specs
from tests.consumers.annotator.test_near_pairs import compared_log
from tests.consumers.reward_models.annotation_logs import HELPFUL_TEXTS, SPEC, SPEC_ID, TEXTS, annotation
from tests.consumers.reward_models.test_follower import chunks_of
from tests.infra.kafka.test_confluent_readers import in_confluent_format
from tests.schemas.small_registry import small_registry
from tests.waiting import wait_until

SUBJECTS = {
    Kind.JUDGE_ONE: [(text,) for text in TEXTS],
    Kind.COMPARE_TWO: [(HELPFUL_TEXTS[0], other) for other in TEXTS if other not in HELPFUL_TEXTS],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec_name", "kind"),
    [("keys-and-doors", Kind.JUDGE_ONE), ("keys-and-doors-pairs", Kind.COMPARE_TWO)],
)
def test_a_model_of_either_kind_gives_probabilities(settings: Settings, spec_name: str, kind: Kind) -> None:
    specs, _ = rules_specs(spec_name)
    ((spec_id, spec),) = specs.items()
    name, bus_codec = model_name(spec.name, spec_id), codec_for(settings)
    trainer = RewardTrainer(name, spec_id, 3, kind=kind)
    log = compared_log(spec_id) if kind is Kind.COMPARE_TWO else [annotation(text) for text in TEXTS]
    for offset, one in enumerate(log):
        trainer.see(0, offset, replace(one, spec_id=spec_id))
    writer, scores = VersionWriter(settings, bus_codec, name), FollowedModels(settings, specs)
    try:
        assert scores.probabilities(spec_id, SUBJECTS[kind]) is None
        version = trainer.train()
        assert version is not None
        writer.open(threading.Event())
        assert writer.publish(version, threading.Event())
        wait_until(lambda: scores.probabilities(spec_id, SUBJECTS[kind]) is not None, 30, "the model")
        found = scores.probabilities(spec_id, SUBJECTS[kind])
    finally:
        scores.close()
        writer.close()
    assert found is not None
    assert found.shape == (len(SUBJECTS[kind]),)
    assert np.all((found >= 0) & (found <= 1))
    if kind is Kind.JUDGE_ONE:
        rows = to_rows([to_bytes(text) for text in TEXTS])
        assert np.allclose(found, helpful_probability(trainer.network, rows))
    else:
        swapped = scores.probabilities(spec_id, [(other, one) for one, other in SUBJECTS[kind]])
        assert swapped is not None
        assert np.allclose(found, 1 - swapped)


def test_a_version_that_comes_while_the_registry_is_away_is_taken_when_it_is_back(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).reward_models
    with small_registry() as registry:
        confluent = in_confluent_format(settings, registry)
        bus_codec = codec_for(confluent)
        encoded = [(bus_codec.encode(topic, chunk), chunk_key(chunk)) for chunk in chunks_of(1, 9.0)]
        scores = FollowedModels(confluent, {SPEC_ID: SPEC})
        registry.is_away = True  # nothing was read yet, so the schema has to be asked for
        try:
            with clients.producer(settings) as producer:
                for value, key in encoded:
                    producer.send(topic, value, key)
            wait_until(lambda: registry.refused >= TRIES, 60, "questions to the registry")
            registry.is_away = False
            wait_until(lambda: scores.scores(SPEC_ID, TEXTS) is not None, 60, "the version")
        finally:
            scores.close()
