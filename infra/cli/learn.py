"""`onibus learn`."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import typer

from infra.cli.options import MetricsPort, Verbose, with_settings
from infra.observability.multiprocess import share_between_processes
from infra.process.logs import set_up_logging
from infra.settings import Settings

_REWARD = "Reward and learning"
_SIZE = "Size and length"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("learn")(learn)


@with_settings
def learn(
    settings: Settings,
    task: Annotated[
        str, typer.Option(help="score, oracle, staircase, gold, scout, keyroom-s5, …")
    ] = "keyroom-s5",
    run: Annotated[str | None, typer.Option(help="Name of the run; its files lie in RUNS_DIR/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    reward: Annotated[
        str | None,
        typer.Option(
            help="retrieval; classification or ranking (a model: onibus train-reward); motif (a frozen one: "
            "--motif-model); similarity (to the goal: --embedding); or none.",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    reward_threshold: Annotated[
        float | None,
        typer.Option(
            help="Score above which a model rewards. [default: p(helpful) 0.5; 0 deviations above the mean; "
            "cosine 0]",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    motif_model: Annotated[
        str | None,
        typer.Option(help="File of a ranking model, or its name on the bus.", rich_help_panel=_REWARD),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="hashed, a file of word vectors, or sentence-transformers:MODEL. [default: hashed]",
            rich_help_panel=_REWARD,
        ),
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option(
            help="Annotation specification, NAME or NAME=COEFFICIENT; repeat to mix.", rich_help_panel=_REWARD
        ),
    ] = None,
    extrinsic_coefficient: Annotated[
        float | None, typer.Option(help="c_ext; 0 for reward-free.", rich_help_panel=_REWARD)
    ] = None,
    count_beta: Annotated[
        float | None, typer.Option(help="Exponent of the count.", rich_help_panel=_REWARD)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(rich_help_panel=_REWARD)] = None,
    discount: Annotated[float | None, typer.Option(rich_help_panel=_REWARD)] = None,
    entropy: Annotated[float | None, typer.Option(help="Entropy bonus.", rich_help_panel=_REWARD)] = None,
    vtrace: Annotated[
        bool, typer.Option("--vtrace", help="V-trace instead of GAE.", rich_help_panel=_REWARD)
    ] = False,
    network: Annotated[
        str | None, typer.Option(help="small (CPU) or full (map, message, LSTM).", rich_help_panel=_SIZE)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Rollout worker processes.", rich_help_panel=_SIZE)
    ] = None,
    environments: Annotated[
        int | None, typer.Option(help="Environments a worker.", rich_help_panel=_SIZE)
    ] = None,
    rollout: Annotated[int | None, typer.Option(help="Steps of a rollout.", rich_help_panel=_SIZE)] = None,
    batch_size: Annotated[int | None, typer.Option(rich_help_panel=_SIZE)] = None,
    max_episode_steps: Annotated[int | None, typer.Option(rich_help_panel=_SIZE)] = None,
    steps: Annotated[
        int | None, typer.Option(help="Stop after so many in all.", rich_help_panel=_SIZE)
    ] = None,
    until_return: Annotated[
        float | None,
        typer.Option(help="Stop once the mean return of 100 episodes is this.", rich_help_panel=_SIZE),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many.", rich_help_panel=_SIZE)] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    device: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
    serial: Annotated[
        bool, typer.Option("--serial", help="Everything in one process, for debugging.")
    ] = False,
    captions: Annotated[
        bool, typer.Option(help="--no-captions leaves all caption work out: a plain baseline.")
    ] = True,
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Train a policy with Sample Factory: its workers publish captions, its reward follows the labels."""
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
    name = run or f"{task}-{reward or 'retrieval'}-{time.strftime('%Y%m%d-%H%M%S')}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its threads only get in the workers' way
    share_between_processes()

    from learner.options import default_specs, make_options, parse_spec_shares
    from learner.training import run as run_learner

    if spec:
        default = default_specs(task, reward or "retrieval")[0].coefficient
        given["specs"] = parse_spec_shares(spec, default)
    options = make_options(task, run=name, **given)
    run_learner(settings, options, resume=resume, metrics_port=metrics_port)
