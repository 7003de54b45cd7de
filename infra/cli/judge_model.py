"""``onibus judge-model``: a small language model on this machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

PROBABILITY = "-probability"
"""End of the names of built-in specs that small models can judge under."""


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="A small language model to judge captions on this machine.", no_args_is_help=True
    )
    group.command("make")(make)
    group.callback()(lambda: None)  # a group, although it has one command
    app.add_typer(group, name="judge-model")


@with_settings
def make(
    settings: Settings,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder for the model. (default: RUNS_DIR/models/SmolLM2-135M-Instruct)"),
    ] = None,
) -> None:
    """Fetch SmolLM2-135M-Instruct (95 MB, Apache-2.0) and make a folder that vLLM serves. Needs make vllm."""
    from onibus.infra.vllm.judge_model import default_folder, make_judge_model

    place = folder or default_folder(settings.runs_dir)
    make_judge_model(place, stop_event())
    echo(str(place))


def judge_model(settings: Settings, stopping: threading.Event) -> Path:
    """The folder of the model under the runs folder, made now if there is none.

    Raises:
        OnibusError: as for :func:`onibus.infra.vllm.judge_model.make_judge_model`.
    """
    from onibus.infra.vllm.judge_model import NAME, default_folder, is_made, make_judge_model

    folder = default_folder(settings.runs_dir).resolve()
    if not is_made(folder):
        echo(f"fetching {NAME} (95 MB, once) …")
    make_judge_model(folder, stopping)
    return folder
