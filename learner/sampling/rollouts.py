"""Trajectories of many games, as Sample Factory's rollout workers make them, but with actions from here."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sample_factory.algo.sampling.sampling_utils import VectorEnvRunner
from sample_factory.algo.utils.misc import EPISODIC, POLICY_ID_KEY
from sample_factory.envs.create_env import create_env
from sample_factory.utils.attr_dict import AttrDict

from onibus.learner.sampling.acting_policy import ActingPolicy
from onibus.learner.sampling.games import Finished, Games, Observations

POLICY = 0
"""Index of the one policy."""

SLICE_SECONDS = 0.05
"""A process looks at its messages at least this often: a stop must not wait for a rollout."""


class LocalRollouts(VectorEnvRunner):  # type: ignore[misc]
    """A group of games that step together, for a rollout worker.

    A rollout is laid down in arrays of this process, step by step, and copied into Sample Factory's shared
    trajectories when it is complete.
    """

    def __init__(
        self,
        cfg: Any,
        env_info: Any,
        num_envs: int,
        worker_idx: int,
        split_idx: int,
        buffer_mgr: Any,
        policy: ActingPolicy,
    ) -> None:
        super().__init__(cfg, env_info, worker_idx, split_idx, buffer_mgr, "cpu")
        self._policy = policy
        self._count = num_envs
        self._shared = _flat(self.traj_tensors)
        self._rollout = {name: _like(tensor, num_envs) for name, tensor in self._shared.items()}
        self._rollout["policy_id"][:] = POLICY
        self._observations = [
            Observations({name: self._rollout[f"obs.{name}"][step] for name in self.traj_tensors["obs"]})
            for step in range(cfg.rollout + 1)
        ]
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._free: list[int] = []
        self._games: Games
        self.rollout_step: int = 0

    def init(self, _timing: Any) -> None:
        """Make the games and begin them."""
        first = self.split_idx * self._count
        ids = [self.worker_idx * self.cfg.num_envs_per_worker + first + game for game in range(self._count)]
        self._games = Games([self._make(first + game, env_id) for game, env_id in enumerate(ids)])
        self._games.set_policy_version(self._policy.version)
        apart = self.cfg.rollout if self.cfg.decorrelate_envs_on_one_worker else 0
        # Games of one group only: a process with hundreds would play for minutes before it begins.
        self._games.reset(ids, [apart * game for game in range(self._count)], self._observations[0])
        self._rollout["rnn_states"][0] = 0.0
        self.env_step_ready = True

    def update_trajectory_buffers(self, _timing: Any) -> bool:
        """Whether there is a free shared trajectory for each game; takes what is missing and free."""
        missing = self._count - len(self._free)
        if missing:
            try:
                self._free += self.traj_buffer_queue.get_many(block=False, max_messages_to_get=missing)
            except Empty:
                return False
        return len(self._free) == self._count

    def generate_policy_request(self) -> dict[int, None] | None:
        """That the next steps can be taken; None if they are under way or have nowhere to go."""
        if not self.env_step_ready or len(self._free) < self._count:
            return None
        self.env_step_ready = False
        return {POLICY: None}

    def advance_rollouts(
        self, _policy: int, timing: Any
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Step the games to the rollout's end, or for :data:`SLICE_SECONDS`.

        Returns:
            the complete trajectories, and reports of episodes that ended.
        """
        until = time.monotonic() + SLICE_SECONDS
        complete: list[dict[str, Any]] = []
        reports: list[dict[str, Any]] = []
        with timing.add_time("rollout"):
            while True:
                reports += [self._report(finished) for finished in self._step()]
                self.rollout_step += 1
                if self.rollout_step == self.cfg.rollout:
                    complete = self._hand_over()
                if complete or time.monotonic() >= until:
                    break
        self.env_step_ready = True
        return complete, reports

    def synchronize_devices(self) -> None:
        """Nothing to wait for: all is in this machine's memory."""

    def close(self) -> None:
        """Close the games."""
        self._games.close()

    def _make(self, index: int, env_id: int) -> Any:
        place = AttrDict(worker_index=self.worker_idx, vector_index=index, env_id=env_id)
        return create_env(self.cfg.env, cfg=self.cfg, env_config=place)

    def _step(self) -> list[Finished]:
        """One action in each game."""
        if self._policy.update():
            self._games.set_policy_version(self._policy.version)
        rollout, step, games = self._rollout, self.rollout_step, self._games
        actions, log_probabilities, logits, values, states = self._policy.act(
            self._observations[step].rows, rollout["rnn_states"][step]
        )
        rollout["actions"][step, :, 0] = actions
        rollout["log_prob_actions"][step] = log_probabilities
        rollout["action_logits"][step] = logits
        rollout["values"][step] = values
        rollout["policy_version"][step] = self._policy.version
        finished = games.step(actions.tolist(), self._observations[step + 1])
        rollout["rewards"][step] = games.rewards
        rollout["dones"][step] = games.ended
        rollout["time_outs"][step] = games.cut_off
        next_states = rollout["rnn_states"][step + 1]
        next_states[:] = states
        self._returns += games.rewards
        self._lengths += 1
        for game, _ in finished:
            next_states[game] = 0.0
        return finished

    def _report(self, finished: Finished) -> dict[str, Any]:
        """What Sample Factory's runner averages over episodes."""
        game = finished.game
        statistics = {
            "reward": float(self._returns[game]),
            "len": int(self._lengths[game]),
            "true_objective": float(self._returns[game]),
            "episode_extra_stats": finished.statistics,
        }
        self._returns[game] = self._lengths[game] = 0
        return {EPISODIC: statistics, POLICY_ID_KEY: POLICY}

    def _hand_over(self) -> list[dict[str, Any]]:
        """Copy the rollout into the shared trajectories; the next begins with this one's last observation."""
        places = np.array(self._free)
        rewards = self._rollout["rewards"]
        rewards *= self.cfg.reward_scale
        np.clip(rewards, -self.cfg.reward_clip, self.cfg.reward_clip, out=rewards)
        for name, rows in self._rollout.items():
            self._shared[name][places] = rows.swapaxes(0, 1)
        for name in (*(n for n in self._rollout if n.startswith("obs.")), "rnn_states"):
            self._rollout[name][0] = self._rollout[name][-1]
        complete = [
            {"policy_id": POLICY, "traj_buffer_idx": place, "length": self.rollout_step}
            for place in self._free
        ]
        self._free = []
        self.rollout_step = 0
        return complete


def _flat(tensors: Any) -> dict[str, NDArray[Any]]:
    """The shared trajectories by name, observations as ``obs.NAME``, but what the learner fills in."""
    observations = {f"obs.{name}": tensor.numpy() for name, tensor in tensors["obs"].items()}
    others = {name: t.numpy() for name, t in tensors.items() if name not in ("obs", "valids")}
    return observations | others


def _like(tensor: NDArray[Any], count: int) -> NDArray[Any]:
    """Room for a rollout of ``count`` games, steps first: (T, N, …) for a shared (B, T, …)."""
    return np.zeros((tensor.shape[1], count, *tensor.shape[2:]), tensor.dtype)
