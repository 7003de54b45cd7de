"""``onibus episodes``: what recorded episodes came to."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.recorded_episodes import reached, recorded_episodes
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.schemas.records import EpisodeFinished

_SEEDS_AND_ACTIONS = {"seed_core", "seed_disp", "seed_level", "actions", "checksum", "caption_checksum"}
"""What plays an episode again, and says nothing to a reader."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("episodes")(episodes)


@with_settings
def episodes(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Name of a run, or the beginning of an episode's name.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Number of episodes, the newest ones.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List recorded episodes: how each ended, and what it came to."""
    newest = deque(recorded_episodes(settings, name), limit)
    if name and not newest:
        raise OnibusError(
            f"no episode of {name!r} is recorded; onibus episodes without a name lists all there are"
        )
    if as_json:
        echo(json.dumps([_row(record) for record in newest], indent=2))
        return
    for record in newest:
        ended = record.cause_of_death or record.end.replace("_", " ")
        echo(f"{_key(record)}  {record.task}  {record.steps:,} steps  {ended}")
        echo(f"    return {record.extrinsic_return:g}, {reached(record)}")


def _row(record: EpisodeFinished) -> dict[str, Any]:
    known = {name: value for name, value in asdict(record).items() if name not in _SEEDS_AND_ACTIONS}
    return {"episode_key": _key(record), **known}


def _key(record: EpisodeFinished) -> str:
    from onibus.schemas.ids import episode_key

    return episode_key(record).decode()
