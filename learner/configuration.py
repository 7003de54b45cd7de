"""Sample Factory's configuration for the options of a run, straight from its own parser's defaults."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args

from onibus.infra.errors import OnibusError, did_you_mean
from onibus.infra.flags import flag_name
from onibus.learner.options import LearnOptions

_FROM_OPTION: Mapping[str, str] = {
    "device": "device",
    "seed": "seed",
    "serial_mode": "serial",
    "batch_size": "batch_size",
    "rollout": "rollout",
    "num_epochs": "epochs",
    "learning_rate": "learning_rate",
    "gamma": "discount",
    "gae_lambda": "gae_lambda",
    "ppo_clip_ratio": "ppo_clip",
    "ppo_clip_value": "value_clip",
    "value_loss_coeff": "value_coefficient",
    "exploration_loss_coeff": "entropy",
    "max_grad_norm": "gradient_norm",
    "adam_eps": "adam_epsilon",
    "with_vtrace": "vtrace",
    "rnn_size": "rnn_size",
    "save_every_sec": "checkpoint_seconds",
    "keep_checkpoints": "checkpoints_kept",
    "stats_avg": "episodes_averaged",
}
"""Sample Factory's arguments that are options of ours, by their names there and here."""

_INSTEAD: Mapping[str, str] = {
    "num_workers": "--workers",
    "num_envs_per_worker": "--environments",
    "use_rnn": "--rnn",
    "rnn_type": "--rnn",
    "reward_scale": "--extrinsic-scale",
    "reward_clip": "--extrinsic-clip",
    "save_milestones_sec": "--milestone-seconds",
    "train_for_env_steps": "--steps",
    "train_for_seconds": "--seconds",
    "env": "--task",
    "experiment": "--run",
    "train_dir": "--runs-dir",
    "with_wandb": "--wandb",
}
"""Flags of ours that say the same in another way."""

_NOT_HERE = (
    *("help", "algo", "num_policies", "with_pbt", "batched_sampling"),
    *("obs_scale", "obs_subtract_mean", "normalize_input_keys"),
)
"""What onibus does not work with: it trains one policy, samples environments one by one, and scales
observations where it makes them."""

GROUP = {"cpu": 32, "gpu": 128}
"""Games that step together where rollout processes act for themselves, by device.

On a CPU a pass of the network for 32 takes two thirds of what two passes for 16 take, and one for 64 saves
hardly more; on a GPU a pass takes about as long for 128 games as for one.
"""


def groups_of(games: int, device: str) -> int:
    """Into how many equal groups a process divides its games, so that a group's size is near ``GROUP``."""
    sizes = [size for size in range(1, games + 1) if games % size == 0]
    return games // min(sizes, key=lambda size: abs(math.log(size / GROUP[device])))


def configuration(options: LearnOptions, runs_dir: Path, session: int) -> Any:
    """Sample Factory's configuration for our options, straight from its own parser's defaults.

    Raises:
        OnibusError: a ``--sample-factory`` argument is not one of Sample Factory's, or is set by onibus.
    """
    argv = ["--algo=APPO", f"--env={options.task}", f"--experiment={options.run}", f"--train_dir={runs_dir}"]
    parser, _ = parse_sf_args(argv)
    ours = _ours(options)
    parser.set_defaults(**ours, **_others(parser, options.sample_factory, ours))
    cfg = parse_full_cfg(parser, argv)
    cfg.network = options.network
    cfg.onibus = options.model_dump(mode="json")
    cfg.environment_seed = options.seed + session * 1_000_003
    return cfg


def is_worth_saying(record: logging.LogRecord) -> bool:
    """False for Sample Factory's advice against a recurrence without recurrent layer: V-trace needs it."""
    return not (record.levelno == logging.WARNING and "is set but cfg.use_rnn=False" in str(record.msg))


def _ours(options: LearnOptions) -> dict[str, Any]:
    """What onibus sets, by Sample Factory's names."""
    same = {theirs: getattr(options, ours) for theirs, ours in _FROM_OPTION.items()}
    recurrent = options.core != "none"
    games = options.environments * (options.workers if options.serial else 1)
    two_halves = games % 2 == 0 and not options.serial
    local = options.acts_locally
    computed = {
        "restart_behavior": "resume",
        "async_rl": not options.serial,
        "num_workers": 1 if options.serial else options.workers,
        "num_envs_per_worker": games,
        "worker_num_splits": groups_of(games, options.device) if local else 2 if two_halves else 1,
        "policy_workers_per_policy": 0 if local else 1,
        "num_batches_per_epoch": 1,
        "normalize_returns": not options.vtrace,
        "normalize_input": False,
        "reward_scale": 1.0,
        "reward_clip": 1e9,
        "use_rnn": recurrent,
        "rnn_type": options.core if recurrent else "gru",
        "nonlinearity": "relu",
        "set_workers_cpu_affinity": False,
        "use_env_info_cache": False,
        "log_to_file": False,
        "experiment_summaries_interval": 10,
        "flush_summaries_interval": 10,
        "save_milestones_sec": options.milestone_seconds or -1,
        "train_for_env_steps": options.steps or int(1e18),
    }
    if options.vtrace:  # looks at whole trajectories, with a recurrent layer or without
        computed["recurrence"] = options.rollout
    return same | computed


def _others(
    parser: argparse.ArgumentParser, given: Mapping[str, str], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of ``--sample-factory``, as Sample Factory's own parser reads them."""
    known = {action.dest: action for action in parser._actions}
    found = {}
    for name, text in given.items():
        if name not in known:
            hint = did_you_mean(name, known, "see Sample Factory's own documentation")
            raise OnibusError(f"--sample-factory {name}: Sample Factory has no such argument; {hint}")
        if name in _FROM_OPTION or name in _INSTEAD:
            raise OnibusError(f"--sample-factory {name}: give it with {_our_flag(name)}")
        if name in ours or name in _NOT_HERE or name.startswith(("pbt_", "wandb_")):
            raise OnibusError(f"--sample-factory {name}: onibus works with its own value only; leave it out")
        found[name] = _read(known[name], text)
    return found


def _our_flag(name: str) -> str:
    if name in _INSTEAD:
        return _INSTEAD[name]
    field = _FROM_OPTION[name]
    return flag_name(field, LearnOptions.model_fields[field].metadata)


def _read(action: argparse.Action, text: str) -> Any:
    """The value of one argument; of one that takes several, they are separated by commas."""
    kind: Any = action.type or str
    try:
        if action.nargs in ("*", "+"):
            return [kind(part) for part in text.split(",") if part]
        value = kind(text)
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        name = getattr(kind, "__name__", "value").removeprefix("str2")
        raise OnibusError(
            f"--sample-factory {action.dest}: {text!r} is not a valid {name}; give another value"
        ) from error
    if action.choices is not None and value not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise OnibusError(f"--sample-factory {action.dest}: {text!r} is not one of: {choices}")
    return value
