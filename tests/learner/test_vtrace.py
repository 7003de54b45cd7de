"""V-trace on Sample Factory's own path: its targets, and both networks train with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.model_sharing import ParameterServer
from sample_factory.algo.utils.shared_buffers import alloc_trajectory_tensors, policy_device
from sample_factory.cfg.arguments import preprocess_cfg
from sample_factory.model.model_utils import get_rnn_size
from sample_factory.utils.attr_dict import AttrDict

from onibus.infra.settings import Settings
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.sample_factory import RewardingLearner, _environment_info, make_environment
from tests.learner.runs import checkpoint_of, finish, start_learner

EPISODES, ROLLOUT, DISCOUNT = 8, 16, 0.9


class Recording(RewardingLearner):
    """Keeps the targets that values are learned from."""

    targets: torch.Tensor
    new_values: torch.Tensor

    def _value_loss(
        self, new_values: Any, old_values: Any, target: Any, clip_value: float, valids: Any, num_invalids: int
    ) -> Any:
        self.targets, self.new_values = target, new_values.detach()
        return super()._value_loss(new_values, old_values, target, clip_value, valids, num_invalids)


def learner_with(network: str, folder: Path) -> tuple[Recording, Any]:
    """A learner as a run has it, and a batch of random experience, some episodes ending in it."""
    options = make_options(
        "keyroom-s5", run="r", network=network, vtrace=True, captions=False, rollout=ROLLOUT,
        batch_size=EPISODES * ROLLOUT, discount=DISCOUNT, serial=True,
        environments=EPISODES, workers=1,
    )  # fmt: skip
    cfg = configuration(options, folder, 0)
    global_env_registry()[cfg.env] = make_environment
    global_model_factory().register_encoder_factory(make_encoder)
    info = _environment_info(cfg)
    assert preprocess_cfg(cfg, info)
    versions = torch.zeros(1, dtype=torch.int32)
    learner = Recording(AttrDict(vars(cfg)), info, versions, 0, ParameterServer(0, versions, True))
    learner.init()
    torch.manual_seed(3)
    device = policy_device(cfg, 0)
    batch = alloc_trajectory_tensors(info, EPISODES, ROLLOUT, get_rnn_size(cfg), device, False)
    for name in ("rewards", "values"):
        batch[name].normal_()
    batch["obs"]["blstats"].uniform_(0, 10)
    batch["obs"]["crop"].random_(0, 100)
    batch["dones"][:] = torch.rand(EPISODES, ROLLOUT) < 0.1
    batch["dones"][0, -1], batch["dones"][1, -1] = True, False
    batch["policy_id"].zero_()
    batch["policy_version"].zero_()
    batch["time_outs"].zero_()
    batch["actions"].random_(0, 4)
    batch["action_logits"].normal_()
    batch["log_prob_actions"].uniform_(-3, -1)
    batch["valids"][:] = True
    return learner, batch


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
    learner, batch = learner_with(network, tmp_path)
    rewards = batch["rewards"].double().numpy().copy()
    dones = batch["dones"].double().numpy().copy()
    prepared, size, invalid = learner._prepare_batch(batch)
    assert (size, invalid) == (EPISODES * ROLLOUT, 0)
    ratios = learner._calculate_losses(AttrDict(prepared), invalid)[-1]["ratio"].detach()
    values = torch.cat([learner.new_values.view(EPISODES, ROLLOUT), batch["values"][:, -1:]], dim=1)
    found = learner.targets.view(EPISODES, ROLLOUT)
    wanted = v_trace(rewards, dones, values.double().numpy(), ratios.view(EPISODES, ROLLOUT).double().numpy())
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
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
