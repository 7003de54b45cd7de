"""What the learner makes of a batch: rewards from captions, and nothing more of the captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.model_sharing import ParameterServer
from sample_factory.algo.utils.shared_buffers import alloc_trajectory_tensors

from onibus.infra.settings import load_settings
from onibus.learner.benchmarks.labels import SPEC, filled_table
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.rewards.formulas import RetrievalReward, SpecReward
from onibus.learner.rewards.source import RewardSource
from onibus.learner.run_environment import make_environment
from onibus.learner.sample_factory import RewardingLearner, _environment_info

TRAJECTORIES, STEPS = 4, 8


def test_a_batch_gets_its_reward_and_then_no_more_work_for_its_captions(tmp_path: Path) -> None:
    options = make_options("keyroom-s5", run="batch", extrinsic_coefficient=0.1, serial=True, workers=1)
    cfg = configuration(options, tmp_path, session=0)
    global_env_registry()[cfg.env] = make_environment
    global_model_factory().register_encoder_factory(make_encoder)
    spaces = _environment_info(cfg)
    cfg.onibus["captions"] = False  # whose labels would come from a broker
    versions = torch.zeros([1], dtype=torch.int32)
    learner = RewardingLearner(cfg, spaces, versions, 0, ParameterServer(0, versions, serial_mode=True))
    learner.init()
    source = RewardSource(load_settings(runs_dir=tmp_path), options, tmp_path)
    table, known = filled_table(20)
    reward = RetrievalReward(table, count_beta=3.0)
    reward.specs = (SpecReward(SPEC, 0.5),)
    source._reward = reward
    learner.source = source

    batch = alloc_trajectory_tensors(spaces, TRAJECTORIES, STEPS, 1, torch.device("cpu"), False)
    for tensor in (*batch["obs"].values(), *(batch[name] for name in batch if name != "obs")):
        tensor.zero_()
    captions = np.zeros((TRAJECTORIES, STEPS + 1, 2), np.int64)
    captions[:, 1:, 0] = np.random.default_rng(0).choice(known, (TRAJECTORIES, STEPS))
    captions[:, 1:, 1] = np.random.default_rng(1).integers(1, 4, (TRAJECTORIES, STEPS))
    batch["obs"]["caption"][:] = torch.from_numpy(captions)
    batch["rewards"][:] = 2.0

    prepared, size, invalid = learner._prepare_batch(batch)

    assert (size, invalid) == (TRAJECTORIES * STEPS, 0)
    helpful = known[::5]
    judged = np.isin(captions[:, 1:, 0], helpful)
    assert judged.any()
    expected = 0.1 * 2.0 + 0.5 * judged / captions[:, 1:, 1].astype(np.float32) ** 3
    np.testing.assert_allclose(prepared["rewards_cpu"].reshape(TRAJECTORIES, STEPS), expected, rtol=1e-5)
    assert "caption" not in prepared["normalized_obs"]
    assert (batch["obs"]["caption"].numpy() == captions).all()
