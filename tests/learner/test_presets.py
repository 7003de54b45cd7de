"""``--preset`` is what was published: the effective configuration against a table of the papers' programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.configuration import configuration
from onibus.learner.options import load_options, make_options, save_options
from onibus.learner.training import warn_of_few_cores

ONI: dict[str, Any] = {
    "algo": "APPO",
    "with_vtrace": True,
    "vtrace_rho": 1.0,
    "vtrace_c": 1.0,
    "rollout": 32,
    "recurrence": 32,
    "batch_size": 1024,
    "num_batches_per_epoch": 1,
    "num_epochs": 1,
    "learning_rate": 1e-4,
    "lr_schedule": "constant",
    "gamma": 0.99,
    "ppo_clip_ratio": 0.1,
    "ppo_clip_value": 1.0,
    "value_loss_coeff": 0.5,
    "exploration_loss": "entropy",
    "exploration_loss_coeff": 0.003,
    "kl_loss_coeff": 0.0,
    "max_grad_norm": 4.0,
    "optimizer": "adam",
    "adam_eps": 1e-6,
    "use_rnn": True,
    "rnn_type": "gru",
    "rnn_size": 512,
    "rnn_num_layers": 1,
    "num_workers": 24,
    "num_envs_per_worker": 20,
    "train_for_env_steps": 2_000_000_000,
    "stats_avg": 100,
    "normalize_returns": False,
}
MOTIF = ONI | {"batch_size": 4096, "stats_avg": 1000}

REWARD = {"extrinsic_scale": 1.0, "extrinsic_clip": 10.0, "count_beta": 3.0}


@pytest.mark.parametrize(
    ("preset", "table", "reward"),
    [("oni", ONI, REWARD), ("motif", MOTIF, REWARD | {"extrinsic_scale": 0.1})],
)
def test_a_preset_is_the_published_configuration(
    preset: str, table: dict[str, Any], reward: dict[str, Any], tmp_path: Path
) -> None:
    options = make_options("score", run="r", preset=preset, motif_model="model.safetensors")
    cfg = configuration(options, tmp_path, 0)
    assert {name: getattr(cfg, name) for name in table} == table
    assert {name: getattr(options, name) for name in reward} == reward
    assert options.network == "full"


@pytest.mark.parametrize(
    ("task", "preset", "reward", "spec", "intrinsic", "extrinsic"),
    [
        ("score", "oni", "retrieval", "goals", 0.4, 0.1),
        ("oracle", "oni", "classification", "goals", 0.4, 10.0),
        ("score", "oni", "ranking", "goals-pairs", 0.4, 0.1),
        ("score", "motif", "motif", "goals-pairs", 0.1, 0.1),
    ],
)
def test_coefficients_of_a_preset(
    task: str, preset: str, reward: str, spec: str, intrinsic: float, extrinsic: float
) -> None:
    options = make_options(task, run="r", preset=preset, reward=reward, motif_model="m")
    assert [(s.name, s.coefficient) for s in options.specs] == [(spec, intrinsic)]
    assert options.extrinsic_coefficient == extrinsic


def test_flags_go_over_a_preset_and_its_name_is_recorded(tmp_path: Path) -> None:
    options = make_options("score", run="r", preset="oni", workers=4, rnn="lstm", specs=["combat"])
    save_options(options, tmp_path)
    kept = load_options(tmp_path)
    assert (kept.preset, kept.workers, kept.environments, kept.core) == ("oni", 4, 20, "lstm")
    assert [(s.name, s.coefficient) for s in kept.specs] == [("combat", 0.4)]


def test_motif_says_that_it_needs_a_model() -> None:
    with pytest.raises(OnibusError, match=r"^motif needs --motif-model: "):
        make_options("score", run="r", preset="motif")


@pytest.mark.parametrize("preset", [None, "oni"])
def test_without_a_preset_the_small_defaults_stay(preset: str | None) -> None:
    options = make_options("score", run="r", preset=preset)
    assert options.vtrace == (preset == "oni")
    assert options.workers == (24 if preset else 2)


def test_more_workers_than_cores_can_use_are_said_with_what_to_type(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    warn_of_few_cores(make_options(run="x", task="score", preset="oni"))
    (line,) = caplog.messages
    assert line.startswith("24 rollout workers share 2 cores")
    assert line.endswith("--workers 2 --environments 240")
    warn_of_few_cores(make_options(run="x", task="score"))
    assert len(caplog.messages) == 1
