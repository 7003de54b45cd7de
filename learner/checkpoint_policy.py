"""A checkpoint's policy on its own, for rollouts without a learner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sample_factory.algo.utils.action_distributions import is_continuous_action_space
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.model.actor_critic import create_actor_critic
from sample_factory.model.model_utils import get_rnn_size

import onibus.learner.quiet_libraries  # noqa: F401  a process of `onibus rollout` begins with this module
from onibus.infra.errors import OnibusError
from onibus.learner.checkpoints import options_in, playable_checkpoint, read_checkpoint, warn_of_edits
from onibus.learner.configuration import configuration
from onibus.learner.networks import make_encoder
from onibus.learner.options import LearnOptions, load_options


class CheckpointPolicy:
    """Samples actions for a fixed number of environments, keeping the recurrent state of each.

    Attributes:
        options: the run's options: its task, network and step limit.
        observation: which observations it needs, "small", "medium" or "full".
        version: gradient steps behind these weights.
        is_discrete: whether an action is one of a fixed number; known once it is bound.
    """

    def __init__(self, path: Path, checkpoint: dict[str, Any], options: LearnOptions) -> None:
        self.options = options
        self.observation = options.network
        self._path = path
        self._checkpoint = checkpoint
        self.version = int(self._checkpoint["train_step"])
        self.is_discrete = True
        self._network: Any = None
        self._states = torch.zeros(0)

    def warn_of_edits(self) -> None:
        """See :func:`onibus.learner.checkpoints.warn_of_edits`."""
        warn_of_edits(self._checkpoint, self.options)

    def bind(self, environment: Any, device: str = "cpu") -> None:
        """Build the network for the spaces of ``environment`` on a torch device; call once before acting."""
        cfg = configuration(self.options, self._path.parent, session=0)
        global_model_factory().register_encoder_factory(make_encoder)
        self.is_discrete = not is_continuous_action_space(environment.action_space)
        self._network = create_actor_critic(cfg, environment.observation_space, environment.action_space)
        self._network.load_state_dict(self._checkpoint["model"])
        self._network.eval()
        self._network.to(device)
        self._device = device
        self._state_size = get_rnn_size(cfg)

    def __call__(
        self, observations: dict[str, NDArray[Any]], started: NDArray[np.bool_]
    ) -> NDArray[np.int64] | NDArray[np.float32]:
        """Actions for N observations stacked by key; ``started`` marks new episodes.

        Returns:
            int64 (N,); or, of a task with continuous actions, float32 (N, n).
        """
        actions: NDArray[Any] = self._forward(observations, started)["actions"].cpu().numpy()
        if not self.is_discrete:
            return actions.reshape(len(started), -1).astype(np.float32)
        return actions.reshape(len(started)).astype(np.int64)

    def logits(
        self, observations: dict[str, NDArray[Any]], started: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Unnormalised log probabilities, float64 (N, actions), of what a call would sample from."""
        logits: NDArray[Any] = self._forward(observations, started)["action_logits"].cpu().numpy()
        return logits.astype(np.float64)

    def _forward(self, observations: dict[str, NDArray[Any]], started: NDArray[np.bool_]) -> Any:
        count = len(started)
        if len(self._states) != count:
            self._states = torch.zeros(count, self._state_size, device=self._device)
        self._states[torch.from_numpy(started).to(self._device)] = 0.0
        with torch.inference_mode():
            inputs = {
                key: torch.from_numpy(value).to(self._device, self._network.type_for_input_tensor(key))
                for key, value in observations.items()
            }
            output = self._network(inputs, self._states)
        self._states = output["new_rnn_states"].clone()
        return output


def load_policy(path: Path) -> CheckpointPolicy:
    """The policy in a checkpoint file, wherever it lies, or in the newest checkpoint of a run's folder.

    A run that ``onibus export hf`` wrote counts, too: its folder, or its file of weights.

    Raises:
        OnibusError: there is none, or it cannot be read.
    """
    found = playable_checkpoint(path) if path.is_dir() else path
    if found is None or not found.exists():
        raise OnibusError(f"no checkpoint in {path}; give a run's folder or a checkpoint_….pth file")
    checkpoint = read_checkpoint(found, advice="give another --checkpoint")
    return CheckpointPolicy(found, checkpoint, options_in(checkpoint) or load_options(found.parent.parent))
