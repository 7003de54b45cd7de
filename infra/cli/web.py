"""``onibus web``: everything about a running system on one site."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

import typer

from onibus.infra.cli.label_options import Person, user_name
from onibus.infra.cli.label_serving import Host, Port, ScoringModel, listening_at, model_scores
from onibus.infra.cli.options import with_settings
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("web")(with_settings(web))


def web(
    settings: Settings,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    allow_corrections: Annotated[
        bool, typer.Option("--allow-corrections", help="Let visitors correct labels.")
    ] = False,
    person: Person = None,
    model: ScoringModel = None,
    most_labels: Annotated[
        int,
        typer.Option(min=1_000, help="Labels held in memory, about 1.5 KB each; the oldest are left out."),
    ] = 500_000,
) -> None:
    """Serve one site for everything: the flow, runs with their curves, labels, episodes that play."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a page scores captions one by one

    from onibus.consumers.labels.web import PageOptions
    from onibus.infra.process.logs import set_up_logging
    from onibus.infra.process.shutdown import keep_hang_ups, stop_event
    from onibus.infra.web.access import is_loopback
    from onibus.infra.web.serving import serve_until
    from onibus.learner.web.site import WholeSite

    set_up_logging()
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    scores = model_scores(settings, model)
    options = PageOptions((person or user_name()) if allow_corrections else None, token, scores)
    stopping = stop_event()
    site = WholeSite(settings, options, most_labels)
    try:
        site.start()
        at = listening_at(host, port, token)
        serve_until(site.app(), at, stopping, keep_hang_ups)  # NetHack, which plays episodes, ignores them
    finally:
        site.stop()
