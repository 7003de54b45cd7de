"""``onibus sweep``: many runs from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.files import write_or_refuse
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.learner.sweeping.running import SweepRunner
    from onibus.learner.sweeping.sweep_file import Sweep


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("sweep")(sweep)


@with_settings
def sweep(
    settings: Settings,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Sweep file (TOML), or the name of a built-in one: goal-steers."),
    ],
    parallel: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Runs at a time. (default: the file's, or 1)")
    ] = None,
    scale: Annotated[
        float,
        typer.Option(min=1e-6, max=1e6, help="Share of each run's steps to take; 0.01 for a first look."),
    ] = 1.0,
    slurm: Annotated[
        Path | None, typer.Option(help="Write a Slurm array script to this file instead of running.")
    ] = None,
    kubernetes: Annotated[
        Path | None, typer.Option(help="Write a Kubernetes job to this file instead of running.")
    ] = None,
) -> None:
    """Make every run of a sweep file, so many at a time, then compare them.

    What is done is not done again: stop it and start it again at any time. Needs a broker.
    """
    set_up_logging()

    from onibus.learner.sweeping.sweep_file import read_sweep

    chosen = read_sweep(file, scale)
    at_a_time = parallel or chosen.parallel
    if slurm is not None or kubernetes is not None:
        _write_files(settings, chosen, at_a_time, slurm, kubernetes)
        return
    run_sweep(settings, chosen, at_a_time)


def _write_files(
    settings: Settings, chosen: Sweep, parallel: int, slurm: Path | None, kubernetes: Path | None
) -> None:
    import onibus
    from onibus.learner.sweeping.clusters import kubernetes_job, slurm_script

    if slurm is not None:
        write_or_refuse(slurm, slurm_script(settings, chosen, parallel))
        echo(f"{len(chosen.runs)} runs: sbatch {slurm}")
    if kubernetes is not None:
        write_or_refuse(kubernetes, kubernetes_job(chosen, parallel, onibus.__version__))
        echo(f"{len(chosen.runs)} runs: kubectl apply -f {kubernetes}")
    if chosen.annotators is not None:
        echo(f"and somewhere: onibus {' '.join(chosen.annotators)}")


def run_sweep(settings: Settings, chosen: Sweep, parallel: int) -> None:
    """Make the runs on this machine, show how far they are, and compare them at the end.

    Raises:
        OnibusError: a run failed, or is there with other options.
        typer.Exit: it was stopped before all were done.
    """
    from onibus.learner.comparing.comparison import compare
    from onibus.learner.comparing.groups import grouped, read_run
    from onibus.learner.comparing.page import final_table, write_page
    from onibus.learner.sweeping.running import SweepRunner
    from onibus.learner.sweeping.view import sweep_view

    stopping, shown_on = stop_event(), console()
    runner = SweepRunner(settings, chosen, parallel, stopping)
    with sweep_view(shown_on, runner, chosen.runs) as look:
        runner.run(look)
        look()
    done = [options for options in chosen.runs if runner.states[options.run] == "done"]
    echo(f"{len(done)} of {len(chosen.runs)} runs of {chosen.name} are done")
    if stopping.is_set() and len(done) < len(chosen.runs):
        echo("stopped; the same command goes on from here")
        raise typer.Exit(130)
    try:
        if done:
            comparison = compare(grouped([read_run(runner.folder(options)) for options in done]))
            page = settings.runs_dir / f"{chosen.name}.html"
            write_page(comparison, page)
            shown_on.print(final_table(comparison))
            echo(str(page))
    finally:  # also where those that are done are too short to be compared
        _say_what_failed(runner)


def _say_what_failed(runner: SweepRunner) -> None:
    if not (failed := runner.failures()):
        return
    first = failed[0]
    raise OnibusError(
        f"{len(failed)} runs failed ({', '.join(failed)}); the same command tries them again. "
        f"The last lines of {first} (all in {runner.log_path(first)}):\n{runner.last_lines(first)}"
    )
