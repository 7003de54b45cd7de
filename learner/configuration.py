"""Sample Factory's configuration for the options of a run, straight from its own parser's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args

from onibus.learner.networks import RNN_SIZE
from onibus.learner.options import LearnOptions
from onibus.learner.supervision import EPISODES_AVERAGED


def configuration(options: LearnOptions, runs_dir: Path, session: int) -> Any:
    """Sample Factory's configuration for our options, straight from its own parser's defaults."""
    argv = ["--algo=APPO", f"--env={options.task}", f"--experiment={options.run}", f"--train_dir={runs_dir}"]
    parser, _ = parse_sf_args(argv)
    parser.set_defaults(
        restart_behavior="resume",
        device=options.device,
        seed=options.seed,
        serial_mode=options.serial,
        async_rl=not options.serial,
        num_workers=1 if options.serial else options.workers,
        num_envs_per_worker=options.environments * (options.workers if options.serial else 1),
        worker_num_splits=2 if options.environments % 2 == 0 and not options.serial else 1,
        batch_size=options.batch_size,
        rollout=options.rollout,
        num_epochs=options.epochs,
        num_batches_per_epoch=1,
        learning_rate=options.learning_rate,
        gamma=options.discount,
        exploration_loss_coeff=options.entropy,
        max_grad_norm=options.gradient_norm,
        with_vtrace=options.vtrace,
        normalize_returns=not options.vtrace,
        normalize_input=False,
        reward_scale=1.0,
        reward_clip=1e9,
        use_rnn=options.recurrent,
        rnn_size=RNN_SIZE,
        nonlinearity="relu",
        set_workers_cpu_affinity=False,
        use_env_info_cache=False,
        log_to_file=False,
        save_every_sec=options.checkpoint_seconds,
        experiment_summaries_interval=10,
        flush_summaries_interval=10,
        stats_avg=EPISODES_AVERAGED,
        train_for_env_steps=options.steps or int(1e18),
    )
    cfg = parse_full_cfg(parser, argv)
    cfg.network = options.network
    cfg.onibus = options.model_dump(mode="json")
    cfg.environment_seed = options.seed + session * 1_000_003
    return cfg
