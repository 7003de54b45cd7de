"""Pages that play a run's episodes: the best, the median and the worst of the last ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.files import make_folder, write_or_refuse
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions
from onibus.learner.reporting.player import player_page
from onibus.learner.reporting.recorded_episodes import ending, facts_of
from onibus.learner.reporting.run_judge import CaptionJudge, RunJudge, not_judged
from onibus.producers.nethack.playback import frames
from onibus.schemas.ids import episode_key
from onibus.schemas.records import EpisodeFinished

log = logging.getLogger(__name__)

PLAYERS_FOLDER = "episodes"
"""In a run's folder, beside its report."""


@dataclass(frozen=True, slots=True)
class Player:
    """A page that plays an episode: which one, what it came to, and its path from the run's folder."""

    which: str
    fact: str
    path: str


def player_of(record: EpisodeFinished, judge: CaptionJudge) -> str:
    """The page that plays a recorded episode.

    Raises:
        OnibusError: the task is unknown, or the game is not the same when it is played again.
    """
    success = [] if record.success is None else [("success", "yes" if record.success else "no")]
    at = datetime.fromtimestamp(record.finished_at / 1e6, UTC)
    facts = [
        ("task", record.task),
        ("return", f"{record.extrinsic_return:g}"),
        ("steps", f"{record.steps:,}"),
        ("ended by", ending(record)),
        *success,
        *facts_of(record),
        *([] if record.policy_version < 0 else [("policy", f"{record.policy_version:,}")]),
        ("played", f"{at:%Y-%m-%d %H:%M} UTC"),
    ]
    return player_page(episode_key(record).decode(), facts, frames(record), judge)


def write_players(
    settings: Settings, options: LearnOptions, folder: Path, episodes: Sequence[EpisodeFinished]
) -> list[Player]:
    """Write pages of the best, the median and the worst of a run's episodes into its folder.

    One that cannot be played again is logged and left out. Those of registered tasks have no screen to show.

    Raises:
        OnibusError: a page cannot be written.
    """
    episodes = [one for one in episodes if not one.plugin]
    if not episodes:
        return []
    try:
        options.plugin_modules()  # episodes name their captioner
    except OnibusError as error:
        log.warning("episodes are left out: %s", error)
        return []
    try:
        judge: CaptionJudge = RunJudge(settings, options, folder)
    except OnibusError as error:
        log.warning("episodes are shown without rewards: %s", error)
        judge = not_judged
    players = []
    for which, record in _chosen(episodes):
        path = folder / PLAYERS_FOLDER / f"{which}.html"
        try:
            page = player_of(record, judge)
        except OnibusError as error:
            log.warning("the %s episode cannot be played again: %s", which, error)
            path.unlink(missing_ok=True)  # of an earlier report
            continue
        make_folder(path.parent, f"free some space, or make {folder} writable")
        write_or_refuse(path, page)
        fact = f"return {record.extrinsic_return:g}, {record.steps:,} steps"
        players.append(Player(which, fact, f"{PLAYERS_FOLDER}/{path.name}"))
    return players


def kept_players(folder: Path) -> list[Player]:
    """Those that an earlier report wrote, where episodes cannot be read now."""
    names = ("best", "median", "worst")
    return [
        Player(which, "of an earlier report", f"{PLAYERS_FOLDER}/{which}.html")
        for which in names
        if (folder / PLAYERS_FOLDER / f"{which}.html").exists()
    ]


def _chosen(records: Sequence[EpisodeFinished]) -> list[tuple[str, EpisodeFinished]]:
    """By return and, where that is the same, by progression and score; each episode once."""
    ordered = sorted(records, key=lambda one: (one.extrinsic_return, one.progression or 0.0, one.score))
    places = {"best": len(ordered) - 1, "median": (len(ordered) - 1) // 2, "worst": 0}
    found: dict[int, str] = {}
    for which, place in places.items():
        found.setdefault(place, which)
    return [(which, ordered[place]) for place, which in found.items()]
