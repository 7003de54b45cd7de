"""The networks behind reward models: what they see, and what they are called."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    NETWORKS,
    PUBLISHED,
    SCORE,
    USUAL,
    CharacterCNN,
    NetworkDesign,
    architecture,
    caption_scores,
    network_named,
    network_of,
    to_bytes,
    to_rows,
)
from onibus.infra.errors import OnibusError

PLACES = [to_bytes(f"{'.' * start}You find a key.{'.' * (120 - start)}") for start in (30, 60, 90)]
"""The same words in the middle of others, at places that are apart by a multiple of the pool."""


def judged(name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    torch.manual_seed(3)
    return caption_scores(CharacterCNN(SCORE, NETWORKS[name]), to_rows(PLACES))


def test_words_are_worth_the_same_wherever_they_stand_under_the_usual_network_alone() -> None:
    assert np.ptp(judged(USUAL)) < 1e-6
    assert np.ptp(judged("published")) > 1e-4


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("outputs", [CLASSES, SCORE])
def test_a_network_is_known_again_by_its_architecture(name: str, outputs: int) -> None:
    assert network_of(architecture(outputs, NETWORKS[name]), outputs) == NETWORKS[name]
    assert network_of(architecture(outputs, NETWORKS[name]), 3 - outputs) is None
    out = CharacterCNN(outputs, NETWORKS[name])(torch.zeros((2, 256), dtype=torch.uint8))
    assert out.shape == (2, outputs)


def test_models_made_before_there_were_others_are_known_again() -> None:
    fields = {"embedding", "channels", "kernels", "pooled_after", "hidden", "pool"}
    fields |= {"name", "caption_bytes", "outputs"}
    for network in ("published-0.1", "small", "large"):
        assert set(json.loads(architecture(CLASSES, NETWORKS[network]))) == fields
    assert set(json.loads(architecture(CLASSES))) == fields | {"max_over_time", "learning_rate"}


@pytest.mark.parametrize(
    ("outputs", "widths", "parameters"),
    [(CLASSES, [128, 512, 512, 2], 471_554), (SCORE, [128, 256, 512, 1], 306_945)],
)
def test_the_published_network_has_the_published_heads(
    outputs: int, widths: list[int], parameters: int
) -> None:
    network = CharacterCNN(outputs, PUBLISHED)
    dense = [layer for layer in network.head if isinstance(layer, torch.nn.Linear)]
    assert dense[0].in_features == 320
    assert [layer.out_features for layer in dense] == widths
    assert sum(p.numel() for p in network.parameters()) == parameters
    dropouts = [layer.p for layer in network.head if isinstance(layer, torch.nn.Dropout)]
    assert dropouts == ([0.1] if outputs == CLASSES else [])
    assert (PUBLISHED.batch, PUBLISHED.learning_rate, PUBLISHED.hidden_bytes) == (256, 1e-4, 0.0)


def test_captions_laid_end_to_end_have_the_outputs_and_gradients_of_whole_ones() -> None:
    torch.manual_seed(5)
    network = CharacterCNN(CLASSES)
    rows = torch.tensor(to_rows([random_bytes(length) for length in range(257)]))
    rows[40, 10] = 0  # a zero within a caption does not end it
    packed, whole = network(rows), network._whole(rows)
    torch.testing.assert_close(packed, whole, rtol=0, atol=1e-6)
    gradients = [
        torch.autograd.grad(outputs.square().sum(), list(network.parameters())) for outputs in (packed, whole)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert network(rows[:0]).shape == (0, CLASSES)


def random_bytes(length: int) -> bytes:
    return bytes(torch.randint(1, 256, (length,), dtype=torch.uint8).tolist())


def test_an_unknown_network_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(OnibusError, match="no network huge; choose one of max-over-time, published"):
        network_named("huge")


def test_a_network_whose_captions_cannot_be_laid_end_to_end_is_refused() -> None:
    with pytest.raises(ValueError, match="after its first convolution"):
        NetworkDesign(32, 64, (7, 5, 3), (0, 1), 128, max_over_time=True)


@pytest.mark.integration
def test_a_process_that_judges_prints_nothing_of_its_own() -> None:
    program = (
        "import torch; from onibus.consumers.reward_models.character_cnn import CharacterCNN;"
        "print(CharacterCNN()(torch.zeros((1, 256), dtype=torch.uint8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("torch.Size([1, 2])\n", "")
