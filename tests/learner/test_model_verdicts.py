"""What the learner makes of reward models: verdicts of whole, fitting versions, each caption judged once."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from consumers.label_table import HELPFUL, UNHELPFUL
from consumers.reward_models.character_cnn import ARCHITECTURE, CharacterCNN
from consumers.reward_models.chunks import WholeFile
from consumers.reward_models.model_file import ModelFile, Provenance
from learner import model_verdicts
from learner.model_verdicts import ModelVerdicts
from schemas.ids import caption_id, lookup_id
from tests.consumers.reward_models import MODEL, SPEC_ID

TEXTS = {lookup_id(caption_id(text)): text for text in ("You find a key.", "It is dark.", "Ouch!")}
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


def test_before_the_first_version_nothing_has_a_verdict() -> None:
    verdicts = ModelVerdicts(0.5)
    verdicts.add(TEXTS)
    assert verdicts.verdicts(SPEC_ID, IDS).tolist() == [[0, 0, 0, 0]]
    assert verdicts.in_use(SPEC_ID) is None


def test_a_new_version_judges_what_is_at_hand_and_what_comes_later() -> None:
    verdicts = ModelVerdicts(0.5)
    (first, text), *others = TEXTS.items()
    verdicts.add({first: text})
    assert verdicts.take(SPEC_ID, version_file(1, 9.0), 1.0)
    assert verdicts.verdicts(SPEC_ID, IDS).tolist() == [[HELPFUL, 0, 0, 0]]
    verdicts.add(dict(others))
    assert verdicts.verdicts(SPEC_ID, IDS).tolist() == [[HELPFUL, HELPFUL, HELPFUL, 0]]
    assert verdicts.take(SPEC_ID, version_file(2, -9.0), 2.0)
    assert verdicts.verdicts(SPEC_ID, IDS).tolist() == [[UNHELPFUL, UNHELPFUL, UNHELPFUL, 0]]
    assert verdicts.verdicts(bytes(8), IDS).tolist() == [[0, 0, 0, 0]], "another specification"
    model = verdicts.in_use(SPEC_ID)
    assert model is not None
    assert (model.version, model.labels, model.written_at) == (2, 5, 2.0)


def test_the_threshold_decides() -> None:
    for threshold, expected in ((0.49, HELPFUL), (0.51, UNHELPFUL)):
        verdicts = ModelVerdicts(threshold)
        verdicts.add(TEXTS)
        verdicts.take(SPEC_ID, version_file(1, 0.0), 1.0)
        assert set(verdicts.verdicts(SPEC_ID, IDS)[0, :3]) == {expected}


@pytest.mark.parametrize(
    "refused",
    [
        version_file(2, 9.0, architecture='{"name": "another"}'),
        version_file(2, 9.0, architecture=ARCHITECTURE.replace("256", "128")),
        whole(2, b"no safetensors at all"),
        whole(2, ModelFile(Provenance("m", 2, ARCHITECTURE, "", 0, {}, 0, 0, ""), {}, {}).to_bytes()),
    ],
    ids=["architecture", "caption length", "not safetensors", "no weights"],
)
def test_what_does_not_fit_is_refused_with_one_line_and_the_last_good_one_stays(
    refused: WholeFile, caplog: pytest.LogCaptureFixture
) -> None:
    verdicts = ModelVerdicts(0.5)
    verdicts.add(TEXTS)
    verdicts.take(SPEC_ID, version_file(1, -9.0), 1.0)
    assert not verdicts.take(SPEC_ID, refused, 2.0)
    assert set(verdicts.verdicts(SPEC_ID, IDS)[0, :3]) == {UNHELPFUL}
    model = verdicts.in_use(SPEC_ID)
    assert model is not None
    assert model.version == 1
    (line,) = caplog.messages
    assert "version 2" in line
    assert "\n" not in line


def test_each_caption_is_judged_once_by_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = 0
    original = model_verdicts.helpful_probability

    def counting(network: CharacterCNN, rows: np.ndarray) -> np.ndarray:
        nonlocal judged
        judged += len(rows)
        return original(network, rows)

    monkeypatch.setattr(model_verdicts, "helpful_probability", counting)
    verdicts = ModelVerdicts(0.5)
    verdicts.take(SPEC_ID, version_file(1, 9.0), 1.0)
    for _ in range(3):
        missing = verdicts.unknown(TEXTS)
        verdicts.add({number: text for number, text in TEXTS.items() if number in missing})
        verdicts.verdicts(SPEC_ID, np.repeat(IDS, 100, axis=0))
    assert judged == len(TEXTS)


def test_captions_not_seen_for_the_longest_time_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_verdicts, "MOST_CAPTIONS", 3)
    verdicts = ModelVerdicts(0.5)
    verdicts.take(SPEC_ID, version_file(1, 9.0), 1.0)
    verdicts.add(TEXTS)
    oldest, *_ = TEXTS
    assert not verdicts.unknown([oldest])  # seen again: no longer the oldest
    verdicts.add({77: "something new"})
    known = verdicts.verdicts(SPEC_ID, np.array([oldest, list(TEXTS)[1], 77], np.int64))
    assert known.tolist() == [HELPFUL, 0, HELPFUL]
