"""``onibus compare``: several runs on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("compare")(compare)


@with_settings
def compare(
    settings: Settings,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Names of runs in RUNS_DIR, or their folders.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What to compare: return, gold, …; can be repeated. (default: all that vary)"),
    ] = None,
    first_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Look at this many steps of each run, from its start. (default: all)"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The HTML page. (default: RUNS_DIR/comparison.html)")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a CSV file with a row for each run.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write each chart as SVG and PDF, and the curves as CSV, here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: curves with bands over seeds, final values, probability of improvement, cost.

    Runs that differ in their seed alone make a group. The same run given twice is compared with itself.
    """
    from onibus.learner.run_files.run_folders import find_run

    folders = [find_run(settings.runs_dir, run) for run in runs]

    # Matplotlib is imported for runs that exist only.
    from onibus.learner.comparing.comparison import METRICS
    from onibus.learner.comparing.comparison import compare as compare_groups
    from onibus.learner.comparing.groups import grouped, read_run
    from onibus.learner.comparing.page import COMPARISON_FILE, write_csv, write_page
    from onibus.learner.comparing.page import export as export_charts

    unknown = [name for name in metric or () if name not in METRICS]
    if unknown:
        raise OnibusError(f"--metric {unknown[0]}: not known; choose from {', '.join(METRICS)}")
    groups = grouped([read_run(folder, first_steps) for folder in folders])
    comparison = compare_groups(groups, metric or ())
    page = output or settings.runs_dir / COMPARISON_FILE
    write_page(comparison, page)
    if csv is not None:
        write_csv(comparison, csv)
    if export is not None:
        export_charts(comparison, export)
    echo(json.dumps(comparison.to_json(), indent=2) if as_json else str(page))
