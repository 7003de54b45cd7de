"""`onibus report`: one self-contained HTML page for a run."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onibus.consumers.reward_models.unseen import told
from onibus.infra.errors import OnibusError
from onibus.infra.files import read_rows, write_or_refuse
from onibus.learner.options import LearnOptions, load_options
from onibus.learner.progress import read_history
from onibus.learner.reporting import charts
from onibus.learner.reporting.charts import curve_of
from onibus.learner.reporting.episode_players import Player
from onibus.learner.reporting.pages import page_templates
from onibus.learner.run_files.judged_captions import JudgedCaption
from onibus.learner.run_files.versions import kept_versions

REPORT_FILE = "report.html"
SYSTEM_FILE = "system.jsonl"
LISTED = 15

_CHART_INCHES = (5.6, 2.8)
"""Letters of such a chart can still be read where it is as narrow as a telephone."""

_PACKAGES = (
    "onibus", "kafka-python", "fastavro", "torch", "sample-factory", "nle", "minihack", "gymnasium", "numpy",
)  # fmt: skip

_EPISODE_CHARTS = {
    "episode_steps": "steps of an episode",
    "score": "in-game score",
    "depth": "deepest level",
    "experience_level": "experience level",
    "gold": "gold",
    "turns": "game turns",
    "success": "share of successes",
    "died": "share of deaths",
    "scout": "squares seen",
    "kills": "kills",
    "progression": "progression (BALROG)",
}


_line_chart = partial(charts.line_chart, size=_CHART_INCHES)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and what it shows."""

    title: str
    svg: str


