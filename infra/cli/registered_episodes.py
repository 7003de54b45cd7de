"""Recorded episodes of registered tasks, as the commands show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.process.terminal import echo

if TYPE_CHECKING:
    from onibus.schemas.records import EpisodeFinished

Imports = Annotated[
    list[str] | None,
    typer.Option("--import", help="Module that registers tasks, see extending.md; can be repeated."),
]


def captions_and_counts(record: EpisodeFinished) -> Iterator[tuple[str | None, int]]:
    """Play an episode of any task again: by step its caption and how often it has come up.

    Raises:
        OnibusError: the task is unknown; or, at the end, what came about is not what was recorded.
    """
    if record.plugin:
        from onibus.producers.environments.playback import play_again

        return ((step.caption, step.times) for step in play_again(record))
    from onibus.producers.nethack.playback import frames

    return ((frame.caption, frame.count) for frame in frames(record))


def other_version(record: EpisodeFinished) -> str | None:
    """What to say if another version of the game recorded an episode than is here; None if it was this.

    Raises:
        OnibusError: its task is not registered here.
    """
    if record.plugin:
        from onibus.producers.environments.playback import other_plugin

        return other_plugin(record)
    from onibus.producers.nethack.episodes import other_version as other_nle

    return other_nle(record)


def show_steps(record: EpisodeFinished, key: str, reward: Callable[[str | None, int], float]) -> None:
    """Play an episode of a registered task again; write each step that has a caption or a reward.

    Args:
        record: the episode.
        key: its name.
        reward: the intrinsic reward of a caption that came up so many times.
    """
    from onibus.learner.reporting.recorded_episodes import end_in_words
    from onibus.producers.environments.playback import play_again

    intrinsic = 0.0
    for step in play_again(record):
        paid = reward(step.caption, step.times)
        intrinsic += paid
        if step.caption is not None or step.extrinsic:
            echo(f"{step.number:6,}  reward {step.extrinsic:g}  intrinsic {paid:.3f}  {step.caption or ''}")
    echo(
        f"{key}: {record.steps:,} steps, the same as recorded; {end_in_words(record)}; return "
        f"{record.extrinsic_return:g}, intrinsic {intrinsic:.3f}"
    )
    for name, number in record.statistics.items():
        echo(f"{name} {number:g}")
