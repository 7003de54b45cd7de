"""What makes an optimiser has no use for PyTorch's compiler, and does not import it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from onibus.infra.optimizers import COMPILER, keep_compiler_out
from tests.command import REPOSITORY

OF_A_RUN = """
from pathlib import Path
import torch
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.model_sharing import ParameterServer
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.run_environment import make_environment
from onibus.learner.sample_factory import RewardingLearner, _environment_info
cfg = configuration(make_options("keyroom-s5", run="x", captions=False, workers=1), Path(), session=0)
global_env_registry()[cfg.env] = make_environment
global_model_factory().register_encoder_factory(make_encoder)
versions = torch.zeros([1], dtype=torch.int32)
server = ParameterServer(0, versions, serial_mode=True)
learner = RewardingLearner(cfg, _environment_info(cfg), versions, 0, server)
learner.init()
sum(weights.sum() for weights in learner.actor_critic.parameters()).backward()
learner.optimizer.step()
learner.optimizer.zero_grad()
learner.optimizer.load_state_dict(learner.optimizer.state_dict())
"""
OF_A_REWARD_MODEL = """
from onibus.consumers.reward_models.trainer import RewardTrainer
from tests.consumers.reward_models.annotation_logs import SPEC_ID, TEXTS, annotation
trainer = RewardTrainer("x", SPEC_ID, seed=0)
for offset, text in enumerate(TEXTS):
    trainer.see(0, offset, annotation(text))
trainer.train()
"""


@pytest.mark.slow
@pytest.mark.parametrize("learning", [OF_A_RUN, OF_A_REWARD_MODEL], ids=["policy", "reward model"])
def test_what_learns_does_not_import_the_compiler(learning: str) -> None:
    script = f"{learning}\nimport sys\nprint(sorted(m for m in sys.modules if m.startswith({COMPILER!r})))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_a_step_is_adam_s_and_follows_no_gradient() -> None:
    keep_compiler_out()
    keep_compiler_out()
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = torch.optim.Adam([weights], lr=0.1, eps=0.0)
    (weights * torch.tensor([5.0, -0.1, 0.0])).sum().backward()
    weights.grad[2] = 7.0  # type: ignore[index]
    optimizer.step()
    assert torch.allclose(weights.detach(), torch.tensor([0.9, -1.9, 2.9]))
    assert weights.is_leaf
    assert weights.requires_grad
    assert torch.is_grad_enabled()
    optimizer.zero_grad()
    assert weights.grad is None


def test_a_closure_is_evaluated_with_gradients() -> None:
    keep_compiler_out()
    weights = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([weights], lr=0.5)

    def loss() -> float:
        total = (weights * 2).sum()
        total.backward()
        return total.item()

    assert optimizer.step(loss) == 2.0
    assert torch.allclose(weights.detach(), torch.tensor([0.5]))
