"""Sample Factory's sampler and rollout workers without inference workers."""

from __future__ import annotations

from typing import Any

from sample_factory.algo.sampling.rollout_worker import RolloutWorker
from sample_factory.algo.sampling.sampler import ParallelSampler, SerialSampler
from sample_factory.algo.utils.misc import (
    POLICY_ID_KEY,
    SAMPLES_COLLECTED,
    advance_rollouts_signal,
)
from sample_factory.algo.utils.model_sharing import make_parameter_client
from signal_slot.signal_slot import Timer

from onibus.learner.sampling.acting_policy import ActingPolicy
from onibus.learner.sampling.rollouts import POLICY, LocalRollouts

REPORT_SECONDS = 3.0


class LocalRolloutWorker(RolloutWorker):  # type: ignore[misc]
    """A rollout worker whose requests for actions go to itself.

    Upstream's flow stays: free trajectories are asked for, complete ones are emitted, and where there are no
    free ones the games wait. Where upstream sends a request to an inference worker, this one asks itself to
    advance, so that it looks at its messages between.
    """

    def __init__(
        self, event_loop: Any, worker_idx: int, buffer_mgr: Any, param_server: Any, cfg: Any, env_info: Any
    ) -> None:
        super().__init__(event_loop, worker_idx, buffer_mgr, {}, cfg, env_info)
        self._client = make_parameter_client(cfg.serial_mode, param_server, cfg, env_info, self.timing)
        self.is_initialized: bool = False
        self._waiting = False
        self._samples = 0

    def init(self, model: Any) -> None:
        """Take the first weights, make the games and begin; ``model`` is what the learner announces."""
        if self.is_initialized:
            return
        _, weights, device, version = model
        self._client.on_weights_initialized(weights, device, version)
        seed = (abs(self.cfg.environment_seed), self.worker_idx)
        policy = ActingPolicy(self._client, seed, serial=self.cfg.serial_mode)
        size = self.vector_size // self.num_splits
        for split in range(self.num_splits):
            rollouts = LocalRollouts(
                self.cfg, self.env_info, size, self.worker_idx, split, self.buffer_mgr, policy
            )
            rollouts.init(self.timing)
            self.env_runners.append(rollouts)
        self._report_timer = Timer(self.event_loop, REPORT_SECONDS)
        self._report_timer.timeout.connect(self._report_samples)
        self.is_initialized = True
        for rollouts in self.env_runners:
            self._maybe_send_policy_request(rollouts)

    def should_stop_experience_collection(self) -> None:
        """The learner has as many batches as it may have: wait."""
        self._waiting = True

    def should_resume_experience_collection(self) -> None:
        """It has fewer again: go on."""
        self._waiting = False
        if self.is_initialized:
            for rollouts in self.env_runners:
                self._maybe_send_policy_request(rollouts)

    def on_stop(self, *args: Any) -> None:
        """Close the games and stop, as upstream does."""
        self._waiting = True
        super().on_stop(*args)

    def _maybe_send_policy_request(self, runner: LocalRollouts) -> None:
        if not self._waiting:
            super()._maybe_send_policy_request(runner)

    def _enqueue_policy_request(self, split_idx: int, _inputs: Any) -> None:
        self.emit(advance_rollouts_signal(self.worker_idx), split_idx, POLICY)

    def _enqueue_complete_rollouts(self, complete_rollouts: list[dict[str, Any]]) -> None:
        self._samples += sum(trajectory["length"] for trajectory in complete_rollouts)
        super()._enqueue_complete_rollouts(complete_rollouts)

    def _report_samples(self) -> None:
        self.report_msg.emit({SAMPLES_COLLECTED: self._samples, POLICY_ID_KEY: POLICY})
        self._samples = 0


class _WithoutInferenceWorkers:
    """Mixed into both samplers; the configuration asks for no inference workers."""

    def _make_rollout_worker(self: Any, event_loop: Any, worker_idx: int) -> LocalRolloutWorker:
        server = self.policy_param_server[POLICY]
        return LocalRolloutWorker(event_loop, worker_idx, self.buffer_mgr, server, self.cfg, self.env_info)

    def connect_model_initialized(self: Any, _policy: int, model_initialized: Any) -> None:
        """Each rollout worker begins with the learner's first weights."""
        self._for_each_rollout_worker(lambda worker: model_initialized.connect(worker.init))

    def connect_stop_experience_collection(self: Any, stop: Any) -> None:
        """The learner's brake goes to the rollout workers."""
        self._for_each_rollout_worker(lambda worker: stop.connect(worker.should_stop_experience_collection))

    def connect_resume_experience_collection(self: Any, resume: Any) -> None:
        """And its release."""
        self._for_each_rollout_worker(
            lambda worker: resume.connect(worker.should_resume_experience_collection)
        )


class LocalParallelSampler(_WithoutInferenceWorkers, ParallelSampler):  # type: ignore[misc]
    """A process for each rollout worker, and no others."""


class LocalSerialSampler(_WithoutInferenceWorkers, SerialSampler):  # type: ignore[misc]
    """Everything in this process."""
