"""Sample Factory's own learner as a run has it, in this process, and a batch for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.model_sharing import ParameterServer
from sample_factory.algo.utils.shared_buffers import alloc_trajectory_tensors, policy_device
from sample_factory.cfg.arguments import preprocess_cfg
from sample_factory.model.model_utils import get_rnn_size
from sample_factory.utils.attr_dict import AttrDict

from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.run_environment import make_environment
from onibus.learner.sample_factory import RewardingLearner, _environment_info

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


def learner_with(folder: Path, **given: Any) -> tuple[Recording, Any]:
    """A learner as a run has it, and a batch of random experience, some episodes ending in it."""
    small: dict[str, Any] = {
        "captions": False, "rollout": ROLLOUT, "batch_size": EPISODES * ROLLOUT, "discount": DISCOUNT,
        "serial": True, "environments": EPISODES, "workers": 1,
    }  # fmt: skip
    options = make_options("keyroom-s5", run="r", **small, **given)
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