def write_report(
    folder: Path,
    captions: Sequence[JudgedCaption] | None,
    deaths: Sequence[tuple[str, int]] = (),
    players: Sequence[Player] = (),
) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Args:
        folder: the run's folder.
        captions: its judged captions, best rewarded first; None when they could not be read.
        deaths: causes of death and how often each came up, the most frequent first; none leaves them out.
        players: pages that play episodes, as far as there are any.

    Raises:
        OnibusError: no run in ``folder``, nothing to show yet, or the page cannot be written.
    """
    options = load_options(folder)
    history = read_history(folder)
    if not history:
        raise OnibusError(f"run {options.run} has no history yet; let it learn for a few seconds first")
    versions = kept_versions(folder)
    drawn = _charts(history, read_rows(folder / SYSTEM_FILE, "seconds"), versions)
    most, least = _most_and_least(captions or ())
    page = (
        page_templates()
        .get_template("report.html.j2")
        .render(
            options=options,
            headline=_headline(options, history, versions),
            charts=[c for c in drawn if c.svg],
            captions_known=captions is not None,
            players=players,
            deaths=deaths[:LISTED],
            deaths_in_all=sum(number for _, number in deaths),
            most=most,
            least=least,
            largest=max((abs(c.reward) for c in (*most, *least)), default=0) or 1,
            settings=sorted(options.model_dump(mode="json").items()),
            versions=_versions(),
            made_at=time.strftime("%Y-%m-%d %H:%M:%S"),
        )
    )
    path = folder / REPORT_FILE
    write_or_refuse(path, page)
    return path


def _headline(
    options: LearnOptions, history: Sequence[Mapping[str, float]], versions: Sequence[Mapping[str, float]]
) -> list[tuple[str, str]]:
    last = history[-1]

    def shown(name: str, form: str) -> str:
        return format(last[name], form) if name in last else "–"

    headline = [
        ("environment steps", shown("env_steps", ",.0f")),
        ("minutes of training", f"{last['seconds'] / 60:.1f}"),
        ("mean return", shown("return", ".3f")),
        ("mean intrinsic return", shown("intrinsic_return", ".3f")),
        *(
            (title, shown(name, form))
            for name, title, form in (
                ("success", "successful episodes", ".0%"),
                ("progression", "mean progression (BALROG)", ".2%"),
            )
            if name in last
        ),
        ("captions published", shown("captions_published", ",.0f")),
        ("labels in the learner's table", shown("labels_known", ",.0f")),
        ("captions with a label or score", shown("label_coverage", ".0%")),
    ]
    if "label_to_reward_p50" in last:
        p50, p95 = shown("label_to_reward_p50", ".2f"), shown("label_to_reward_p95", ".2f")
        headline.append(("caption to first reward, p50 / p95", f"{p50} / {p95} s"))
    if "model_version" in last:
        headline.append(("version of the reward model", shown("model_version", ".0f")))
        headline.append(("its age when the run ended", f"{shown('model_age_seconds', '.0f')} s"))
    if versions and "held_out_accuracy" in versions[-1]:
        headline.append(("held-out accuracy", f"{versions[-1]['held_out_accuracy']:.1%}"))
        headline.append(("the reward model on captions that it had not learned from", told(versions[-1])))
    return headline


def _charts(
    history: Sequence[Mapping[str, float]],
    system: Sequence[Mapping[str, float]],
    versions: Sequence[Mapping[str, float]],
) -> Iterable[Chart]:
    steps, seconds = "environment steps", "seconds"

    def by_steps(y: str) -> tuple[Sequence[float], Sequence[float]]:
        return curve_of(history, "env_steps", y)

    yield Chart(
        "Extrinsic return", _line_chart({"extrinsic": by_steps("return")}, steps, "mean of 100 episodes")
    )
    yield Chart(
        "Intrinsic return", _line_chart({"intrinsic": by_steps("intrinsic_return")}, steps, "mean an episode")
    )
    for name, title in _changing(history).items():
        yield Chart(title.capitalize(), _line_chart({title: by_steps(name)}, steps, "mean of 100 episodes"))
    yield Chart(
        "Captions with a label", _line_chart({"share": by_steps("label_coverage")}, steps, "share", (0, 1.05))
    )
    yield Chart(
        "Captions and labels",
        _line_chart(
            {
                "captions published": curve_of(history, "seconds", "captions_published"),
                "new captions": curve_of(history, "seconds", "captions_new"),
                "labels in the table": curve_of(history, "seconds", "labels_known"),
            },
            seconds,
            "in all",
        ),
    )
    yield Chart(
        "Held-out accuracy of the reward model",
        _line_chart(
            {
                "accuracy": curve_of(versions, "version", "held_out_accuracy"),
                "balanced accuracy": curve_of(versions, "version", "held_out_balanced_accuracy"),
                "precision": curve_of(versions, "version", "held_out_precision"),
                "recall": curve_of(versions, "version", "held_out_recall"),
            },
            "version",
            "share",
            (0, 1.05),
        ),
    )
    yield Chart(
        "Age of the reward model in use",
        _line_chart(
            {"age": curve_of(history, "seconds", "model_age_seconds")},
            seconds,
            "seconds since it was written",
        ),
    )
    yield Chart("Speed", _line_chart({"speed": by_steps("steps_per_second")}, steps, "steps a second"))
    yield Chart(
        "Label latency",
        _line_chart(
            {
                "median": curve_of(system, "seconds", "latency_p50"),
                "95 %": curve_of(system, "seconds", "latency_p95"),
            },
            seconds,
            "seconds (bucket bounds)",
        ),
    )
    yield Chart(
        "Latency of the language model",
        _line_chart(
            {
                "median": curve_of(system, "seconds", "model_latency_p50"),
                "95 %": curve_of(system, "seconds", "model_latency_p95"),
            },
            seconds,
            "seconds (bucket bounds)",
        ),
    )
    yield Chart(
        "From the first sight of a caption to its first reward",
        _line_chart(
            {
                "median": curve_of(history, "seconds", "label_to_reward_p50"),
                "95 %": curve_of(history, "seconds", "label_to_reward_p95"),
            },
            seconds,
            "seconds",
        ),
    )
    yield Chart(
        "Consumer lag", _line_chart({"lag": curve_of(system, "seconds", "consumer_lag")}, seconds, "records")
    )


def _changing(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Episode statistics that are not the same in the whole run: small tasks have neither gold nor levels."""
    values = {name: {row[name] for row in history if name in row} for name in _EPISODE_CHARTS}
    return {name: title for name, title in _EPISODE_CHARTS.items() if len(values[name]) > 1}


def _most_and_least(
    captions: Sequence[JudgedCaption],
) -> tuple[list[JudgedCaption], list[JudgedCaption]]:
    """Captions that earned most, and of the others those that earned least, the most frequent first."""
    most = sorted((c for c in captions if c.reward > 0), key=lambda c: (-c.reward, -c.steps))[:LISTED]
    others = [c for c in captions if c not in most]
    return most, sorted(others, key=lambda c: (c.reward, -c.steps))[:LISTED]


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version()), ("machine", f"{platform.system()} {platform.machine()}")]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found
