"""V-trace (Espeholt et al., arXiv 1802.01561, equation 1) out of Sample Factory's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def bootstrap_from(prepared: Mapping[str, Tensor], last_values: Tensor, rollout: int, gamma: float) -> None:
    """Have the targets of a batch begin at the values of the observations that come after it.

    Sample Factory guesses these values from the last reward and value of each trajectory, so that its last
    step never has an advantage. Here the guess is not used: the discounted value becomes part of the last
    reward, and nothing comes after that.

    Args:
        prepared: what ``Learner._prepare_batch`` gives, E trajectories one after the other; its
            ``rewards_cpu`` and ``dones_cpu`` (float32, (E * rollout,)) are changed in place.
        last_values: float32, (E,), value of the observation after each trajectory.
        rollout: steps of a trajectory.
        gamma: the discount factor.
    """
    rewards, dones = prepared["rewards_cpu"], prepared["dones_cpu"]
    last = slice(rollout - 1, None, rollout)
    rewards[last] += gamma * (1.0 - dones[last]) * last_values.to(rewards.device)
    dones[last] = 1.0
