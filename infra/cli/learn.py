"""`onibus learn`."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import typer

from onibus.infra.cli.options import MetricsPort, Verbose, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.observability.multiprocess import share_between_processes
from onibus.infra.process.logs import set_up_logging
from onibus.infra.run_names import check_run_name
from onibus.infra.settings import Settings

_REWARD = "Reward and learning"
_SIZE = "Size and length"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("learn")(learn)


@with_settings
def learn(
    settings: Settings,
    task: Annotated[
        str,
        typer.Option(
            help="score, oracle, staircase, gold, scout, keyroom-s5 or any other MiniHack environment."
        ),
    ] = "keyroom-s5",
    run: Annotated[str | None, typer.Option(help="Name of the run; its files are in RUNS_DIR/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="The same, but start the run if it does not exist.")
    ] = False,
    reward: Annotated[
        str | None,
        typer.Option(
            help="retrieval (labels); classification or ranking (a model of onibus train-reward); motif (a "
            "frozen model, see --motif-model); similarity (to the goal, see --embedding); or none.",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    reward_threshold: Annotated[
        float | None,
        typer.Option(
            help="Score above which a caption is rewarded. (default: classification p(helpful) 0.5; ranking "
            "and motif 0 deviations above the mean; similarity cosine 0)",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    motif_model: Annotated[
        str | None,
        typer.Option(
            help="For motif: file of a ranking model, or its name on the bus.", rich_help_panel=_REWARD
        ),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="For similarity: hashed, a file of word vectors, or sentence-transformers:MODEL. "
            "(default: hashed)",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option(
            help="Annotation spec, NAME or NAME=COEFFICIENT; can be repeated to mix specs.",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    extrinsic_coefficient: Annotated[
        float | None,
        typer.Option(
            help="Coefficient of the task's own reward; 0 for reward-free.", rich_help_panel=_REWARD
        ),
    ] = None,
    count_beta: Annotated[
        float | None,
        typer.Option(help="Exponent of a caption's count in its episode.", rich_help_panel=_REWARD),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate of the policy.", rich_help_panel=_REWARD)
    ] = None,
    discount: Annotated[float | None, typer.Option(help="Discount factor.", rich_help_panel=_REWARD)] = None,
    entropy: Annotated[
        float | None, typer.Option(help="Coefficient of the entropy bonus.", rich_help_panel=_REWARD)
    ] = None,
    vtrace: Annotated[
        bool, typer.Option("--vtrace", help="Use V-trace instead of GAE.", rich_help_panel=_REWARD)
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(
            help="small (for CPUs) or full (sees map and message, with an LSTM).", rich_help_panel=_SIZE
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of rollout worker processes.", rich_help_panel=_SIZE)
    ] = None,
    environments: Annotated[
        int | None, typer.Option(help="Environments per worker.", rich_help_panel=_SIZE)
    ] = None,
    rollout: Annotated[int | None, typer.Option(help="Steps per rollout.", rich_help_panel=_SIZE)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Transitions per batch.", rich_help_panel=_SIZE)
    ] = None,
    max_episode_steps: Annotated[
        int | None,
        typer.Option(help="Step limit of an episode. (default: the task's own)", rich_help_panel=_SIZE),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Stop after this many steps in all.", rich_help_panel=_SIZE)
    ] = None,
    until_return: Annotated[
        float | None,
        typer.Option(help="Stop once the mean return of 100 episodes reaches this.", rich_help_panel=_SIZE),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this many seconds.", rich_help_panel=_SIZE)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
    serial: Annotated[
        bool, typer.Option("--serial", help="Everything in one process, for debugging.")
    ] = False,
    captions: Annotated[
        bool, typer.Option(help="--no-captions turns all caption work off, for a baseline.")
    ] = True,
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Train a policy with Sample Factory and intrinsic rewards from the bus."""
    set_up_logging(verbose)
    given: dict[str, Any] = {
        "reward": reward, "reward_threshold": reward_threshold, "motif_model": motif_model,
        "embedding": embedding,
        "extrinsic_coefficient": extrinsic_coefficient, "count_beta": count_beta,
        "learning_rate": learning_rate, "discount": discount, "entropy": entropy, "vtrace": vtrace,
        "network": network, "workers": workers, "environments": environments, "rollout": rollout,
        "batch_size": batch_size, "max_episode_steps": max_episode_steps, "steps": steps,
        "until_return": until_return, "seconds": seconds, "seed": seed, "device": device, "serial": serial,
        "captions": captions,
    }  # fmt: skip
    if resume and run is None:
        raise OnibusError("--resume needs the --run to go on with")
    default_name = f"{task}-{reward or 'retrieval'}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = check_run_name(default_name if run is None else run)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its threads only get in the workers' way
    share_between_processes()

    from onibus.learner.options import default_specs, make_options, parse_spec_shares
    from onibus.learner.training import run as run_learner

    if spec:
        default = default_specs(task, reward or "retrieval")[0].coefficient
        given["specs"] = parse_spec_shares(spec, default)
    options = make_options(task, run=name, **given)
    going_on = resume or resume_or_start
    run_learner(settings, options, resume=going_on, or_start=resume_or_start, metrics_port=metrics_port)
