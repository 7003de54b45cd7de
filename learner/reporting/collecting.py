"""The report of a run, with whatever of it is on the bus now; the rest is that of the last report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from onibus.infra.errors import OnibusError
from onibus.infra.files import UnwritableFileError
from onibus.infra.settings import Settings
from onibus.learner.options import load_options
from onibus.learner.reporting.episode_players import Player, kept_players, write_players
from onibus.learner.reporting.headline import Figure, headline
from onibus.learner.reporting.recorded_episodes import deaths_and_last
from onibus.learner.reporting.report import write_report
from onibus.learner.run_files.history import read_history
from onibus.learner.run_files.judged_captions import JudgedCaption, judge_captions, kept_captions
from onibus.learner.run_files.judging import kept_judging, read_judging
from onibus.learner.run_files.versions import keep_versions, kept_versions

log = logging.getLogger(__name__)


class MadeReport(NamedTuple):
    """The page of a report, and what is on it.

    Attributes:
        captions: best rewarded first; None where they are not known.
        figures: at its head, name and value.
    """

    path: Path
    captions: Sequence[JudgedCaption] | None
    figures: Sequence[Figure]


def make_report(settings: Settings, folder: Path) -> MadeReport:
    """Read what the bus has about a run, and write its report and the pages that play its episodes.

    Where the bus is away, that is logged, and what the last report kept is used.

    Raises:
        OnibusError: there is no run in ``folder``, it has no history yet, or a page cannot be written.
    """
    options = load_options(folder)
    captions: Sequence[JudgedCaption] | None
    deaths: list[tuple[str, int]] = []
    players: list[Player] = []
    try:
        captions = judge_captions(settings, folder)
        judging = read_judging(settings, folder)
        keep_versions(settings, folder)
    except UnwritableFileError:
        raise
    except OnibusError as error:
        captions, judging = kept_captions(folder), kept_judging(folder)
        instead = "with the captions of the last report" if captions is not None else "without captions"
        log.warning("the annotation log cannot be read (%s); continuing %s", error, instead)
    try:
        deaths, last = deaths_and_last(settings, options.run, options.episodes_averaged)
        players = write_players(settings, options, folder, last)
    except UnwritableFileError:
        raise
    except OnibusError as error:
        players = kept_players(folder)
        log.warning("the episodes cannot be read (%s); no causes of death", error)
    path = write_report(folder, captions, deaths, players, judging)
    return MadeReport(path, captions, headline(read_history(folder), kept_versions(folder), judging))
