"""Checkpoints of policies that have learned nothing: real networks, without a run before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.model.actor_critic import create_actor_critic

from onibus.learner.checkpoints import CHECKPOINT_FOLDER, write_checkpoint
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options, save_options
from onibus.learner.run_environment import environment_for


def fresh_run(
    folder: Path, task: str = "keyroom-s5", *, version: int = 3, seed: int = 0, **given: Any
) -> Path:
    """Write a run's options and a checkpoint of ``version`` gradient steps into ``folder``; its path."""
    options = make_options(task, run=folder.name, **{"max_episode_steps": 60} | given)
    torch.manual_seed(0)
    global_model_factory().register_encoder_factory(make_encoder)
    environment = environment_for(options, worker=0, environment=0, seed=0, bus=lambda: None)
    try:
        network = create_actor_critic(
            configuration(options, folder.parent, session=0),
            environment.observation_space,
            environment.action_space,
        )
    finally:
        environment.close()
    for weights in network.action_parameterization.parameters():
        torch.nn.init.normal_(weights, std=0.5)  # far from uniform, so that what is likeliest is one action
    save_options(options, folder)
    path = folder / CHECKPOINT_FOLDER / f"checkpoint_{version:09d}_{version * 100}.pth"
    content = {"model": network.state_dict(), "train_step": version, "env_steps": version * 100}
    write_checkpoint(path, content | {"onibus": {"options": options.model_dump_json()}})
    return path
