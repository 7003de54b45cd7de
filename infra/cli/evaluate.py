"""``onibus evaluate``: how well a checkpoint plays, in games that no training has played."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.devices import Device, torch_device
from onibus.infra.flags import MOST_SEED
from onibus.infra.process.fork_server import fork_the_fork_server
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from onibus.learner.evaluation.evaluation import PolicyEvaluation
    from onibus.learner.evaluation.workers import EvaluationPlan


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("evaluate")(evaluate)


@with_settings
def evaluate(
    settings: Settings,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of a run in RUNS_DIR, its folder, or a checkpoint file."),
    ],
    episodes: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Number of episodes of each checkpoint.")
    ] = 100,
    checkpoints: Annotated[
        Literal["newest", "best", "all"],
        typer.Option(help="Of a run: the newest checkpoint, the best, or all that are kept."),
    ] = "newest",
    greedy: Annotated[
        bool,
        typer.Option("--greedy/--sample", help="Take the likeliest action, or sample as training does."),
    ] = False,
    environments: Annotated[
        int, typer.Option(min=1, max=1024, help="Games side by side in each process.")
    ] = 16,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of processes.")] = 1,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_SEED, help="Base seed of the games; the same games for every checkpoint."
        ),
    ] = 0,
    training_dungeons: Annotated[
        bool,
        typer.Option(
            "--training-dungeons", help="Of a run with --dungeons: play in the same dungeons, not in others."
        ),
    ] = False,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Play a fixed number of episodes with a checkpoint's policy; nothing is published, nothing learned.

    The games are the same for every checkpoint, and none that training plays; the dungeons are others, too,
    unless --training-dungeons is given. The same command gives the same figures again.
    """
    set_up_logging()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: batches are small

    from onibus.learner.evaluation.checkpoints import chosen_checkpoints

    found = chosen_checkpoints(settings.runs_dir, run, checkpoints)

    # PyTorch is imported for a run that exists only.
    from onibus.learner.evaluation.workers import EvaluationPlan

    if workers > 1 and device == "cpu":  # what CUDA has begun in a process cannot go on in a fork of it
        fork_the_fork_server()
    games = EvaluationPlan(
        episodes, environments, workers, seed, greedy, torch_device(device), training_dungeons
    )
    done = _evaluate(found, games)
    if as_json:
        echo(json.dumps([evaluation.to_json() for evaluation in done], indent=2))
        return
    for evaluation in done:
        _print(evaluation)


def _evaluate(checkpoints: list[Path], games: EvaluationPlan) -> list[PolicyEvaluation]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from onibus.learner.evaluation.evaluation import evaluate as evaluate_one

    shown_on = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown_on, transient=True, disable=not shown_on.is_terminal) as bar:
        done = []
        for path in checkpoints:
            line = bar.add_task(path.stem, total=games.episodes)
            done.append(evaluate_one(path, games, lambda _, line=line: bar.advance(line)))  # type: ignore[misc]
        return done


def _print(evaluation: PolicyEvaluation) -> None:
    from rich.table import Table

    games = evaluation.games
    how = "the likeliest action" if games.greedy else "sampled actions"
    table = Table(
        title=f"{evaluation.run}, {evaluation.env_steps:,} steps: {games.episodes:,} episodes of "
        f"{evaluation.task}, {how}, seed {games.seed}",
        title_justify="left",
    )
    table.add_column("figure")
    for name in ("mean", "95 % of the mean", "median", "smallest", "largest"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figure in evaluation.figures.items():
        mean, median = figure.mean, figure.median
        interval = "–" if games.episodes == 1 else f"{_n(mean.low)} … {_n(mean.high)}"
        row = (_n(mean.value), interval, _n(median.value), _n(figure.smallest), _n(figure.largest))
        table.add_row(name.replace("_", " "), *row)
    out = console()
    out.print(table)
    for title, captions in (("pay most", evaluation.pay_most), ("pay least", evaluation.pay_least)):
        if captions:
            listing = Table(title=f"captions that {title}, per episode", title_justify="left")
            listing.add_column("caption")
            listing.add_column("times", justify="right")
            listing.add_column("reward", justify="right")
            for caption in captions:
                listing.add_row(caption.text, f"{caption.times:.2f}", f"{caption.reward:.3f}")
            out.print(listing)
    deaths = list(evaluation.deaths.items())[:5]
    if deaths:
        out.print("deaths: " + ", ".join(f"{cause} {count:,}" for cause, count in deaths))
    speed = evaluation.steps / max(evaluation.seconds, 1e-9)
    out.print(f"{evaluation.steps:,} steps in {evaluation.seconds:.1f} s, {speed:,.0f}/s")


def _n(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
