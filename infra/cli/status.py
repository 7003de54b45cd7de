"""``onibus status``: the state of a running system, from the cluster alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.tables import print_table
from onibus.infra.money import HIGHEST_PRICE, dollars
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from onibus.consumers.status import CostStatus, GroupStatus, SystemStatus

_SCRAPED = (
    "onibus_pending_captions",
    "onibus_owed_on_log_captions",
    "onibus_model_circuit_open",
    "onibus_model_failures_total",
    "onibus_captions_dropped_total",
)


def register(app: typer.Typer) -> None:
    """Add ``onibus status``."""
    app.command("status")(with_settings(status))


def status(
    settings: Settings,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes over which rates and latencies are taken.")
    ] = 5.0,
    price_in: Annotated[
        float,
        typer.Option(
            min=0,
            max=HIGHEST_PRICE,
            help="US dollars per million prompt tokens of answers without a price.",
        ),
    ] = 0.0,
    price_out: Annotated[
        float, typer.Option(min=0, max=HIGHEST_PRICE, help="The same per million answer tokens.")
    ] = 0.0,
    metrics_port: Annotated[
        list[int] | None,
        typer.Option(help="Also show the metrics of a process on this machine; can be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show lag, rates, labels, costs, latencies and model versions of a running system."""
    from onibus.consumers.annotator.cost import Prices
    from onibus.consumers.status import system_status
    from onibus.infra.kafka.reachability import refuse_dead_servers
    from onibus.infra.observability.scraping import scrape

    refuse_dead_servers(settings)
    found = system_status(settings, minutes, Prices(price_in, price_out))
    scraped = scrape(metrics_port) if metrics_port else None
    metrics = {name: scraped.total(name) for name in _SCRAPED} if scraped is not None else {}
    if as_json:
        echo(json.dumps(asdict(found) | {"metrics": metrics}, indent=2))
        return

    _show(console(), found, metrics, minutes)


def _show(shown_on: Console, found: SystemStatus, metrics: dict[str, float], minutes: float) -> None:
    print_table(
        ("group", "state", "members", "behind", "most behind"), map(_group, found.groups), "consumer groups"
    )
    if any(group.is_stopped for group in found.groups):
        shown_on.print("stopped: the group has no members; when one starts, it goes on where they ended")
    title = f"specs (rates and latencies of the last {minutes:g} minutes)"
    specs = []
    for spec in found.specs:
        latencies = (spec.latency_p50, spec.latency_p99)
        shown = ("–" if seconds is None else f"{seconds:.3g} s" for seconds in latencies)
        unreadable = "–" if spec.unreadable is None else f"{spec.unreadable:.0%}"
        counts = (f"{spec.labels:,}", f"{spec.answers_a_minute:,.1f}", unreadable)
        specs.append((spec.spec, spec.spec_id, *counts, *shown))
    names = ("spec", "id", "labels", "answers per minute", "unreadable", "p50", "p99")
    print_table(names, specs, title)
    costs = []
    for cost in found.costs:
        numbers = (cost.answers, cost.unreadable, cost.tokens_in, cost.tokens_out)
        model = f"{cost.model} {cost.model_revision}".strip()
        figures = (*(f"{n:,}" for n in numbers), f"{cost.model_seconds:,.1f} s", _money(cost))
        costs.append((cost.spec, cost.annotator, model, *figures))
    counted = ("answers", "unreadable", "tokens in", "tokens out", "model time", "cost")
    print_table(("spec", "annotator", "model", *counted), costs, "costs")
    if sum(spec.answers_waiting for spec in found.specs):
        waiting = sum(spec.answers_waiting for spec in found.specs)
        shown_on.print(f"not in the latencies: {waiting:,} answers on captions older than their annotator")
    for model_status in found.models:
        shown_on.print(
            f"reward model {model_status.model}: version {model_status.version}, "
            f"{model_status.age_seconds:,.0f} s old, {model_status.gradient_steps:,} gradient steps"
        )
    shown_on.print(f"dead letters waiting: {found.dead_letters_waiting:,}")
    for name, value in metrics.items():
        shown_on.print(f"{name}: {value:g}")


def _group(group: GroupStatus) -> tuple[str, ...]:
    if group.is_stopped:
        return group.group, "stopped", "0", "–", "–"
    worst = max(group.lag, key=lambda p: group.lag[p], default=0)
    most = f"partition {worst}: {group.lag[worst]:,}" if group.behind else "–"
    return group.group, group.state, str(group.members), f"{group.behind:,}", most


def _money(cost: CostStatus) -> str:
    """A sum of money; a dash where tokens have no price."""
    if cost.usd or not cost.unpriced_tokens:
        return dollars(cost.usd)
    return "–"
