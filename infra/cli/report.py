"""``onibus report``: an HTML page about a run."""

from __future__ import annotations

from typing import Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("report")(report)


@with_settings
def report(
    settings: Settings,
    run: Annotated[str, typer.Argument(help="Name of a run in RUNS_DIR, or its folder.")],
) -> None:
    """Write a self-contained HTML page with a run's curves, captions, settings and versions.

    Pages beside it play the best, the median and the worst of the last recorded episodes.
    """
    set_up_logging()

    from onibus.learner.run_files.run_folders import find_run

    folder = find_run(settings.runs_dir, run)

    # PyTorch is imported for a run that exists only.
    from onibus.learner.reporting.collecting import make_report

    echo(str(make_report(settings, folder).path))
