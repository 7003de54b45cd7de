"""V-trace on Sample Factory's own path: its targets, and both networks train with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_factory.utils.attr_dict import AttrDict

from onibus.infra.settings import Settings
from onibus.learner.configuration import configuration
from onibus.learner.options import make_options
from tests.learner.one_learner import DISCOUNT, EPISODES, ROLLOUT, learner_with
from tests.learner.runs import checkpoint_of, finish, start_learner


def v_trace(
    rewards: NDArray[Any], dones: NDArray[Any], values: NDArray[Any], ratios: NDArray[Any]
) -> NDArray[Any]:
    """Targets (E, T) by equation 1 of arXiv 1802.01561, values (E, T + 1), rho and c cut at 1."""
    clipped, discount = np.minimum(1.0, ratios), DISCOUNT * (1.0 - dones)
    delta = clipped * (rewards + discount * values[:, 1:] - values[:, :-1])
    targets, correction = np.zeros_like(rewards), np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        correction = delta[:, t] + discount[:, t] * clipped[:, t] * correction
        targets[:, t] = values[:, t] + correction
    return targets


@pytest.mark.parametrize("network", ["small", "full"])
def test_targets_are_those_of_v_trace(network: str, tmp_path: Path) -> None:
    learner, batch = learner_with(tmp_path, network=network, vtrace=True)
    rewards = batch["rewards"].double().numpy().copy()
    dones = batch["dones"].double().numpy().copy()
    prepared, size, invalid = learner._prepare_batch(batch)
    assert (size, invalid) == (EPISODES * ROLLOUT, 0)
    ratios = learner._calculate_losses(AttrDict(prepared), invalid)[-1]["ratio"].detach()
    values = torch.cat([learner.new_values.view(EPISODES, ROLLOUT), batch["values"][:, -1:]], dim=1)
    found = learner.targets.view(EPISODES, ROLLOUT)
    wanted = v_trace(rewards, dones, values.double().numpy(), ratios.view(EPISODES, ROLLOUT).double().numpy())
    rounding = 2e-7 * np.abs(wanted).max()  # float32's, carried from the greatest target to others
    np.testing.assert_allclose(found.numpy(), wanted, atol=rounding)
    assert ((ratios > 1.1).any(), (ratios < 0.9).any()) == (True, True), "both sides of the cut are there"
    assert np.abs(found.numpy()[1, -1] - values[1, -2].item()) > 1e-3, "the last step counts"


def test_vtrace_does_not_ask_for_a_recurrent_layer(tmp_path: Path) -> None:
    cfg = configuration(make_options("score", run="r", vtrace=True), tmp_path, 0)
    assert (cfg.use_rnn, cfg.recurrence, cfg.rollout) == (False, 32, 32)
    assert configuration(make_options("score", run="r"), tmp_path, 0).recurrence == -1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small", "full"])
def test_both_networks_train_with_it(settings: Settings, network: str) -> None:
    learner = start_learner(settings, "traced", "--vtrace", "--network", network, "--steps", "1500")
    assert finish(learner, 240) == 0
    assert checkpoint_of(settings.runs_dir / "traced")["train_step"] >= 5
    log = learner.log_path.read_text()
    assert "recurrence" not in log
    assert "Traceback" not in log
