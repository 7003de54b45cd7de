"""``onibus train-reward``: the trainer of one specification's reward model."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from onibus.infra.cli.options import MetricsPort, Verbose, with_settings
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train-reward")(train_reward)


@with_settings
def train_reward(
    settings: Settings,
    spec: Annotated[str, typer.Option(help="Name of the annotation spec to learn from.")] = "goals",
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and mini-batches.")] = 0,
    network: Annotated[
        str,
        typer.Option(help="max-over-time, published (ONI's sizes), small or large."),
    ] = "max-over-time",
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Train a reward model on the annotations and publish its versions.

    It continues where it was stopped. Run one per spec: a second one takes over, and the first one ends.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the weights' bits depend on it
    from onibus.consumers.reward_models.run import TrainOptions, run

    run(settings, TrainOptions(spec, seed, network, metrics_port, verbose))
