"""``onibus labels serve``: a page to look through labels and correct them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Annotated

import typer

from infra.commands.label_options import Person, user_name
from infra.commands.options import with_settings
from infra.errors import OnibusError
from infra.settings import Settings


def register(group: typer.Typer) -> None:
    """Add it to the commands of ``onibus labels``."""
    group.command("serve")(with_settings(serve))


def serve(
    settings: Settings,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own, a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8765,
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let visitors correct labels.")] = False,
    person: Person = None,
    model: Annotated[
        str | None,
        typer.Option(help="Show what this reward model, a file or a name on the bus, thinks, too."),
    ] = None,
) -> None:
    """Serve a page of all labels: filter them, see their history, correct them with one key."""
    import uvicorn

    from consumers.replay.label_board import BoardFeed, LabelBoard
    from consumers.replay.label_pages import PageOptions, is_loopback, label_site
    from consumers.replay.specs import KnownSpecs

    options = PageOptions(
        host,
        (person or user_name()) if allow_edit else None,
        None if is_loopback(host) else secrets.token_urlsafe(24),
        _score(settings, model),
    )
    board = LabelBoard()
    feed = BoardFeed(settings, board)
    try:
        feed.load()
        feed.start()
        site = label_site(settings, board, KnownSpecs.read(settings), options)
        config = uvicorn.Config(site, host=host, port=port, log_level="warning", access_log=False)
        listening = config.bind_socket()
        where = f"http://{host}:{listening.getsockname()[1]}/"
        typer.echo(where if options.token is None else f"{where}?token={options.token}")
        uvicorn.Server(config).run(sockets=[listening])
    except SystemExit as error:  # uvicorn's way to say that it cannot listen there
        raise OnibusError(f"cannot listen on {host}, port {port}; choose another --port") from error
    finally:
        feed.stop()


def _score(settings: Settings, name: str | None) -> Callable[[list[str]], list[float]] | None:
    if name is None:
        return None
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from consumers.replay.judges import load_model
    from schemas.records import Kind

    model = load_model(settings, name)
    if model.kind is not Kind.JUDGE_ONE:
        raise OnibusError(f"model {name} ranks captions; the page shows what a classification model thinks")
    return lambda texts: [float(p) for p in model.probability((text,) for text in texts)]
