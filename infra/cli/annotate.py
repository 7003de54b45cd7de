"""``onibus annotate``: one annotator of the group."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.cli.options import MetricsPort, PriceIn, PriceOut, Verbose, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add ``onibus annotate``."""
    app.command("annotate")(annotate)


@with_settings
def annotate(
    settings: Settings,
    llm: Annotated[
        str,
        typer.Option(
            help="Who judges: rules (keywords), openai (any compatible server), vllm (in this process), or "
            "module:factory for a model of your own."
        ),
    ] = "rules",
    spec: Annotated[
        list[str] | None,
        typer.Option(help="Name of a spec, or a spec file; can be repeated. (default: goals)"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of the server, for example http://127.0.0.1:8000/v1 (openai).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model (openai), or a folder or a name on the hub (vllm).")
    ] = None,
    model_revision: Annotated[
        str,
        typer.Option(help="Revision of the model; part of the spec id, so each revision has its own labels."),
    ] = "",
    panel: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of several judges, in place of --llm: each caption is asked of all of them, "
            "and the majority decides."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests in flight (openai, vllm).")
    ] = 64,
    comparisons: Annotated[
        int,
        typer.Option(min=1, max=100, help="Comparisons per caption, for specs that compare two captions."),
    ] = 4,
    near_pairs: Annotated[
        bool,
        typer.Option(
            "--near-pairs",
            help="Compare captions that the spec's newest reward model scores alike, once there is one: "
            "fewer comparisons for as good an order.",
        ),
    ] = False,
    ask_again: Annotated[
        int,
        typer.Option(
            min=0,
            max=20,
            help="Further answers to ask for at most (of each judge of a panel) about captions whose "
            "verdict is unsure, or that come again, when no new ones wait; the majority decides.",
        ),
    ] = 0,
    request_timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds after which a request times out (openai).")
    ] = 120.0,
    group: Annotated[
        str | None, typer.Option(help="Consumer group, without the prefix. (default: made from the specs)")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name, unique in the group. (default: host name and process id)")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=1_000, help="Number of annotators to start on this machine.")
    ] = 1,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop before the group has used more tokens, in and out.")
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e9, help="Stop before the group has spent more, at the given prices."),
    ] = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    static: Annotated[
        bool,
        typer.Option(
            "--static",
            help="Keep the partitions over a restart within the session timeout. Needs --name.",
        ),
    ] = False,
    session_timeout: Annotated[
        float,
        typer.Option(min=1, max=1_800, help="Seconds without a heartbeat after which others take over."),
    ] = 10.0,
    stop_timeout: Annotated[
        float,
        typer.Option(min=0, max=45, help="Seconds that a stop waits for answers to what was sent."),
    ] = 5.0,
    backlog: Annotated[
        str | None,
        typer.Option(
            help="Also ask about captions that were on the log before and lack a label: of all, of the "
            "newest so many (500), or of those since a time (2h, 1d). Says first what that costs. (default: "
            "only what is seen from now on)"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch the backlog without asking.")] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask only about captions of this task, or of tasks like keyroom-*. Can be repeated."
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="Ask only about captions of this run, or of runs like a*. Can be repeated."),
    ] = None,
    flip: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Turn this share of the verdicts into their opposites, chosen by --flip-seed and the "
            "caption: for experiments with noisy judges. Such labels stand apart from others.",
        ),
    ] = 0.0,
    flip_seed: Annotated[int, typer.Option(help="Which verdicts --flip turns.")] = 0,
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Judge captions and write labels. Start as many as you like; they share the work.

    The API key for openai comes from OPENAI_API_KEY, or from the file that
    ONIBUS_OPENAI_API_KEY_FILE names; those of a panel from where its file says.
    """
    from onibus.consumers.annotator.backlog import Backlog
    from onibus.consumers.annotator.options import AnnotateOptions
    from onibus.consumers.annotator.panel_file import load_panel_file
    from onibus.consumers.annotator.run import run as run_annotator
    from onibus.consumers.language_models.flipping import Flips

    options = AnnotateOptions(
        specs=tuple(spec or ["goals"]),
        llm=llm,
        base_url=base_url,
        model=model,
        model_revision=model_revision,
        concurrency=concurrency,
        comparisons=comparisons,
        near_pairs=near_pairs,
        ask_again=ask_again,
        request_seconds=request_timeout,
        group=group,
        name=name,
        budget_tokens=budget_tokens,
        budget_usd=budget_usd,
        price_in=price_in,
        price_out=price_out,
        static=static,
        session_seconds=session_timeout,
        stop_seconds=stop_timeout,
        metrics_port=metrics_port,
        verbose=verbose,
        backlog=None if backlog is None else Backlog.parse(backlog),
        tasks=tuple(task or ()),
        runs=tuple(run or ()),
        flips=Flips(flip, flip_seed),
        panel=None if panel is None else load_panel_file(panel),
    )
    approve = partial(_approve, yes)
    if workers == 1:
        run_annotator(settings, options, approve)
        return
    from onibus.consumers.annotator.workers import run_workers
    from onibus.infra.process.fork_server import fork_the_fork_server

    fork_the_fork_server()
    run_workers(settings, options, workers, approve)


def _approve(is_given: bool, cost: str) -> None:
    """Say what a backlog costs, and have a person agree, unless they have already.

    Raises:
        OnibusError: there is no one to ask, or the answer is no.
    """
    if is_given:
        echo(cost, err=True)
    elif not sys.stdin.isatty():
        raise OnibusError(f"{cost}; add --yes to ask about it, or leave --backlog out")
    elif not typer.confirm(f"{cost}. Ask about it?"):
        raise OnibusError("nothing was asked; leave --backlog out to judge what is seen from now on")
