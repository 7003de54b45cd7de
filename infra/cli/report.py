"""``onibus report``: an HTML page about a run."""

from __future__ import annotations

from typing import Annotated

import typer

from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.files import UnwritableFileError
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
    """Write a self-contained HTML page with a run's curves, captions, settings and versions."""
    from onibus.learner.reporting.report import write_report
    from onibus.learner.run_files.judged_captions import JudgedCaption, judge_captions, kept_captions
    from onibus.learner.run_files.run_folders import find_run
    from onibus.learner.run_files.versions import keep_versions

    folder = find_run(settings.runs_dir, run)
    captions: list[JudgedCaption] | None
    deaths: list[tuple[str, int]] = []
    try:
        captions = judge_captions(settings, folder)
        keep_versions(settings, folder)
        deaths = _deaths(settings, folder.name)
    except UnwritableFileError:
        raise
    except OnibusError as error:
        captions = kept_captions(folder)
        instead = "with the captions of the last report" if captions is not None else "without captions"
        echo(f"the annotation log cannot be read ({error}); continuing {instead}", err=True)
    echo(str(write_report(folder, captions, deaths)))


def _deaths(settings: Settings, run: str) -> list[tuple[str, int]]:
    """Causes of death of the run's recorded episodes; none where they cannot be read."""
    from onibus.infra.cli.recorded_episodes import causes_of_death

    try:
        return causes_of_death(settings, run)
    except OnibusError as error:
        echo(f"the episodes cannot be read ({error}); no causes of death", err=True)
        return []
