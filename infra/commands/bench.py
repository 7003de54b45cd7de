"""`onibus bench`: every figure of the README."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import AsJson, with_settings
from infra.settings import Settings

if TYPE_CHECKING:
    from learner.benchmarks.result import Figure

BENCH_PORT = 19292

_Labels = Annotated[int, typer.Option(min=1_000, help="Labels in the table.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Measure the figures of the README on this machine.", no_args_is_help=True)
    group.command("reward-path")(reward_path)
    group.command("label-table")(label_table)
    group.command("annotators")(annotators)
    group.command("step-cost")(step_cost)
    group.command("size")(size)
    group.command("learning")(learning)
    group.command("all")(everything)
    app.add_typer(group, name="bench")


def reward_path(labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Microseconds from a batch's caption ids to its rewards (no broker; about half a minute)."""
    from learner.benchmarks import reward_path as benchmark

    _report("reward path", benchmark.measure(labels), as_json)


@with_settings
def label_table(settings: Settings, labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Memory a label, and the load rate beside a bare consumer (about two minutes)."""
    from learner.benchmarks import label_table as benchmark

    figures = benchmark.measure_memory(labels)
    with _broker(settings, "bench-labels.") as own:
        figures += benchmark.measure_load(own, labels)
    _report("label table", figures, as_json)


@with_settings
def annotators(
    settings: Settings,
    captions: Annotated[int, typer.Option(min=100, help="Distinct captions.")] = 4_000,
    as_json: AsJson = False,
) -> None:
    """Calls a caption, model kept busy, 1 to 8 annotators, time to a committed label (about four minutes)."""
    from learner.benchmarks import annotators as benchmark

    with _broker(settings, "bench-annotators.") as own:
        figures = benchmark.measure(own, captions)
    _report("annotators", figures, as_json)


@with_settings
def step_cost(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to play.")] = "keyroom-s5",
    seconds: Annotated[float, typer.Option(min=5, help="Length of each run after its warm-up.")] = 45,
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 3,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    environments: Annotated[int, typer.Option(min=1, help="Environments a worker.")] = 16,
    as_json: AsJson = False,
) -> None:
    """CPU time of a step with captions and rewards, beside plain Sample Factory (about 8 minutes)."""
    from learner.benchmarks import step_cost as benchmark

    with _broker(settings, "bench-steps.") as own:
        figures = benchmark.measure(own, task, seconds, rounds, workers, environments)
    _report(f"cost of a step, {task}, small network", figures, as_json)


@with_settings
def learning(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to learn.")] = "keyroom-s5",
    spec: Annotated[str, typer.Option(help="Annotation specification.")] = "keys-and-doors",
    rewards: Annotated[str, typer.Option(help="Rewards, separated by commas.")] = "retrieval,none",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 1.")] = 3,
    steps: Annotated[int, typer.Option(min=10_000, help="Environment steps of each run.")] = 1_500_000,
    as_json: AsJson = False,
) -> None:
    """Does it learn, labels arriving only over Kafka? With judged messages and without (about 30 minutes)."""
    from rich.console import Console

    from infra.shutdown import stop_event
    from learner.benchmarks import learning as benchmark

    plan = benchmark.LearningPlan(task, spec, rewards.split(","), range(1, seeds + 1), steps)
    with _broker(settings, "unused.") as own:
        figures = benchmark.measure(own, plan, Console(stderr=True), stop_event())
    _report("learning", figures, as_json)


@with_settings
def size(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to play.")] = "keyroom-s5",
    workers: Annotated[int, typer.Option(min=1)] = 24,
    environments: Annotated[int, typer.Option(min=1, help="Environments a worker.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Start, run and stop a learner with 480 environments; its memory (about three minutes)."""
    from learner.benchmarks import size as benchmark

    with _broker(settings, "bench-size.") as own:
        figures = benchmark.measure(own, task, workers, environments)
    _report(f"size, {task}, {workers} workers of {environments}", figures, as_json)


@with_settings
def everything(settings: Settings) -> None:
    """All of the above, one after the other (about an hour)."""
    from infra.settings import environment_of

    os.environ.update({k: v for k, v in environment_of(settings).items() if _was_given(settings, k)})
    for command in (reward_path, label_table, annotators, step_cost, size, learning):
        command()


def _was_given(settings: Settings, variable: str) -> bool:
    return variable.removeprefix("ONIBUS_").lower() in settings.model_fields_set


@contextmanager
def _broker(settings: Settings, prefix: str) -> Iterator[Settings]:
    """The broker that was named or, if none was, one of our own with data in a temporary folder."""
    from infra.broker import BrokerOptions, start_broker, stop_broker
    from infra.settings import load_settings
    from infra.topic_admin import create_topics

    given = {name: getattr(settings, name) for name in settings.model_fields_set} | {"topic_prefix": prefix}
    if "bootstrap_servers" in given:
        own = load_settings(**given)
        create_topics(own)
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="onibus-bench-") as folder:
        running = start_broker(BrokerOptions(Path(folder), port=BENCH_PORT))
        try:
            own = load_settings(**given | running.client_settings())
            create_topics(own)
            yield own
        finally:
            stop_broker(Path(folder))


def _report(title: str, figures: list[Figure], as_json: bool) -> None:
    from rich.console import Console

    from learner.benchmarks.result import show, to_json

    if as_json:
        typer.echo(json.dumps(to_json(title, figures), indent=2))
    else:
        show(Console(), title, figures)
