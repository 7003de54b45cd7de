"""``onibus episodes``: what recorded episodes came to."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.schemas.records import EpisodeFinished

_SEEDS_AND_ACTIONS = {"seed_core", "seed_disp", "seed_level", "actions", "checksum", "caption_checksum"}
"""What plays an episode again, and says nothing to a reader."""


class Order(StrEnum):
    """Which episodes are listed, where there are more than are asked for."""

    NEWEST = "newest"
    BEST = "best"
    WORST = "worst"
    LONGEST = "longest"


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Recorded episodes.", no_args_is_help=True)
    group.command("list")(with_settings(list_episodes))
    app.add_typer(group, name="episodes")


def list_episodes(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Name of a run, or the beginning of an episode's name.")] = "",
    task: Annotated[str | None, typer.Option(help="Only episodes of this task.")] = None,
    ended: Annotated[
        str | None,
        typer.Option(help="Only those with this text in how they ended: death, successful, newt."),
    ] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--no-success", help="Only those with, or without, success.")
    ] = None,
    return_above: Annotated[float | None, typer.Option(help="Only those with a return above this.")] = None,
    return_below: Annotated[float | None, typer.Option(help="Only those with a return below this.")] = None,
    depth: Annotated[int | None, typer.Option(help="Only those that came to this depth at least.")] = None,
    order: Annotated[
        Order, typer.Option(help="Which ones: newest, best or worst (by return), or longest; that one last.")
    ] = Order.NEWEST,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of episodes.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List recorded episodes: how each ended, and what it came to."""
    from onibus.learner.reporting.recorded_episodes import ending, reached, recorded_episodes

    def is_wanted(record: EpisodeFinished) -> bool:
        return (
            (task is None or record.task == task)
            and (ended is None or ended.lower() in f"{record.end} {ending(record)}".lower())
            and (success is None or record.success is success)
            and (return_above is None or record.extrinsic_return > return_above)
            and (return_below is None or record.extrinsic_return < return_below)
            and (depth is None or record.depth >= depth)
        )

    wanted = (record for record in recorded_episodes(settings, name) if is_wanted(record))
    chosen = _chosen(wanted, order, limit)
    if not chosen and not as_json:
        raise OnibusError(
            f"no episode of {name!r} is recorded that fits; onibus episodes list without a name and "
            "other flags lists what there is"
            if name
            else "no episode is recorded that fits; leave flags out to see more"
        )
    if as_json:
        echo(json.dumps([_row(record) for record in chosen], indent=2))
        return
    for record in chosen:
        echo(f"{_key(record)}  {record.task}  {record.steps:,} steps  {ending(record)}")
        echo(f"    return {record.extrinsic_return:g}, {reached(record)}")


def _chosen(records: Iterator[EpisodeFinished], order: Order, limit: int) -> list[EpisodeFinished]:
    """No more than ``limit``, the one that is most so last; memory is bounded by them."""
    if order is Order.NEWEST:
        return list(deque(records, limit))
    if order is Order.WORST:
        return nsmallest(limit, records, key=lambda one: one.extrinsic_return)[::-1]
    by_steps = order is Order.LONGEST
    return nlargest(limit, records, key=lambda one: one.steps if by_steps else one.extrinsic_return)[::-1]


def _row(record: EpisodeFinished) -> dict[str, Any]:
    known = {name: value for name, value in asdict(record).items() if name not in _SEEDS_AND_ACTIONS}
    return {"episode_key": _key(record), **known}


def _key(record: EpisodeFinished) -> str:
    from onibus.schemas.ids import episode_key

    return episode_key(record).decode()
