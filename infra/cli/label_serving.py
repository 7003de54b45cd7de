"""``onibus labels serve``: a web page to browse labels and correct them."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from typing import Annotated

import typer

from onibus.infra.cli.label_options import Person, user_name
from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

Host = Annotated[
    str, typer.Option(help="Address to listen on; visitors need a token unless it is a loopback address.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")]
ScoringModel = Annotated[
    str | None, typer.Option(help="Also show the scores of this reward model: a file, or a name on the bus.")
]


def register(group: typer.Typer) -> None:
    """Add it to the commands of ``onibus labels``."""
    group.command("serve")(with_settings(serve))


def serve(
    settings: Settings,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let visitors correct labels.")] = False,
    person: Person = None,
    model: ScoringModel = None,
) -> None:
    """Serve a web page to filter labels, see their history and correct them."""
    from onibus.consumers.labels.live_index import BoardFeed, LabelBoard
    from onibus.consumers.labels.web import PageOptions, label_site
    from onibus.consumers.specs.known_specs import KnownSpecs
    from onibus.infra.process.shutdown import stop_event
    from onibus.infra.web.access import is_loopback
    from onibus.infra.web.serving import serve_until

    echo(
        "onibus web has these labels, with runs and episodes; this page alone goes in a later release",
        err=True,
    )
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    options = PageOptions(
        (person or user_name()) if allow_edit else None, token, model_scores(settings, model)
    )
    stopping, board = stop_event(), LabelBoard()
    feed = BoardFeed(settings, board)
    try:
        feed.load()
        feed.start()
        site = label_site(settings, board, KnownSpecs.read(settings), options)
        serve_until(site, listening_at(host, port, token), stopping)
    finally:
        feed.stop()


def listening_at(host: str, port: int, token: str | None) -> socket.socket:
    """A socket that listens there; prints the address that visitors open."""
    from onibus.infra.web.serving import listening, page_address

    at = listening(host, port)
    where = page_address(host, at.getsockname()[1])
    echo(where if token is None else f"{where}?token={token}")
    return at


def model_scores(settings: Settings, name: str | None) -> Callable[[list[str]], list[float]] | None:
    """p(helpful) of captions by a reward model, a file or a name on the bus; None without a name.

    Raises:
        OnibusError: there is no such model, or it ranks captions.
    """
    if name is None:
        return None
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from onibus.consumers.replay.judges import load_model
    from onibus.schemas.records import Kind

    model = load_model(settings, name)
    if model.kind is not Kind.JUDGE_ONE:
        raise OnibusError(f"model {name} ranks captions; give a classification model")
    return lambda texts: [float(p) for p in model.probability((text,) for text in texts)]
