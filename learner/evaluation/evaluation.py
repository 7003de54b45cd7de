"""The evaluation of one checkpoint: its games, and what they come to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.learner.checkpoints import options_in, read_checkpoint, warn_of_edits
from onibus.learner.evaluation.checkpoints import run_folder_of
from onibus.learner.evaluation.episodes import PlayedEpisode
from onibus.learner.evaluation.payment import PaidCaption, paid_captions
from onibus.learner.evaluation.workers import EvaluationPlan, played
from onibus.learner.intervals import Estimate, estimate, median_of_rows
from onibus.learner.options import load_options


@dataclass(frozen=True, slots=True)
class EpisodeFigure:
    """One figure of all episodes that have it: mean and median, each with its 95 % interval."""

    episodes: int
    mean: Estimate
    median: Estimate
    smallest: float
    largest: float

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        return asdict(self) | {"mean": self.mean.to_json(), "median": self.median.to_json()}


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """What a checkpoint did.

    Attributes:
        checkpoint: its file. run: name of the run that it is of. task: what was played.
        env_steps: steps of training behind it.
        figures: by name.
        ends: how many episodes ended in each way. deaths: and of what, the most frequent first.
        pay_most, pay_least: captions that the run's reward pays most and least for, per episode.
        steps: actions taken. seconds: time taken.
    """

    checkpoint: Path
    run: str
    task: str
    env_steps: int
    games: EvaluationPlan
    figures: dict[str, EpisodeFigure]
    ends: dict[str, int]
    deaths: dict[str, int]
    pay_most: Sequence[PaidCaption]
    pay_least: Sequence[PaidCaption]
    steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything, as ``--json`` prints it."""
        figures = {name: figure.to_json() for name, figure in self.figures.items()}
        return asdict(self) | {"checkpoint": str(self.checkpoint), "figures": figures}


def evaluate(
    checkpoint: Path, games: EvaluationPlan, ended: Callable[[PlayedEpisode], None] = lambda _: None
) -> PolicyEvaluation:
    """Play the games with the policy of a checkpoint.

    Args:
        ended: called with each episode when it has ended.

    Raises:
        OnibusError: the checkpoint cannot be read, or cannot play, or its run has no training dungeons.
    """
    content = read_checkpoint(checkpoint, advice="give another checkpoint")
    options = options_in(content) or load_options(checkpoint.parent.parent)
    warn_of_edits(content, options)
    if games.training_dungeons and options.dungeons is None:
        raise OnibusError(
            f"--training-dungeons: run {options.run} has no dungeons that it was trained in; leave it out"
        )
    began = time.monotonic()
    episodes: list[PlayedEpisode] = []
    captions: Counter[str] = Counter()
    for episode in played(checkpoint, games):
        captions.update(episode.captions)
        episode.captions.clear()
        episodes.append(episode)
        ended(episode)
    seconds = time.monotonic() - began
    episodes.sort(key=lambda episode: episode.index)
    most, least = paid_captions(run_folder_of(checkpoint), captions, len(episodes))
    return PolicyEvaluation(
        checkpoint=checkpoint,
        run=options.run,
        task=options.task,
        env_steps=int(content["env_steps"]),
        games=games,
        figures=_figures(episodes),
        ends=_counted(episode.end for episode in episodes if episode.end),
        deaths=_counted(episode.cause_of_death for episode in episodes if episode.cause_of_death),
        pay_most=most,
        pay_least=least,
        steps=int(sum(episode.figures["episode_steps"] for episode in episodes)),
        seconds=seconds,
    )


def _figures(episodes: Sequence[PlayedEpisode]) -> dict[str, EpisodeFigure]:
    names = dict.fromkeys(name for episode in episodes for name in episode.figures)
    figures = {}
    for name in names:
        values = [episode.figures[name] for episode in episodes if name in episode.figures]
        figures[name] = EpisodeFigure(
            len(values), estimate(values), estimate(values, median_of_rows), min(values), max(values)
        )
    return figures


def _counted(words: Any) -> dict[str, int]:
    return dict(Counter(words).most_common())
