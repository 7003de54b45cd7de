"""What the learner makes of reward models: scores of whole, fitting versions, each caption scored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from threading import Event, Thread

import numpy as np
import pytest
import torch

from onibus.consumers.reward_models.character_cnn import CLASSES, NETWORKS, SCORE, CharacterCNN, architecture
from onibus.consumers.reward_models.model_file import ModelFile, Provenance
from onibus.consumers.reward_models.transfer import WholeFile
from onibus.learner.rewards import scores as model_scores
from onibus.learner.rewards.formulas import ModelReward, SpecReward
from onibus.learner.rewards.score_to_reward import AboveThreshold
from onibus.learner.rewards.scores import ModelInUse, ModelScores
from onibus.schemas.ids import caption_id, lookup_id
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID

ARCHITECTURE = architecture(CLASSES)

TEXTS = {lookup_id(caption_id(text)): text for text in ("You find a key.", "It is dark.", "Ouch!")}
MODEL_IN_USE = ModelInUse(MODEL, 1, "", 0, 0.0)
IDS = np.array([[*TEXTS, 0]], np.int64)


def version_file(number: int, says: float, **changed: object) -> WholeFile:
    """A version that gives every caption the same p(helpful), near 0 or 1 as ``says`` is -9 or 9."""
    network = CharacterCNN()
    last = network.head[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, says]))
    made = Provenance(
        MODEL, number, ARCHITECTURE, SPEC_ID.hex(), 0, {"0": 5}, 32 * number, 5, torch.__version__
    )
    data = ModelFile(replace(made, **changed), network.state_dict(), {}).to_bytes()  # type: ignore[arg-type]
    return whole(number, data)


def whole(number: int, data: bytes) -> WholeFile:
    return WholeFile(MODEL, number, data, sha256(data).digest())


def rewarding(scores: ModelScores, ids: np.ndarray, spec_id: bytes = SPEC_ID) -> list[bool | None]:
    """Whether each caption is above one half; None without a score."""
    return [None if np.isnan(x) else bool(x > 0.5) for x in scores.scores(spec_id, ids).reshape(-1)]


def judging() -> ModelScores:
    return ModelScores(AboveThreshold(0.5), ranks=False)


def test_before_the_first_version_nothing_has_a_score() -> None:
    scores = judging()
    scores.add(TEXTS)
    assert rewarding(scores, IDS) == [None] * 4
    assert scores.in_use(SPEC_ID) is None


def test_a_new_version_scores_what_is_at_hand_and_what_a_batch_brings_later() -> None:
    scores = judging()
    (first, text), *others = TEXTS.items()
    scores.add({first: text})
    assert scores.take(SPEC_ID, version_file(1, 9.0), 1.0)
    assert rewarding(scores, IDS) == [True, None, None, None]
    scores.add(dict(others))
    scores.complete(IDS.reshape(-1))
    assert rewarding(scores, IDS) == [True, True, True, None]
    assert scores.take(SPEC_ID, version_file(2, -9.0), 2.0)
    assert rewarding(scores, IDS) == [False, False, False, None]
    assert rewarding(scores, IDS, bytes(8)) == [None] * 4, "another specification"
    model = scores.in_use(SPEC_ID)
    assert model is not None
    assert (model.version, model.labels, model.written_at) == (2, 5, 2.0)


def test_another_network_judges_too() -> None:
    small, scores = NETWORKS["small"], judging()
    made = Provenance(MODEL, 1, architecture(CLASSES, small), SPEC_ID.hex(), 0, {}, 32, 5, torch.__version__)
    scores.add(TEXTS)
    assert scores.take(
        SPEC_ID, whole(1, ModelFile(made, CharacterCNN(CLASSES, small).state_dict(), {}).to_bytes()), 1.0
    )
    assert None not in rewarding(scores, IDS[:, :3])


def test_scores_have_the_shape_of_the_ids_and_belong_to_them() -> None:
    scores = judging()
    scores.use(SPEC_ID, lambda captions: np.array([len(c) for c in captions], np.float32), MODEL_IN_USE)
    scores.add(TEXTS)
    scores.complete(IDS.reshape(-1))
    for number, text in TEXTS.items():
        assert scores.scores(SPEC_ID, np.array([[number], [7]])).tolist()[0] == [len(text)]
    assert scores.scores(SPEC_ID, IDS).shape == IDS.shape


@pytest.mark.parametrize(
    "refused",
    [
        version_file(2, 9.0, architecture='{"name": "another"}'),
        version_file(2, 9.0, architecture=ARCHITECTURE.replace("256", "128")),
        version_file(2, 9.0, architecture=architecture(SCORE)),
        whole(2, b"no safetensors at all"),
        whole(2, ModelFile(Provenance("m", 2, ARCHITECTURE, "", 0, {}, 0, 0, ""), {}, {}).to_bytes()),
    ],
    ids=["architecture", "caption length", "a ranking", "not safetensors", "no weights"],
)
def test_what_does_not_fit_is_refused_with_one_line_and_the_last_good_one_stays(
    refused: WholeFile, caplog: pytest.LogCaptureFixture
) -> None:
    scores = judging()
    scores.add(TEXTS)
    scores.take(SPEC_ID, version_file(1, -9.0), 1.0)
    assert not scores.take(SPEC_ID, refused, 2.0)
    assert rewarding(scores, IDS)[:3] == [False] * 3
    model = scores.in_use(SPEC_ID)
    assert model is not None
    assert model.version == 1
    (line,) = caplog.messages
    assert "version 2" in line
    assert "\n" not in line


def test_each_caption_is_scored_once_by_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = 0
    original = model_scores.helpful_probability

    def counting(network: CharacterCNN, rows: np.ndarray) -> np.ndarray:
        nonlocal judged
        judged += len(rows)
        return original(network, rows)

    monkeypatch.setattr(model_scores, "helpful_probability", counting)
    scores = judging()
    scores.take(SPEC_ID, version_file(1, 9.0), 1.0)
    for _ in range(3):
        scores.add(TEXTS)
        scores.complete(IDS.reshape(-1))
        scores.scores(SPEC_ID, np.repeat(IDS, 100, axis=0))
    assert judged == len(TEXTS)


def test_captions_not_seen_for_the_longest_time_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_scores, "MOST_BYTES", 500)
    scores = judging()
    scores.take(SPEC_ID, version_file(1, 9.0), 1.0)
    scores.add(TEXTS)
    scores.complete(IDS.reshape(-1))
    oldest, *_ = TEXTS
    scores.add({oldest: TEXTS[oldest]})  # seen again: no longer the oldest
    scores.add({77: "something new"})
    wanted = np.array([oldest, list(TEXTS)[1], 77])
    scores.complete(wanted)
    assert rewarding(scores, wanted) == [True, None, True]


def test_what_a_version_did_not_score_ahead_is_scored_when_it_comes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_scores, "SCORED_AHEAD", 1)
    scores = judging()
    scores.add(TEXTS)
    scores.take(SPEC_ID, version_file(1, 9.0), 1.0)
    assert rewarding(scores, IDS)[:3] == [None, None, True]
    reward = ModelReward(scores, 3.0)
    reward.specs = [SpecReward(SPEC_ID, 1.0)]
    batch = reward(IDS, np.array([[1, 1, 1, 0]]))
    assert batch.intrinsic.tolist() == [[1, 1, 1, 0]]
    assert (batch.first_sights, batch.unscored) == (3, 0)


def test_captions_whose_words_are_not_to_be_had_count_as_unscored() -> None:
    scores = judging()
    scores.take(SPEC_ID, version_file(1, 9.0), 1.0)
    reward = ModelReward(scores, 3.0)
    reward.specs = [SpecReward(SPEC_ID, 1.0)]
    batch = reward(np.array([5, 5, 0]), np.array([1, 2, 0]))
    assert (batch.first_sights, batch.unscored) == (1, 1)
    assert not batch.intrinsic.any()


def test_a_swap_does_not_keep_the_learner_waiting_and_loses_no_score() -> None:
    scores = judging()
    scores.add(TEXTS)
    entered, go_on = Event(), Event()

    def slow(captions: Sequence[bytes]) -> np.ndarray:
        entered.set()
        assert go_on.wait(20)
        return np.ones(len(captions), np.float32)

    swap = Thread(target=scores.use, args=(SPEC_ID, slow, MODEL_IN_USE))
    swap.start()
    try:
        assert entered.wait(20)
        scores.add({77: "something new"})  # would hang here
        scores.complete(np.array([77]))
    finally:
        go_on.set()
        swap.join()
    scores.complete(np.array([77]))
    assert rewarding(scores, np.array([*TEXTS, 77])) == [True] * 4
