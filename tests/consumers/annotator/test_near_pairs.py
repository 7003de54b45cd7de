"""``--near-pairs``: captions are compared that the reward model scores alike, and still each pair once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from onibus.consumers.annotator.comparing import Comparing
from onibus.consumers.annotator.comparison_labels import ComparisonLabels
from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Partner
from onibus.consumers.annotator.model_scores import FollowedModels
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.reward_models.character_cnn import caption_scores, to_bytes, to_rows
from onibus.consumers.reward_models.publisher import VersionWriter
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.consumers.reward_models.transfer import model_name
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Kind, Verdict
from tests.consumers.annotating import (
    annotator,
    caption_ends,
    committed_offsets,
    publish,
    records,
    rules_specs,
)
from tests.consumers.reward_models.annotation_logs import HELPFUL_TEXTS, TEXTS, annotation
from tests.waiting import wait_until

SPEC_ID = b"compared"
CAPTIONS = [f"caption {n}" for n in range(40)]


def number_of(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(text.split()[1]) for text in texts])


def leading(text: str) -> PendingCaption:
    return PendingCaption(0, 0, ids.caption_id(text), text, 1, b"")


def partners_of(text: str, compared: Comparing, owed: int = 4) -> list[str]:
    missing = compared.missing(ComparisonLabels(comparing=[SPEC_ID]), SPEC_ID, leading(text), owed)
    return [other for subject in missing for other in subject.texts if other != text]


def test_of_the_captions_of_lesser_id_those_are_taken_that_score_nearest() -> None:
    pool = ComparisonPartners()
    pool.add([Partner(ids.caption_id(text), text, 0, n) for n, text in enumerate(CAPTIONS)])
    last = max(CAPTIONS, key=lambda text: ids.order_of(ids.caption_id(text)))
    compared = Comparing(pool, 4)
    anyhow = partners_of(last, compared)
    compared.scores = lambda _, texts: None
    assert partners_of(last, compared) == anyhow, "there is no model yet"
    compared.scores = lambda _, texts: number_of(texts)
    near = partners_of(last, compared)
    offered = [pair.partner.text for pair in pool.pairs(ids.caption_id(last), last, 32)]
    distance = {text: abs(number_of([text])[0] - number_of([last])[0]) for text in offered}
    assert sorted(map(distance.__getitem__, near)) == sorted(distance.values())[:4]
    assert partners_of(last, compared, owed=1) == near[:1]


def compared_log(spec_id: bytes) -> list[Annotation]:
    """Helpful captions preferred to others."""
    return [
        replace(
            annotation(one), spec_id=spec_id, texts=(one, other), verdict=Verdict.FIRST,
            subject_id=ids.pair_id(ids.caption_id(one), ids.caption_id(other)),
        )
        for one in HELPFUL_TEXTS
        for other in TEXTS
        if other not in HELPFUL_TEXTS
    ]  # fmt: skip


@pytest.mark.slow
def test_an_annotator_compares_by_the_newest_model_of_its_spec_and_judges_no_pair_twice(
    settings: Settings,
) -> None:
    specs, model = rules_specs("keys-and-doors-pairs")
    ((spec_id, spec),) = specs.items()
    name, bus_codec = model_name(spec.name, spec_id), codec_for(settings)
    trainer = RewardTrainer(name, spec_id, 3, kind=Kind.COMPARE_TWO)
    for offset, one in enumerate(compared_log(spec_id)):
        trainer.see(0, offset, one)
    writer, scores = VersionWriter(settings, bus_codec, name), FollowedModels(settings, specs)
    try:
        assert scores.scores(spec_id, TEXTS) is None
        version = trainer.train()
        assert version is not None
        writer.open(threading.Event())
        assert writer.publish(version, threading.Event())
        wait_until(lambda: scores.scores(spec_id, TEXTS) is not None, 30, "the model")
        expected = caption_scores(trainer.network, to_rows([to_bytes(text) for text in TEXTS]))
        assert np.allclose(scores.scores(spec_id, TEXTS), expected)
    finally:
        scores.close()
        writer.close()

    publish(settings, TEXTS)
    with annotator(settings, "a1", specs, model, near_pairs=True):
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 60, "all judged")
    found = [codec.decode(Annotation, record.value) for record in records(settings, "annotations")]
    assert max(Counter(frozenset(one.texts) for one in found).values()) == 1
    assert max(Counter(ids.leader_of(one.texts) for one in found).values()) <= 4
