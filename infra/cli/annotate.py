"""``onibus annotate``: one annotator of the group."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from infra.cli.options import MetricsPort, Verbose, with_settings
from infra.settings import Settings


class Llm(StrEnum):
    """Who judges captions."""

    RULES = "rules"
    OPENAI = "openai"
    VLLM = "vllm"


def register(app: typer.Typer) -> None:
    """Add ``onibus annotate``."""
    app.command("annotate")(annotate)


@with_settings
def annotate(
    settings: Settings,
    llm: Annotated[
        Llm, typer.Option(help="Who judges: keyword rules, any OpenAI-compatible server, or vLLM in here.")
    ] = Llm.RULES,
    spec: Annotated[
        list[str] | None,
        typer.Option(help="Spec by name, or a spec file; several may be given. [default: goals]"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of the server, e.g. http://127.0.0.1:8000/v1 (openai).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to ask (openai); a folder or a name on the hub (vllm).")
    ] = None,
    model_revision: Annotated[
        str, typer.Option(help="Revision of the model; part of the spec id: other revisions, other labels.")
    ] = "",
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests at a time (openai, vllm).")
    ] = 64,
    comparisons: Annotated[
        int, typer.Option(min=1, max=100, help="Comparisons a caption leads to, with a spec that compares.")
    ] = 4,
    request_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that one request may take (openai).")
    ] = 120.0,
    group: Annotated[
        str | None, typer.Option(help="Consumer group, without prefix. [default: made of the specs]")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name, unique in the group. [default: host and process number]")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1_000, help="Annotators on this machine.")] = 1,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop before the group's answers take more tokens, in and out.")
    ] = None,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="Stop before they cost more, at the prices given.")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="US dollars for a million tokens of prompts.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="US dollars for a million tokens of answers.")
    ] = None,
    static: Annotated[
        bool,
        typer.Option(
            "--static",
            help="Keep the partitions over a restart within the session time-out. Needs --name.",
        ),
    ] = False,
    session_timeout: Annotated[
        float, typer.Option(min=1, max=1_800, help="Seconds without a sign of life until others take over.")
    ] = 10.0,
    metrics_port: MetricsPort = None,
    verbose: Verbose = False,
) -> None:
    """Judge captions and write labels. Start as many as you like: they share the work.

    The key of an openai server comes from OPENAI_API_KEY or from the file named by
    ONIBUS_OPENAI_API_KEY_FILE.
    """
    from consumers.annotator.run import AnnotateOptions, run

    options = AnnotateOptions(
        specs=tuple(spec or ["goals"]),
        llm=llm.value,
        base_url=base_url,
        model=model,
        model_revision=model_revision,
        concurrency=concurrency,
        comparisons=comparisons,
        request_seconds=request_timeout,
        group=group,
        name=name,
        budget_tokens=budget_tokens,
        budget_usd=budget_usd,
        price_in=price_in,
        price_out=price_out,
        static=static,
        session_seconds=session_timeout,
        metrics_port=metrics_port,
        verbose=verbose,
    )
    if workers == 1:
        run(settings, options)
        return
    from consumers.annotator.workers import run_workers

    run_workers(settings, options, workers)
