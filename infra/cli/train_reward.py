"""``onibus train-reward``: the trainer of one specification's reward model."""

from __future__ import annotations

import os
from typing import Any

import typer

from onibus.consumers.reward_models.options import TrainOptions
from onibus.infra.cli.flags import with_options
from onibus.infra.cli.options import MetricsPort, Verbose, with_settings
from onibus.infra.flags import made
from onibus.infra.process.logs import set_up_logging
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train-reward")(train_reward)


@with_settings
@with_options(TrainOptions)
def train_reward(
    settings: Settings, given: dict[str, Any], metrics_port: MetricsPort = None, verbose: Verbose = False
) -> None:
    """Train a reward model on the annotations and publish its versions.

    It continues where it was stopped. Run one per spec: a second one takes over, and the first one ends.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the weights' bits depend on it
    options = made(TrainOptions, given)
    set_up_logging(verbose)
    from onibus.consumers.reward_models.run import run

    run(settings, options, metrics_port)
