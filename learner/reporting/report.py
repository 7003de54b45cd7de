"""`onibus report`: one self-contained HTML page for a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onibus.consumers.reward_models.unseen import told
from onibus.infra.errors import OnibusError
from onibus.infra.files import read_rows, write_or_refuse
from onibus.learner.options import LearnOptions, load_options
from onibus.learner.reporting.episode_players import Player
from onibus.learner.reporting.headline import headline
from onibus.learner.reporting.pages import rendered
from onibus.learner.reporting.run_charts import run_charts
from onibus.learner.run_files.history import read_history
from onibus.learner.run_files.judged_captions import JudgedCaption
from onibus.learner.run_files.judging import SpecJudging
from onibus.learner.run_files.parts import parts_now, parts_of
from onibus.learner.run_files.versions import kept_versions

REPORT_FILE = "report.html"
SYSTEM_FILE = "system.jsonl"
LISTED = 15


def write_report(
    folder: Path,
    captions: Sequence[JudgedCaption] | None,
    deaths: Sequence[tuple[str, int]] = (),
    players: Sequence[Player] = (),
    judging: Sequence[SpecJudging] = (),
) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Args:
        folder: the run's folder.
        captions: its judged captions, best rewarded first; None when they could not be read.
        deaths: causes of death and how often each came up, the most frequent first; none leaves them out.
        players: pages that play episodes, as far as there are any.
        judging: who judged, by spec.

    Raises:
        OnibusError: no run in ``folder``, nothing to show yet, or the page cannot be written.
    """
    options = load_options(folder)
    history = read_history(folder)
    if not history:
        raise OnibusError(f"run {options.run} has no history yet; let it learn for a few seconds first")
    versions = kept_versions(folder)
    most, least = _most_and_least(captions or ())
    figures = headline(history, versions, judging)
    system, parts = read_rows(folder / SYSTEM_FILE, "seconds"), parts_of(folder)
    settings = options.model_dump(mode="json") | {"specs": ", ".join(map(str, options.specs))}
    page = rendered(
        "report.html.j2",
        options=options,
        figures=figures,
        grids={name: _columns(len(figures), most) for name, most in _WIDTHS.items()},
        charts=run_charts(options, history, system, versions, judging),
        judging=[(one, _coefficient(options, one)) for one in judging],
        reward_model=told(versions[-1]) if versions else "",
        captions_known=captions is not None,
        players=players,
        deaths=deaths[:LISTED],
        deaths_in_all=sum(number for _, number in deaths),
        most=most,
        least=least,
        largest=max((abs(c.reward) for c in (*most, *least)), default=0) or 1,
        settings=[(name, _shown(value)) for name, value in sorted(settings.items())],
        versions=_versions(parts),
        versions_are_of_the_run=bool(parts),
        made_at=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )
    path = folder / REPORT_FILE
    write_or_refuse(path, page)
    return path


_WIDTHS = {"wide": 6, "middle": 4, "narrow": 2}
"""The most figures side by side in windows of three widths."""


def _columns(count: int, most: int) -> tuple[int, bool]:
    """In how many columns so many figures stand, and whether the last one would be alone in its row.

    As full a last row as there can be; one that is alone still takes all of its row.
    """
    if count <= most:
        return max(1, count), False
    rests = {columns: count % columns or columns for columns in range(most, most // 2, -1)}
    best = max(rests, key=lambda columns: rests[columns] / columns)
    return best, rests[best] == 1


def _coefficient(options: LearnOptions, judging: SpecJudging) -> float | None:
    return next((share.coefficient for share in options.specs if share.choice == judging.name), None)


def _most_and_least(
    captions: Sequence[JudgedCaption],
) -> tuple[list[JudgedCaption], list[JudgedCaption]]:
    """Captions that earned most, and of the others those that earned least, the most frequent first."""
    most = sorted((c for c in captions if c.reward > 0), key=lambda c: (-c.reward, -c.steps))[:LISTED]
    others = [c for c in captions if c not in most]
    return most, sorted(others, key=lambda c: (c.reward, -c.steps))[:LISTED]


def _versions(parts: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the run was made with; where that changed from session to session, all of it in order."""
    rows = parts or [parts_now()]
    names = dict.fromkeys(name for row in rows for name in row if name != "started_at")
    return [
        (name, " → ".join(dict.fromkeys(str(row[name]) for row in rows if name in row))) for name in names
    ]


def _shown(value: Any) -> str:
    if value is None or value in ("", {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
