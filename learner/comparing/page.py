"""The page of a comparison, and its files for papers."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from onibus.infra.files import make_folder, write_or_refuse
from onibus.learner.comparing.charts import curve_charts, overview_chart, profile_charts
from onibus.learner.comparing.comparison import Comparison, band, cost, final_value
from onibus.learner.comparing.groups import differing
from onibus.learner.intervals import Estimate, estimate
from onibus.learner.reporting.charts import pdf_of, svg_of
from onibus.learner.reporting.pages import rendered

COMPARISON_FILE = "comparison.html"
MANY_SEEDS = 5
"""Below this the page says that intervals over so few seeds are rough."""


def write_page(comparison: Comparison, path: Path) -> None:
    """Write one self-contained HTML page.

    Raises:
        OnibusError: it cannot be written.
    """
    groups = comparison.groups
    steps = [run.env_steps for group in groups for run in group.runs]
    page = rendered(
        "comparison.html.j2",
        groups=groups,
        curves=[(chart.title, svg_of(chart.figure)) for chart in curve_charts(comparison)],
        profiles=[(chart.title, svg_of(chart.figure)) for chart in profile_charts(comparison)],
        finals=_by_metric(comparison, _finals),
        improvements=_by_metric(comparison, _improvements),
        differing=differing(groups),
        costs=[(group, cost(group)) for group in groups],
        few=min(len(group.runs) for group in groups) < MANY_SEEDS,
        uneven=max(steps) > 1.05 * min(steps),
        made_at=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )
    write_or_refuse(path, page)


def final_table(comparison: Comparison) -> Table:
    """Final values for a terminal: for each metric a row for each group."""
    table = Table(title="final values", title_justify="left")
    table.add_column("figure")
    table.add_column("runs", overflow="fold")
    table.add_column("seeds", justify="right")
    table.add_column("mean [95 %]", justify="right", no_wrap=True)
    for metric, rows in _by_metric(comparison, _finals):
        for number, (name, count, value) in enumerate(rows):
            last = number == len(rows) - 1
            table.add_row("" if number else metric, name, str(count), value, end_section=last)
    return table


def export(comparison: Comparison, folder: Path) -> None:
    """Write every chart as SVG and as PDF, and the curves as CSV, into ``folder``.

    Raises:
        OnibusError: one cannot be written.
    """
    make_folder(folder, "choose another --export")
    for charts in (overview_chart, curve_charts, profile_charts):
        for chart in charts(comparison):
            write_or_refuse(folder / f"{chart.name}.svg", svg_of(chart.figure))
        for chart in charts(comparison):
            write_or_refuse(folder / f"{chart.name}.pdf", pdf_of(chart.figure))
    write_or_refuse(folder / "curves.csv", _table(_curve_rows(comparison)))


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write a row for each run: group, options, final values, cost.

    Raises:
        OnibusError: it cannot be written.
    """
    rows = []
    for group in comparison.groups:
        for run in group.runs:
            finals = {f"final_{metric}": final_value(run, metric) for metric in comparison.metrics}
            options = run.options.model_dump(mode="json")
            options["specs"] = " ".join(f"{s['name']}={s['coefficient']}" for s in options["specs"])
            spent = {"env_steps": run.env_steps, "seconds": run.seconds, "cpu_seconds": run.cpu_seconds}
            rows.append({"group": group.name, **options, **finals, **spent})
    write_or_refuse(path, _table(rows))


def _curve_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {"group": group.name, "metric": metric, "env_steps": x, "mean": mean, "low": low, "high": high}
        for metric in comparison.metrics
        for group in comparison.groups
        if (drawn := band(group, metric)) is not None
        for x, mean, low, high in zip(drawn.steps, drawn.mean, drawn.low, drawn.high, strict=True)
    ]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))})
    return out.getvalue()


def _by_metric(
    comparison: Comparison, rows_of: Callable[[Comparison, str], list[Any]]
) -> list[tuple[str, list[Any]]]:
    """The rows of each metric that has any, with its name in words."""
    found = [(metric.replace("_", " "), rows_of(comparison, metric)) for metric in comparison.metrics]
    return [(name, rows) for name, rows in found if rows]


def _finals(comparison: Comparison, metric: str) -> list[tuple[str, int, str]]:
    """For each group its name, its runs, the mean of their final values."""
    return [
        (group.name, len(values), shown(estimate(values)))
        for group in comparison.groups
        if (values := comparison.finals(group, metric))
    ]


def _improvements(comparison: Comparison, metric: str) -> list[tuple[str, str, str]]:
    return [(one.ours, one.theirs, shown(one.probability)) for one in comparison.improvements(metric)]


def shown(found: Estimate) -> str:
    """A value with its interval, for people; only the value where there is no interval."""
    if math.isnan(found.value):
        return "–"
    if math.isnan(found.low):
        return _short(found.value)
    return f"{_short(found.value)} [{_short(found.low)}, {_short(found.high)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
