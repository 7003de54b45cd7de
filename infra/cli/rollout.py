"""``onibus rollout``: play without learning; captions and episodes go to the bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.captioner_names import MESSAGE
from onibus.infra.cli.options import AsJson, MetricsPort, Verbose, with_settings
from onibus.infra.flags import MOST_SEED
from onibus.infra.observability.multiprocess import share_between_processes
from onibus.infra.process.fork_server import fork_the_fork_server
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import echo
from onibus.infra.run_names import check_run_name
from onibus.infra.settings import Settings
from onibus.producers.nethack.characters import DEFAULT_CHARACTER
from onibus.producers.nethack.task_names import Actions


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("rollout")(rollout)


@with_settings
def rollout(
    settings: Settings,
    task: Annotated[
        str | None,
        typer.Option(
            help="score, oracle, staircase, gold, scout, keyroom-s5 or any other MiniHack environment, or "
            "one that a module of yours registers. "
            "(default: the checkpoint's, else score)"
        ),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", help="Module that registers tasks, see extending.md; can be repeated."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run, for the published records.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of worker processes.")] = 1,
    environments: Annotated[int, typer.Option(min=1, max=1024, help="Environments per worker.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps in all.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop after this many seconds.")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Stop after this many episodes in all.")] = None,
    max_episode_steps: Annotated[
        int | None, typer.Option(min=1, help="Step limit of an episode. (default: the task's own)")
    ] = None,
    actions: Annotated[
        Actions | None,
        typer.Option(help="Actions in NetHack's tasks: oni (28) or nle (23). (default: by task)"),
    ] = None,
    character: Annotated[
        str | None,
        typer.Option(
            help="Who plays NetHack's tasks, such as val-dwa-law-fem; several, with commas between them, are "
            f"dealt out over the environments. (default: {DEFAULT_CHARACTER})"
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            help="What puts a step of NetHack's tasks into words: message, message-and-changes, or "
            "module:function of your own. (default: the checkpoint's, else message)"
        ),
    ] = None,
    dungeons: Annotated[
        str | None,
        typer.Option(
            help="Play NetHack's tasks in these dungeons over and over, by the seeds of their levels: "
            "2,4,7 or 1-5. (default: the checkpoint's, else each episode has its own)"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_SEED, help="Base seed; the same seed plays the same episodes."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Run folder or checkpoint file whose policy plays. (default: play at random)"),
    ] = None,
    metrics_port: MetricsPort = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play without learning, and publish captions and episodes. Plays until stopped unless limited."""
    set_up_logging(verbose)
    name = check_run_name(time.strftime("rollout-%Y%m%d-%H%M%S") if run is None else run)
    if metrics_port is not None:
        share_between_processes()

    from onibus.infra.observability import metrics
    from onibus.producers.rollout import Policy
    from onibus.producers.rollout import run as run_rollout
    from onibus.producers.rollout_options import RolloutOptions

    load_policy: Callable[[Path], Policy] | None = None
    if checkpoint is not None:
        from onibus.learner.checkpoint_policy import load_policy as load_checkpoint

        load_policy = load_checkpoint
    fork_the_fork_server()
    stopping = stop_event()
    if checkpoint is not None:
        policy = load_checkpoint(checkpoint)
        policy.warn_of_edits()
        trained = policy.options
        if task in (None, trained.task):
            task, actions = trained.played, actions or trained.actions
            imports = [*trained.imports, *(imports or ())]
            character = character or trained.character
            captioner = captioner or trained.captioner
            dungeons = dungeons or trained.dungeons
    metrics.expose(metrics_port, settings.metrics_host)
    options = RolloutOptions(
        task=task or "score",
        run=name,
        workers=workers,
        environments=environments,
        steps=steps,
        seconds=seconds,
        episodes=episodes,
        max_episode_steps=max_episode_steps,
        actions=actions,
        character=character,
        captioner=captioner or MESSAGE,
        dungeons=dungeons,
        seed=seed,
        imports=tuple(imports or ()),
        checkpoint=checkpoint,
    )
    summary = run_rollout(settings, options, stopping, load_policy)
    echo(json.dumps({"run": name, **asdict(summary)}) if as_json else f"run {name}: {summary}")
