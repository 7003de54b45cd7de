"""``onibus watch``: a run's policy at play, in the terminal."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.flags import MOST_SEED
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.learner.reporting.run_judge import CaptionJudge

PAUSE_SECONDS = 2.0
"""For which the end of a game stays."""

_NOTES = 20
"""Games, the last ones, that are summed up at the end."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("watch")(watch)


@with_settings
def watch(
    settings: Settings,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of a run in RUNS_DIR, its folder, or a checkpoint file."),
    ],
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Number of games. (default: until Ctrl-C)")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.0, help="Steps per second; 0 for as fast as possible.")
    ] = 10.0,
    greedy: Annotated[
        bool,
        typer.Option("--greedy/--sample", help="Take the likeliest action, or sample as training does."),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Base seed of the games, as of onibus evaluate.")
    ] = 0,
    max_episode_steps: Annotated[
        int | None, typer.Option(min=1, help="Step limit of a game. (default: the run's)")
    ] = None,
) -> None:
    """Play the newest policy of a run in the terminal, game after game; nothing is published.

    The games are those of onibus evaluate: training never plays them. While the run learns on, each game is
    played by the newest checkpoint. Captions have the run's rewards where a broker is there, and its specs.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a game is a batch of one

    from onibus.infra.cli.playback_view import PlaybackView, Terminal
    from onibus.learner.evaluation.checkpoints import run_folder_of
    from onibus.learner.evaluation.watching import newest_games
    from onibus.learner.reporting.recorded_episodes import ending
    from onibus.producers.nethack.playback import frames

    shown_on, notes = console(), deque[str](maxlen=_NOTES)
    judge: CaptionJudge | None = None
    title = ""
    with suppress(KeyboardInterrupt), Terminal(shown_on) as screen:

        def begin(checkpoint: Path, number: int) -> None:
            nonlocal judge, title
            title = f"{(run_folder_of(checkpoint) or checkpoint.parent).name} {checkpoint.stem} game {number}"
            screen.say(f"{title}: playing …")
            if judge is None:
                judge = _judge_of(settings, checkpoint, notes)

        games = newest_games(
            settings.runs_dir, run, seed=seed, greedy=greedy, most_steps=max_episode_steps, begin=begin
        )
        for record in islice(games, episodes):
            assert judge is not None
            view = PlaybackView(title)
            for frame in frames(record):
                view.add(frame, judge(frame.caption, frame.count))
                if shown_on.is_terminal:
                    screen.show(view)
                    time.sleep(1 / speed if speed else 0)
            notes.append(
                f"{title}: {record.steps:,} steps, {ending(record)}, return {record.extrinsic_return:g}, "
                f"intrinsic {view.intrinsic:.3f}"
            )
            if shown_on.is_terminal:
                time.sleep(PAUSE_SECONDS if speed else 0)
    for line in notes:
        echo(line)


def _judge_of(settings: Settings, checkpoint: Path, notes: deque[str]) -> CaptionJudge:
    """The run's own reward; without it where there is none, or no broker."""
    from onibus.learner.evaluation.checkpoints import run_folder_of
    from onibus.learner.options import load_options
    from onibus.learner.reporting.run_judge import RunJudge, not_judged

    if (folder := run_folder_of(checkpoint)) is None:
        return not_judged
    try:
        return RunJudge(settings, load_options(folder), folder)
    except OnibusError as error:
        notes.append(f"captions were shown without rewards: {error}")
        return not_judged
