"""``onibus export``: a run in the layouts of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

HF_FOLDER = "hf"
"""In a run's folder, where no other is given."""


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="A run for other programs.", no_args_is_help=True)
    group.callback()(lambda: None)  # a group, though it has one command
    group.command("hf")(with_settings(hugging_face))
    app.add_typer(group, name="export")


def hugging_face(
    settings: Settings,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run in RUNS_DIR, or its folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: hf in the run's folder)")
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Take the checkpoint with the best return instead of the newest.")
    ] = False,
    episodes: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Evaluate it in so many episodes first, for the card.")
    ] = 0,
) -> None:
    """Write a run as a model of the Hugging Face hub: weights, options, card, judges and labels.

    The folder can be given to onibus evaluate and onibus watch. Nothing is uploaded.
    """
    set_up_logging()

    from onibus.learner.evaluation.checkpoints import chosen_checkpoints
    from onibus.learner.evaluation.evaluation import evaluate
    from onibus.learner.evaluation.workers import EvaluationPlan
    from onibus.learner.reporting.hugging_face import export_run
    from onibus.learner.run_files.run_folders import find_run

    folder = find_run(settings.runs_dir, run)
    (checkpoint,) = chosen_checkpoints(settings.runs_dir, str(folder), "best" if best else "newest")
    evaluation: dict[str, Any] | None = None
    if episodes:
        evaluation = evaluate(checkpoint, EvaluationPlan(episodes)).to_json()
    out = to or folder / HF_FOLDER
    for name in export_run(settings, folder, checkpoint, out, evaluation):
        echo(f"  {name}")
    echo(f"written to {out}; to publish it: huggingface-cli upload USER/NAME {out}")
