"""``onibus tiny-llama``: the stand-in for a language model that is trained here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.parent_death import release, stop_with_this_process
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

_STOPPED = "stopped before its end; nothing was kept"
PLAYED = ("keyroom-s5", "lockeddoor", "corridor-r3", "room-monster-5x5", "staircase", "score")
"""Where captions come from: rooms with keys, doors and monsters, and the full game."""

_Specs = Annotated[
    list[str] | None, typer.Option("--spec", help="Spec that it learns to answer; can be repeated.")
]
_Steps = Annotated[int, typer.Option(min=1, help="Maximum number of training steps.")]
_PlaySteps = Annotated[int, typer.Option(min=1, help="Random steps to play in each task.")]
_Width = Annotated[int, typer.Option(min=32, help="Width of the model, a multiple of 32.")]
_Layers = Annotated[
    int, typer.Option(min=1, help="Number of layers. A larger model keeps a server as busy as real ones do.")
]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the play, the weights and the exercises.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Make a stand-in for a language model that answers as the keyword rules do.",
        no_args_is_help=True,
    )
    group.command("make")(make)
    group.command("captions")(captions)
    group.command("train")(train)
    app.add_typer(group, name="tiny-llama")


@with_settings
def make(
    settings: Settings,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model. (default: RUNS_DIR/models/tiny-llama)")
    ] = None,
    spec: _Specs = None,
    steps: _Steps = 2_000,
    play_steps: _PlaySteps = 40_000,
    width: _Width = 128,
    layers: _Layers = 2,
    seed: _Seed = 0,
) -> None:
    """Gather captions and train on them (about three minutes on two cores). Needs make vllm."""
    from onibus.consumers.tiny_llama.folder import default_folder
    from onibus.infra.vllm.environment import vllm_python

    _check(width)
    python = str(vllm_python())
    stopping = stop_event()
    folder = out or default_folder(settings.runs_dir)
    found = folder.with_name(f"{folder.name}.captions.json")
    _gather(found, play_steps, seed, stopping)
    command = [
        python,
        "-m",
        "onibus",
        "tiny-llama",
        "train",
        "--captions",
        str(found),
        "--out",
        str(folder),
    ]
    command += ["--steps", str(steps), "--width", str(width), "--layers", str(layers), "--seed", str(seed)]
    for name in spec or ():
        command += ["--spec", name]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as training:
        stop_with_this_process(training.pid)
        while training.poll() is None:
            if stopping.wait(0.1):
                training.terminate()
    release(training.pid)
    if stopping.is_set():
        raise OnibusError(_STOPPED)
    if training.returncode:
        raise OnibusError(f"the training failed; {folder} is as it was, see the lines above")


def captions(
    out: Annotated[Path, typer.Option(help="File for the captions, a JSON list.")],
    play_steps: _PlaySteps = 40_000,
    seed: _Seed = 0,
) -> None:
    """Play at random and write the captions to a file. Needs the game."""
    _gather(out, play_steps, seed, stop_event())


def train(
    captions: Annotated[Path, typer.Option(help="The file of captions.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; its contents are replaced.")],
    spec: _Specs = None,
    steps: _Steps = 2_000,
    width: _Width = 128,
    layers: _Layers = 2,
    seed: _Seed = 0,
) -> None:
    """Train on captions. Runs in vLLM's environment."""
    _check(width)
    try:
        from onibus.consumers.tiny_llama.making import make as make_model
        from onibus.consumers.tiny_llama.training import TrainingOptions
    except ModuleNotFoundError as error:
        raise OnibusError(
            f"{sys.executable} has no {error.name}; run it as .venv-vllm/bin/onibus (make vllm)"
        ) from error
    from onibus.consumers.tiny_llama.folder import SPECS
    from onibus.infra.process.logs import set_up_logging

    set_up_logging()
    make_model(
        captions, out, spec or SPECS, TrainingOptions(steps=steps, width=width, layers=layers, seed=seed)
    )
    echo(f"a stand-in for a language model, no more: {out} (see its README.md)")


def _check(width: int) -> None:
    from onibus.consumers.tiny_llama.folder import HEAD

    if width % HEAD:
        raise OnibusError(
            f"--width {width} is not a multiple of {HEAD}, the width of an attention head; choose one"
        )


def _gather(out: Path, play_steps: int, seed: int, stopping: threading.Event) -> None:
    from onibus.producers.nethack.random_play import random_captions

    found = random_captions(PLAYED, play_steps, seed, stopping)
    if stopping.is_set():
        raise OnibusError(_STOPPED)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found))
    echo(f"{len(found)} captions of {play_steps:,} random steps in each of {', '.join(PLAYED)}: {out}")


def stand_in(settings: Settings, stopping: threading.Event) -> Path:
    """The folder of the tiny Llama under the runs folder, made now if none is kept.

    Raises:
        OnibusError: its training failed, or was stopped.
    """
    from onibus.consumers.tiny_llama.folder import default_folder, is_kept
    from onibus.infra.process.supervisor import Component
    from onibus.infra.settings import environment_of

    folder = default_folder(settings.runs_dir).resolve()
    if is_kept(folder):
        return folder
    log = folder.with_name(f"{folder.name}.log")
    echo(f"training a stand-in for a language model, once, about three minutes (log: {log}) …")
    making = Component("the stand-in's training", ["tiny-llama", "make", "--out", str(folder)], log)
    making.start(environment_of(settings))
    try:
        while not making.finished():
            making.check()
            if stopping.wait(0.1):
                raise OnibusError(_STOPPED)
    finally:
        making.ask_to_stop()
        making.wait_stopped()
    return folder
