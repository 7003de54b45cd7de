"""Local sampling against Sample Factory's own: the same games, the same weights, the same trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_factory.algo.sampling.sampler import SerialSampler
from sample_factory.algo.utils.context import global_env_registry, global_model_factory
from sample_factory.algo.utils.misc import EPISODIC
from sample_factory.algo.utils.model_sharing import ParameterServer
from sample_factory.algo.utils.shared_buffers import BufferMgr, policy_device
from sample_factory.model.actor_critic import create_actor_critic
from signal_slot.signal_slot import EventLoop, EventLoopObject, signal

from onibus.learner.configuration import configuration, groups_of
from onibus.learner.networks import make_encoder
from onibus.learner.options import make_options
from onibus.learner.run_environment import LearnerEnvironment
from onibus.learner.sample_factory import _environment_info
from onibus.learner.sampling.acting_policy import draw
from onibus.learner.sampling.worker import LocalSerialSampler

GAMES = 4
ROLLOUT = 8
ROLLOUTS = 6
STEPS_OF_AN_EPISODE = 11  # so that episodes end within rollouts, and at different steps of them
VERSION = 7
CHANGED_VALUE = 3.5
DEVICES = ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
TOLERANCE = {"cpu": 1e-5, "gpu": 2e-3}
"""On a GPU convolutions round their inputs (TF32)."""


class Collected(EventLoopObject):  # type: ignore[misc]
    """Stands where learner and batcher do: announces the weights, keeps what is sampled."""

    def __init__(self, loop: EventLoop, buffers: BufferMgr) -> None:
        super().__init__(loop, "collected")
        self._tensors = buffers.traj_tensors_torch["cpu"]
        self.rollouts: list[dict[str, NDArray[Any]]] = []
        self.reports: list[dict[str, Any]] = []

    @signal
    def model_initialized(self) -> None: ...

    @signal
    def buffers_available(self) -> None: ...

    def on_new_trajectories(self, trajectories: list[dict[str, Any]], _device: str) -> None:
        places = [trajectory["traj_buffer_idx"] for trajectory in trajectories]
        assert len(places) == GAMES
        kept = {name: t[places].numpy().copy() for name, t in self._tensors.items() if name != "obs"}
        kept |= {f"obs.{name}": t[places].numpy().copy() for name, t in self._tensors["obs"].items()}
        kept["values"] = kept["values"][:, :-1]  # the last is the learner's
        del kept["valids"]  # so are these
        self.rollouts.append(kept)

    def on_report(self, reports: list[dict[str, Any]] | dict[str, Any]) -> None:
        if isinstance(reports, list):
            self.reports += [report[EPISODIC] for report in reports]


def make_game(_name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> LearnerEnvironment:
    del render_mode
    options = cfg.onibus
    return LearnerEnvironment(
        task=options["task"],
        observation=options["network"],
        max_episode_steps=STEPS_OF_AN_EPISODE,
        worker=0,
        environment=env_config.vector_index if env_config else 0,
        seed=cfg.environment_seed,
    )


def sample(
    tmp_path: Path,
    sampler_class: type,
    network: str,
    sharpness: float,
    changes: bool = False,
    device: str = "cpu",
) -> tuple[Collected, Any]:
    """Sample with frozen weights, or with some that change after half of the rollouts.

    A large ``sharpness`` makes the policy choose one action for certain.
    """
    options = make_options(
        "keyroom-s5", run="sampled", reward="none", serial=True, workers=1, environments=GAMES, seed=5,
        rollout=ROLLOUT, batch_size=GAMES * ROLLOUT * ROLLOUTS, network=network,
        inference="local" if sampler_class is LocalSerialSampler else "central", device=device,
    )  # fmt: skip
    cfg = configuration(options, tmp_path, session=0)
    cfg.decorrelate_envs_on_one_worker = False  # whose random steps are not seeded
    global_env_registry()[cfg.env] = make_game
    global_model_factory().register_encoder_factory(make_encoder)
    spaces = _environment_info(cfg)
    buffers = BufferMgr(cfg, spaces)
    torch.manual_seed(3)
    policy = create_actor_critic(cfg, spaces.obs_space, spaces.action_space)
    with torch.no_grad():
        policy.action_parameterization.distribution_linear.weight.mul_(sharpness)
    policy.model_to_device(policy_device(cfg, 0))
    server = ParameterServer(0, buffers.policy_versions, serial_mode=True)
    server.init(policy, VERSION, torch.device("cpu"))
    loop = EventLoop("sampling", serial_mode=True)
    collected = Collected(loop, buffers)
    sampler = sampler_class(loop, buffers, {0: server}, cfg, spaces)
    sampler.connect_model_initialized(0, collected.model_initialized)
    sampler.connect_on_new_trajectories(0, collected.on_new_trajectories)
    sampler.connect_report_msg(collected.on_report)
    try:
        sampler.init()
        collected.model_initialized.emit((0, None, torch.device("cpu"), VERSION))
        while len(collected.rollouts) < ROLLOUTS:
            loop.process_events()
            if changes and len(collected.rollouts) == ROLLOUTS // 2:
                with torch.no_grad():
                    policy.critic_linear.weight.zero_()
                    policy.critic_linear.bias.fill_(CHANGED_VALUE)
                server.update_weights(VERSION + 1)
    finally:
        for worker in sampler.rollout_workers:
            for runner in worker.env_runners:
                runner.close()
    return collected, policy


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0")  # of Sample Factory
@pytest.mark.parametrize("network", ["small", "medium", "full"])
def test_both_samplers_make_the_same_trajectories(tmp_path: Path, network: str) -> None:
    central, _ = sample(tmp_path, SerialSampler, network, sharpness=1e5)
    local, _ = sample(tmp_path, LocalSerialSampler, network, sharpness=1e5)
    ended = 0
    for theirs, ours in zip(central.rollouts, local.rollouts, strict=True):
        assert theirs.keys() == ours.keys()
        for name, rows in theirs.items():
            assert rows.dtype == ours[name].dtype
            # Sharp logits are differences of numbers in the ten thousands.
            absolute = max(1e-5, 3e-6 * float(np.abs(rows).max())) if name == "action_logits" else 1e-5
            np.testing.assert_allclose(ours[name], rows, rtol=1e-4, atol=absolute, err_msg=name)
        ended += int(theirs["dones"].sum())
    assert ended >= GAMES * (ROLLOUT * ROLLOUTS // STEPS_OF_AN_EPISODE), "episodes end in what is compared"
    assert len(local.reports) == ended
    assert local.reports == central.reports
    captions = np.concatenate([rollout["obs.caption"] for rollout in local.rollouts])
    assert captions.any(), "captions are among what is compared"


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", ["small", "full"])
def test_what_the_policy_said_is_recorded_with_each_step(tmp_path: Path, network: str, device: str) -> None:
    local, policy = sample(tmp_path, LocalSerialSampler, network, sharpness=1.0, device=device)
    policy.eval().model_to_device("cpu")
    same = TOLERANCE[device]
    for rollout in local.rollouts:
        for step in range(ROLLOUT):
            seen = {
                name.removeprefix("obs."): torch.from_numpy(rows[:, step])
                for name, rows in rollout.items()
                if name.startswith("obs.")
            }
            with torch.no_grad():
                said = policy(seen, torch.from_numpy(rollout["rnn_states"][:, step]))
                chosen = torch.from_numpy(rollout["actions"][:, step]).long()
                likely = policy.action_distribution().log_prob(chosen)
            np.testing.assert_allclose(rollout["action_logits"][:, step], said["action_logits"], atol=same)
            np.testing.assert_allclose(rollout["values"][:, step], said["values"], atol=same)
            np.testing.assert_allclose(rollout["log_prob_actions"][:, step], likely, atol=same)
        assert (rollout["policy_version"] == VERSION).all()
    actions = np.concatenate([rollout["actions"] for rollout in local.rollouts])
    assert len(np.unique(actions)) > 1


@pytest.mark.slow
def test_a_rollout_goes_on_where_its_process_looked_at_its_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = sample(tmp_path, LocalSerialSampler, "small", sharpness=1.0)
    monkeypatch.setattr("onibus.learner.sampling.rollouts.SLICE_SECONDS", 0.0)  # at each step
    sliced, _ = sample(tmp_path, LocalSerialSampler, "small", sharpness=1.0)
    for theirs, ours in zip(whole.rollouts, sliced.rollouts, strict=True):
        for name, rows in theirs.items():
            np.testing.assert_array_equal(ours[name], rows, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_parameters_that_the_learner_announces_are_used_from_then_on(tmp_path: Path, device: str) -> None:
    local, _ = sample(tmp_path, LocalSerialSampler, "small", sharpness=1.0, changes=True, device=device)
    before, after = local.rollouts[0], local.rollouts[-1]
    assert (before["policy_version"] == VERSION).all()
    assert (after["policy_version"] == VERSION + 1).all()
    assert not (before["values"] == CHANGED_VALUE).any()
    np.testing.assert_allclose(after["values"], CHANGED_VALUE)


def test_actions_are_drawn_by_their_probabilities() -> None:
    probabilities = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.0], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(probabilities) + 3, (1_000, 1)).astype(np.float32)
    draws = np.random.default_rng(1)
    counts = np.zeros(6)
    for _ in range(100):
        actions, log_probabilities = draw(logits, draws)
        np.testing.assert_allclose(np.exp(log_probabilities), probabilities[actions], rtol=1e-5)
        counts += np.bincount(actions, minlength=6)
    np.testing.assert_allclose(counts / counts.sum(), probabilities, atol=0.01)
    assert counts[0] == counts[5] == 0


@pytest.mark.parametrize(
    ("games", "groups"), [(1, 1), (4, 1), (16, 1), (20, 1), (32, 1), (48, 2), (64, 2), (37, 1), (240, 8)]
)
def test_games_are_divided_into_groups_of_about_32(games: int, groups: int) -> None:
    assert groups_of(games, "cpu") == groups


def test_games_on_a_gpu_are_divided_into_groups_of_about_128() -> None:
    assert [groups_of(games, "gpu") for games in (30, 128, 256, 480)] == [1, 1, 2, 4]
