"""`onibus learn`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from onibus.infra.cli.flags import with_options
from onibus.infra.cli.options import MetricsPort, Verbose, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.observability.multiprocess import share_between_processes
from onibus.infra.process.logs import set_up_logging
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("learn")(learn)


@with_settings
@with_options(LearnOptions, leave_out=("run",))
def learn(
    settings: Settings,
    given: dict[str, Any],
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the run; its files are in RUNS_DIR/NAME. (default: task, reward and time)"
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Several seeds, as in 1,2,3: a run of each, RUN-s1 and so on, one at a time, and their "
            "comparison. What is done is not done again. Needs --steps."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the run's newest checkpoint, with its own options; flags override them.",
        ),
    ] = False,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="The same, but start the run if it does not exist.")
    ] = False,
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Train a policy with Sample Factory and intrinsic rewards from the bus."""
    set_up_logging(verbose)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its threads only get in the workers' way
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, with which the workers act
    share_between_processes()

    if seeds is not None:
        _learn_seeds(settings, given, run, seeds, resume or resume_or_start, metrics_port)
        return

    from onibus.learner.chosen_options import chosen_options

    options, before = chosen_options(settings.runs_dir, given, run, resume=resume, or_start=resume_or_start)
    from onibus.learner.training import run as run_learner

    run_learner(settings, options, before, given, metrics_port)


def _learn_seeds(
    settings: Settings,
    given: dict[str, Any],
    name: str | None,
    seeds: str,
    resume: bool,
    metrics_port: int | None,
) -> None:
    from onibus.infra.cli.sweep import run_sweep
    from onibus.learner.sweeping.seeds import sweep_over_seeds

    if resume:
        raise OnibusError("--seeds goes on with runs that are there by itself; leave --resume out")
    if metrics_port is not None:
        raise OnibusError("--metrics-port is for one run; leave it or --seeds out")
    run_sweep(settings, sweep_over_seeds(given, name, seeds), parallel=1)
