"""``--device``: the same training on a CPU and on a GPU, and what is said where the GPU is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from onibus.consumers.reward_models.character_cnn import (
    NETWORKS,
    PUBLISHED,
    CharacterCNN,
    helpful_probability,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.classification import Classification
from onibus.consumers.reward_models.model_file import ModelFile, read_model_file
from onibus.consumers.reward_models.trainer import RewardTrainer
from onibus.infra.devices import gpu_name
from onibus.infra.settings import Settings
from onibus.schemas import codec
from tests.consumers.replay.running import exit_code, onibus, refusal
from tests.consumers.replay.test_verify import checked, of_model, send
from tests.consumers.reward_models.annotation_logs import (
    MODEL,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
    updates,
)
from tests.consumers.reward_models.test_loop import trainer_in_a_thread
from tests.waiting import wait_until

NO_GPU = "this machine has no GPU that torch can use; leave out --device gpu"
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@needs_no_gpu
def test_a_gpu_that_is_not_there_is_refused_in_the_words_of_learn(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    assert refusal(settings, "train-reward", "--spec", SPEC_NAME, "--device", "gpu") == NO_GPU
    out = settings.runs_dir / "model.safetensors"
    assert refusal(settings, "replay", "train", out, "--spec", SPEC_NAME, "--device", "gpu") == NO_GPU
    assert not out.exists()


@needs_no_gpu
def test_versions_of_a_gpu_are_named_so_and_not_made_again_elsewhere(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    first = updates(settings)[0]
    assert first.gpu == ""
    made = len(of_model(settings, MODEL))
    later = replace(updates(settings)[-1], version=made + 1, gpu="NVIDIA H100", weights_sha256=bytes(32))
    send(settings, "reward-updates", [(MODEL.encode(), codec.encode(later))])
    line = checked(settings).line
    assert f"{made} of {made + 1} versions identical" in line
    assert f"version {made + 1} was trained on a GPU (NVIDIA H100), this machine has none: verify it" in line
    assert "differs" not in line
    assert exit_code(settings, "replay", "verify", "--no-labels") == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_largest_of_every_three_places_has_the_values_and_gradients_of_max_pooling(name: str) -> None:
    rows = torch.tensor(to_rows([to_bytes(text) for text in TEXTS]))
    torch.manual_seed(0)
    network = CharacterCNN(network=NETWORKS[name])
    pooled = CharacterCNN(network=NETWORKS[name])
    pooled.load_state_dict(network.state_dict())
    for place, layer in enumerate(pooled.convolutions):
        if not any(True for _ in layer.parameters()) and not isinstance(layer, nn.ReLU):
            pooled.convolutions[place] = nn.MaxPool1d(3)
    outputs, wanted = (one.eval()._whole(rows) for one in (network, pooled))
    assert torch.equal(outputs, wanted)
    outputs.sum().backward()
    wanted.sum().backward()
    for ours, theirs in zip(network.parameters(), pooled.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def trained(device: str, resumed: ModelFile | None = None, versions: int = 2) -> ModelFile:
    """A training of the published network, dropout and all."""
    trainer = RewardTrainer(
        MODEL, SPEC_ID, 7, resumed, objective=Classification(network=PUBLISHED), device=device
    )
    for offset, text in enumerate(TEXTS):
        trainer.see(0, offset, annotation(text))
    version = None
    for _ in range(versions):
        version = trainer.train()
    assert version is not None
    return read_model_file(version.file.to_bytes())


@needs_gpu
def test_a_gpu_gives_the_same_bits_each_time_also_resumed_and_the_scores_of_a_cpu() -> None:
    first = trained("cuda")
    assert first.provenance.gpu == gpu_name()
    assert trained("cuda").to_bytes() == first.to_bytes()
    assert trained("cuda", trained("cuda", versions=1), versions=1).to_bytes() == first.to_bytes()
    judged = []
    for file in (first, trained("cpu")):
        network = CharacterCNN(network=PUBLISHED).eval()
        network.load_state_dict(dict(file.weights))
        judged.append(helpful_probability(network, to_rows([to_bytes(text) for text in TEXTS])))
    assert judged[0] == pytest.approx(judged[1], abs=0.2)  # dropout falls otherwise


@needs_gpu
def test_what_a_gpu_trained_is_verified_on_it(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    out = settings.runs_dir / "model.safetensors"
    asked = ("--spec", SPEC_NAME, "--device", "gpu", "--steps", 64, "--publish")
    onibus(settings, "replay", "train", out, *asked)
    assert updates(settings)[0].gpu == gpu_name()
    assert "1 of 1 versions identical" in onibus(settings, "replay", "verify", "--no-labels")
