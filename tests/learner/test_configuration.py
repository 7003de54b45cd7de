"""Options of ours and Sample Factory's arguments: each is there once, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.learner.checkpoint_policy import load_policy
from onibus.learner.checkpoints import CHECKPOINT_FOLDER, MILESTONES
from onibus.learner.configuration import configuration
from onibus.learner.options import load_options, make_options, save_options
from tests.command import run_onibus, the_one_line
from tests.learner.one_learner import learner_with
from tests.learner.runs import checkpoint_of, start_learner, stop
from tests.waiting import wait_until

OPTIONS: dict[str, tuple[Any, str, Any]] = {
    "ppo_clip": (0.3, "ppo_clip_ratio", 0.3),
    "value_clip": (0.2, "ppo_clip_value", 0.2),
    "gae_lambda": (0.9, "gae_lambda", 0.9),
    "value_coefficient": (1.0, "value_loss_coeff", 1.0),
    "epochs": (3, "num_epochs", 3),
    "gradient_norm": (1.0, "max_grad_norm", 1.0),
    "adam_epsilon": (1e-8, "adam_eps", 1e-8),
    "rnn": ("lstm", "rnn_type", "lstm"),
    "rnn_size": (64, "rnn_size", 64),
    "episodes_averaged": (500, "stats_avg", 500),
    "checkpoints_kept": (7, "keep_checkpoints", 7),
    "milestone_seconds": (3600, "save_milestones_sec", 3600),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_reaches_sample_factory(name: str, tmp_path: Path) -> None:
    given, theirs, expected = OPTIONS[name]
    cfg = configuration(make_options("score", run="r", **{name: given}), tmp_path, 0)
    assert getattr(cfg, theirs) == expected


@pytest.mark.parametrize(
    ("network", "rnn", "core"),
    [
        ("small", None, "none"),
        ("medium", None, "none"),
        ("full", None, "gru"),
        ("small", "lstm", "lstm"),
        ("full", "none", "none"),
    ],
)
def test_the_recurrent_layer_follows_the_network_unless_it_is_given(
    network: str, rnn: str | None, core: str, tmp_path: Path
) -> None:
    options = make_options("score", run="r", network=network, rnn=rnn)
    cfg = configuration(options, tmp_path, 0)
    assert options.core == core
    assert cfg.use_rnn == (core != "none")
    assert core in (cfg.rnn_type, "none")


def test_other_arguments_of_sample_factory_are_read_as_it_reads_them(tmp_path: Path) -> None:
    given = ["kl_loss_coeff=0.1", "optimizer=lamb", "actor_critic_share_weights=False"]
    given += ["decoder_mlp_layers=64,32", "recurrence=8"]
    options = make_options("score", run="r", sample_factory=given)
    cfg = configuration(options, tmp_path, 0)
    assert (cfg.kl_loss_coeff, cfg.optimizer, cfg.actor_critic_share_weights) == (0.1, "lamb", False)
    assert (cfg.decoder_mlp_layers, cfg.recurrence) == ([64, 32], 8)
    save_options(options, tmp_path)
    assert load_options(tmp_path).sample_factory["kl_loss_coeff"] == "0.1"


REFUSED = {
    "kl_los_coeff=0.1": "Sample Factory has no such argument; did you mean kl_loss_coeff?",
    "learning_rate=1": "give it with --learning-rate",
    "ppo_clip_ratio=0.2": "give it with --ppo-clip",
    "reward_scale=0.1": "give it with --extrinsic-scale",
    "num_workers=4": "give it with --workers",
    "normalize_input=True": "onibus works with its own value only",
    "obs_scale=10": "onibus works with its own value only",
    "obs_subtract_mean=1": "onibus works with its own value only",
    "with_pbt=True": "onibus works with its own value only",
    "batched_sampling=True": "onibus works with its own value only",
    "kl_loss_coeff=much": "'much' is not a valid float",
    "optimizer=sgd": "'sgd' is not one of: adam, lamb",
    "shuffle_minibatches=perhaps": "'perhaps' is not a valid bool",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(argument: str, tmp_path: Path) -> None:
    options = make_options("score", run="r", sample_factory=[argument])
    with pytest.raises(OnibusError) as refused:
        configuration(options, tmp_path, 0)
    name = argument.partition("=")[0]
    assert str(refused.value).startswith(f"--sample-factory {name}: ")
    assert REFUSED[argument] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_vtrace_goes_with_no_other_recurrence(tmp_path: Path) -> None:
    options = make_options("score", run="r", vtrace=True, sample_factory=["recurrence=8"])
    with pytest.raises(OnibusError, match="--sample-factory recurrence: onibus works with its own"):
        configuration(options, tmp_path, 0)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--sample-factory", "nonsense"], "--sample-factory: 'nonsense' is not NAME=VALUE"),
        (["--sample-factory", "gamma=0.9"], "--sample-factory gamma: give it with --discount"),
        (["--preset", "fun"], "Invalid value for '--preset': 'fun' is not one of 'oni', 'motif'"),
        (["--rnn-size", "0"], "--rnn-size: Input should be greater than or equal to 1"),
    ],
)
def test_the_command_says_so_before_anything_starts(flags: list[str], line: str, tmp_path: Path) -> None:
    shown = the_one_line(run_onibus("learn", *flags, folder=tmp_path))
    assert line in shown
    assert not list(tmp_path.iterdir())


def test_zero_is_no_limit() -> None:
    options = make_options("score", run="r", steps=0, seconds=0, milestone_seconds=0, extrinsic_clip=0)
    assert (options.steps, options.seconds, options.milestone_seconds) == (None, None, None)
    assert options.extrinsic_clip is None


def test_a_batch_is_learned_from_with_the_extrinsic_reward_scaled_clipped_and_weighed(tmp_path: Path) -> None:
    options = {"extrinsic_scale": 0.1, "extrinsic_clip": 2.0, "extrinsic_coefficient": 10.0}
    learner, batch = learner_with(tmp_path, **options)
    batch["rewards"].mul_(20.0)
    own = batch["rewards"].clone()
    prepared, _, _ = learner._prepare_batch(batch)
    wanted = 10.0 * torch.clamp(0.1 * own, -2.0, 2.0)
    torch.testing.assert_close(prepared["rewards"], wanted.reshape(-1))
    assert (wanted.abs() == 20.0).any(), "some are clipped"


@pytest.mark.slow
def test_a_run_with_an_lstm_keeps_milestones_and_as_many_checkpoints_as_asked(settings: Settings) -> None:
    flags = ["--rnn", "lstm", "--rnn-size", "32", "--milestone-seconds", "2", "--checkpoint-seconds", "1"]
    flags += ["--checkpoints-kept", "3", "--sample-factory", "kl_loss_coeff=0.1"]
    folder = settings.runs_dir / "a-run" / CHECKPOINT_FOLDER
    learner = start_learner(settings, "a-run", *flags)
    first = wait_until(lambda: sorted(folder.glob("checkpoint_*.pth")), 90, "a checkpoint")[0]
    wait_until(lambda: not first.exists(), 60, "the first of more than three to go")
    wait_until(lambda: len([*(folder / MILESTONES).glob("checkpoint_*.pth")]) >= 2, 60, "two milestones")
    assert stop(learner) == 0
    milestones = sorted((folder / MILESTONES).glob("checkpoint_*.pth"))
    assert len(list(folder.glob("checkpoint_*.pth"))) == 3
    policy = load_policy(milestones[0])
    assert (policy.options.core, policy.options.rnn_size) == ("lstm", 32)
    assert checkpoint_of(folder.parent)["model"]["core.core.weight_hh_l0"].shape == (4 * 32, 32)
