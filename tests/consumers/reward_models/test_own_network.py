"""A network of the user's own learns, is resumed and is known again as the character CNN is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    SCORE,
    caption_scores,
    helpful_probability,
    network_named,
    network_of,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.own_network import OwnNetwork, own_network, why_unknown
from onibus.consumers.reward_models.trainer import RewardTrainer, objective_of
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Kind, Verdict
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID, TEXTS, annotation, verdict_of
from tests.consumers.reward_models.test_ranking import compared

EXAMPLE = "onibus.infra.examples.ngram_network:Network"
MODULE = """\
__version__ = "{version}"
import torch
from torch import nn
class Network(nn.Module):
    hidden_bytes = 0.1
    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(256, outputs)
    def forward(self, captions):
        return self.head(captions.float())
class Wide(Network):
    def __init__(self, outputs):
        super().__init__(outputs + 1)
class Untaught(Network):
    def __init__(self, outputs):
        super().__init__(outputs)
        self.requires_grad_(False)
class Failing(Network):
    def forward(self, captions):
        raise KeyError("no words")
"""


def trained(trainer: RewardTrainer, texts: list[str], versions: int) -> list[bytes]:
    files = []
    for offset, text in enumerate(texts):
        trainer.see(0, offset, annotation(text))
    for _ in range(versions):
        version = trainer.train()
        assert version is not None
        files.append(version.file.to_bytes())
    return files


def test_it_learns_and_its_bits_follow_from_log_and_seed_alone() -> None:
    def trainer(resumed: bytes | None = None) -> RewardTrainer:
        objective = objective_of(Kind.JUDGE_ONE, own_network(EXAMPLE))
        file = None if resumed is None else read_model_file(resumed)
        return RewardTrainer(MODEL, SPEC_ID, 7, file, objective=objective)

    files = trained(trainer(), TEXTS, 3)
    assert trained(trainer(), TEXTS, 3) == files
    assert trained(trainer(files[0]), TEXTS, 2) == files[1:]

    told = read_model_file(files[-1]).provenance.architecture
    assert '"onibus.infra.examples.ngram_network:Network"' in told
    known = network_of(told, CLASSES)
    assert isinstance(known, OwnNetwork)
    network = known.make(CLASSES)
    network.load_state_dict(dict(read_model_file(files[-1]).weights))
    probability = helpful_probability(network, to_rows([to_bytes(text) for text in TEXTS]))
    assert [p > 0.5 for p in probability] == [verdict_of(text) is Verdict.HELPFUL for text in TEXTS]
    unseen = to_rows([to_bytes("z - a key named The Master Key of Thievery."), to_bytes("A dark part.")])
    assert np.diff(helpful_probability(network, unseen))[0] < -0.2


def test_it_learns_an_order_from_comparisons_too() -> None:
    objective = objective_of(Kind.COMPARE_TWO, own_network(EXAMPLE))
    trainer = RewardTrainer(MODEL, SPEC_ID, 7, kind=Kind.COMPARE_TWO, objective=objective)
    for offset, pair in enumerate(combinations(TEXTS[:10], 2)):
        trainer.see(0, offset, compared(*pair))
    for _ in range(3):
        trainer.train()
    scores = caption_scores(trainer.network, to_rows([to_bytes(text) for text in TEXTS[:10]]))
    helpful = np.array([verdict_of(text) is Verdict.HELPFUL for text in TEXTS[:10]])
    assert scores[helpful].min() > scores[~helpful].max()


def test_one_that_began_with_it_goes_on_with_it_alone() -> None:
    objective = objective_of(Kind.JUDGE_ONE, own_network(EXAMPLE))
    (file,) = trained(RewardTrainer(MODEL, SPEC_ID, 7, objective=objective), TEXTS, 1)
    with pytest.raises(OnibusError, match=f"start it as it was .--network {EXAMPLE} --seed 7."):
        RewardTrainer(MODEL, SPEC_ID, 7, read_model_file(file))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "my_net.py"
    path.write_text(MODULE.format(version="1.0"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield path
    sys.modules.pop("my_net", None)


def test_what_stands_on_the_bus_has_no_module_imported(module: Path) -> None:
    told = '{"name": "my_net:Network", "outputs": 2, "version": "1.0"}'
    assert network_of(told, CLASSES) is None
    assert "my_net" not in sys.modules
    assert why_unknown(told) == "its network is my_net:Network 1.0; add --import my_net"
    made = network_named("my_net:Network")  # as a person names it
    assert made.hidden_bytes == 0.1
    assert network_of(told, CLASSES) == made
    assert network_of(told, SCORE) is None
    older = told.replace("1.0", "0.9")
    assert network_of(older, CLASSES) is None
    assert "its network is my_net:Network 0.9, and my_net is 1.0 here" in why_unknown(older)
    assert "does not know" in why_unknown('{"name": "another"}')


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_net:Wide", r"the network my_net:Wide must give float32 of shape \(n, 2\) for n captions"),
        ("my_net:Untaught", "the network my_net:Untaught has no parameters to train; give it a layer"),
        ("my_net:Failing", r"the network my_net:Failing failed: KeyError: 'no words' \(my_net.py, line 20\)"),
        ("my_net:Nothing", "--network my_net:Nothing: my_net has no Nothing"),
        ("no_net:Network", "--network no_net: there is no module no_net"),
        ("huge", "there is no network huge; choose one of max-over-time, .* or module:Class of your own"),
    ],
)
def test_what_is_wrong_with_one_is_said_in_one_line(module: Path, name: str, says: str) -> None:
    with pytest.raises(OnibusError, match=says):
        objective_of(Kind.JUDGE_ONE, network_named(name)).network()
