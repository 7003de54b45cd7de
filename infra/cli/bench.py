"""`onibus bench`: every figure of infra/docs/figures.md."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from onibus.infra.cli.judge_model import PROBABILITY
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.infra.vllm.server import VllmServer
    from onibus.learner.benchmarks.result import Figure

BENCH_PORT = 19292


class Judge(StrEnum):
    """Who judges captions while learning is measured."""

    RULES = "rules"
    VLLM = "vllm"


_N = TypeVar("_N", int, float)
_Labels = Annotated[int, typer.Option(min=1_000, help="Labels in the table.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Measure the figures of infra/docs/figures.md on this machine.", no_args_is_help=True
    )
    group.command("reward-path")(reward_path)
    group.command("label-table")(label_table)
    group.command("annotators")(annotators)
    group.command("step-cost")(step_cost)
    group.command("size")(size)
    group.command("reward-models")(reward_models)
    group.command("near-pairs")(near_pairs)
    group.command("replay")(replay)
    group.command("learning")(learning)
    group.command("noisy-judges")(noisy_judges)
    group.command("vllm")(vllm)
    group.command("all")(everything)
    app.add_typer(group, name="bench")


def reward_path(labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Microseconds from a batch's caption ids to its rewards (no broker; about half a minute)."""
    from onibus.learner.benchmarks import reward_path as benchmark

    _report("reward path", benchmark.measure(labels), as_json)


@with_settings
def label_table(settings: Settings, labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Memory per label, and the load rate beside a bare consumer (about two minutes)."""
    from onibus.learner.benchmarks import label_table as benchmark

    figures = benchmark.measure_memory(labels)
    with _broker(settings, "bench-labels.") as own:
        figures += benchmark.measure_load(own, labels)
    _report("label table", figures, as_json)


@with_settings
def annotators(
    settings: Settings,
    captions: Annotated[int, typer.Option(min=100, help="Distinct captions.")] = 4_000,
    backlog: Annotated[
        int, typer.Option(min=100, help="Captions waiting when an annotator starts.")
    ] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Calls per caption, throughput, scaling, time to a label, a backlog (about six minutes)."""
    from onibus.learner.benchmarks import annotators as benchmark

    with _broker(settings, "bench-annotators.") as own:
        figures = benchmark.measure(own, captions, backlog)
    _report("annotators", figures, as_json)


@with_settings
def step_cost(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to play.")] = "keyroom-s5",
    rewards: Annotated[str, typer.Option(help="Rewards, separated by commas.")] = "retrieval",
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of each run after its warm-up.")] = 45,
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of runs, each at the same time.")] = 4,
    workers: Annotated[int, typer.Option(min=1, help="Rollout workers.")] = 2,
    environments: Annotated[int, typer.Option(min=1, help="Environments per worker.")] = 16,
    profile: Annotated[
        Path | None, typer.Option(help="Folder for flame graphs of the processes (SVG).", file_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """CPU time per step beside plain Sample Factory, and its parts (five minutes per reward)."""
    from onibus.learner.benchmarks import step_cost as benchmark

    with _broker(settings, "bench-steps.") as own:
        figures = [
            figure
            for reward in rewards.split(",")
            for figure in benchmark.measure(
                own, task, reward, seconds, rounds, workers, environments, profile
            )
        ]
    _report(f"cost of a step, {task}, small network", figures, as_json)


@with_settings
def learning(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to learn.")] = "keyroom-s5",
    spec: Annotated[str, typer.Option(help="Annotation spec.")] = "keys-and-doors",
    llm: Annotated[
        Judge, typer.Option(help="Who judges: keyword rules, or SmolLM2 on a vLLM server, by probabilities.")
    ] = (Judge.RULES),
    rewards: Annotated[str, typer.Option(help="Rewards, separated by commas.")] = "retrieval,none",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 1.")] = 3,
    steps: Annotated[int, typer.Option(min=10_000, help="Environment steps of each run.")] = 1_500_000,
    as_json: AsJson = False,
) -> None:
    """Learning curves with judged messages and without (about 30 minutes)."""

    from onibus.infra.process.shutdown import stop_event
    from onibus.learner.benchmarks import learning as benchmark

    stopping = stop_event()
    server = None if llm is Judge.RULES else _server(settings, None, stopping)
    asked = spec if server is None else f"{spec}{PROBABILITY}"
    plan = benchmark.LearningPlan(task, asked, rewards.split(","), range(1, seeds + 1), steps, server)
    with _serving(server, stopping), _broker(settings, "unused.") as own:
        figures = benchmark.measure(own, plan, console(stderr=True), stopping)
    _report("learning", figures, as_json)


@with_settings
def noisy_judges(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to learn.")] = "keyroom-s5",
    spec: Annotated[str, typer.Option(help="Annotation spec.")] = "keys-and-doors",
    rewards: Annotated[
        str, typer.Option(help="Rewards, separated by commas.")
    ] = "retrieval,classification,ranking",
    flips: Annotated[
        str, typer.Option(help="Shares of verdicts to flip, separated by commas.")
    ] = "0,0.1,0.2,0.3",
    ask_again: Annotated[
        str, typer.Option(help="Further answers to ask for at most (annotate --ask-again), likewise.")
    ] = "0,3",
    flip_seeds: Annotated[int, typer.Option(min=1, help="Number of choices of what is flipped, from 1.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 1.")] = 1,
    steps: Annotated[int, typer.Option(min=10_000, help="Environment steps of each run.")] = 1_500_000,
    as_json: AsJson = False,
) -> None:
    """What each reward stands of a judge whose verdicts are flipped (rules judge; two hours)."""
    from onibus.infra.process.shutdown import stop_event
    from onibus.learner.benchmarks import noisy_judges as benchmark
    from onibus.learner.benchmarks.learning import LearningPlan

    stopping = stop_event()
    shares, again = _numbers("--flips", flips, float), _numbers("--ask-again", ask_again, int)
    plans = [
        LearningPlan(task, spec, rewards.split(","), range(1, seeds + 1), steps, noise=noise)
        for noise in benchmark.noises(shares, range(1, flip_seeds + 1), again)
    ]
    with _broker(settings, "unused.") as own:
        figures = benchmark.measure(own, plans, console(stderr=True), stopping)
    _report("noisy judges", figures, as_json)


@with_settings
def reward_models(
    settings: Settings,
    play_steps: Annotated[
        int, typer.Option(min=1_000, help="Random steps whose captions are learnt.")
    ] = 50_000,
    versions: Annotated[int, typer.Option(min=1, help="Versions to train on them.")] = 40,
    annotations: Annotated[int, typer.Option(min=500, help="Annotations for the trainer to read.")] = 8_000,
    captions: Annotated[int, typer.Option(min=100, help="Captions for a new version to score.")] = 2_000,
    swaps: Annotated[int, typer.Option(min=1, help="Versions to swap in.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Accuracy of reward models, training over Kafka, the cost of a swap (a few minutes)."""
    import torch

    from onibus.learner.benchmarks import reward_models as benchmark

    torch.set_num_threads(1)
    figures = benchmark.measure_swap(captions, swaps)
    with _broker(settings, "bench-models.") as own:
        figures += benchmark.measure_trainer(own, annotations)
    figures += benchmark.measure_accuracy(play_steps, versions)
    _report("reward models", figures, as_json)


def near_pairs(
    play_steps: Annotated[
        int, typer.Option(min=1_000, help="Random steps whose captions are compared.")
    ] = 150_000,
    captions: Annotated[int, typer.Option(min=128, help="Captions that are compared at most.")] = 1_200,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Comparisons that annotate --near-pairs saves (no broker; ten minutes)."""
    from onibus.learner.benchmarks import near_pairs as benchmark

    _report("near pairs", benchmark.measure(play_steps, captions, seeds), as_json)


@with_settings
def size(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to play.")] = "keyroom-s5",
    workers: Annotated[int, typer.Option(min=1, help="Rollout workers.")] = 4,
    environments: Annotated[int, typer.Option(min=1, help="Environments per worker.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Memory and clean stop of a learner with 480 environments (about three minutes)."""
    from onibus.learner.benchmarks import size as benchmark

    with _broker(settings, "bench-size.") as own:
        figures = benchmark.measure(own, task, workers, environments)
    _report(f"size, {task}, {workers} workers of {environments}", figures, as_json)


@with_settings
def vllm(
    settings: Settings,
    model: Annotated[
        str | None,
        typer.Option(help="A folder, or a name on the hub. (default: SmolLM2-135M-Instruct, fetched first)"),
    ] = None,
    prompts: Annotated[int, typer.Option(min=100, help="Prompts per run.")] = 600,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Prompts per second beside a bare client, on a real vLLM server (about three minutes)."""
    from onibus.infra.process.shutdown import stop_event
    from onibus.learner.benchmarks import vllm_client as benchmark

    stopping = stop_event()
    server = _server(settings, model, stopping)
    with _serving(server, stopping), _broker(settings, "bench-vllm.") as own:
        figures = benchmark.measure(own, server, prompts, concurrency, rounds)
    _report(f"vLLM server with {server.name}, {concurrency} requests at a time", figures, as_json)


@with_settings
def replay(
    settings: Settings,
    annotations: Annotated[int, typer.Option(min=1_000, help="Annotations on the log.")] = 200_000,
    labels: Annotated[int, typer.Option(min=1_000, help="Labels on the label page.")] = 100_000,
    task: Annotated[str, typer.Option(help="Task of an online run whose versions are rebuilt.")] = "score",
    seconds: Annotated[float, typer.Option(min=20, help="Seconds of that run.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Reading the annotation log, the label page, rebuilding versions (five minutes)."""
    from onibus.learner.benchmarks import annotation_log, label_page, rebuilding

    with _broker(settings, "bench-replay.") as own:
        figures = annotation_log.measure_fold(own, annotations)
        figures += label_page.measure(own, labels)
        figures += rebuilding.measure(own, task, seconds)
    _report("replay", figures, as_json)


@with_settings
def everything(settings: Settings) -> None:
    """Run all benchmarks, one after the other (about an hour)."""
    from onibus.infra.settings import environment_of

    os.environ.update({k: v for k, v in environment_of(settings).items() if _was_given(settings, k)})
    learned = (reward_models, near_pairs, replay)
    for command in (reward_path, label_table, annotators, step_cost, size, *learned, vllm, learning):
        command()


def _server(settings: Settings, model: str | None, stopping: threading.Event) -> VllmServer:
    """A server, not started yet, for a model or for SmolLM2, which is fetched now if it is not there."""
    from onibus.infra.cli.judge_model import judge_model
    from onibus.infra.demo.session import free_port
    from onibus.infra.vllm.server import VllmServer

    return VllmServer.of(model or str(judge_model(settings, stopping)), free_port())


@contextmanager
def _serving(server: VllmServer | None, stopping: threading.Event) -> Iterator[None]:
    """The server, if there is one, from when it is ready until the end of the block."""
    from onibus.infra.process.supervisor import Supervisor
    from onibus.infra.vllm.server import READY_SECONDS

    if server is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="onibus-bench-") as folder:
        supervisor = Supervisor({})
        try:
            supervisor.start([server.component(Path(folder) / "vllm-server.log")])
            supervisor.wait_ready(READY_SECONDS, stopping)
            yield
        finally:
            supervisor.stop()


def _numbers(flag: str, text: str, kind: Callable[[str], _N]) -> list[_N]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise OnibusError(f"{flag} {text}: give numbers separated by commas, such as 0,1") from error


def _was_given(settings: Settings, variable: str) -> bool:
    return variable.removeprefix("ONIBUS_").lower() in settings.model_fields_set


@contextmanager
def _broker(settings: Settings, prefix: str) -> Iterator[Settings]:
    """The broker that was named or, if none was, one of our own with data in a temporary folder."""
    from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
    from onibus.infra.kafka.topic_admin import create_topics
    from onibus.infra.settings import load_settings

    given = {name: getattr(settings, name) for name in settings.model_fields_set} | {"topic_prefix": prefix}
    if "bootstrap_servers" in given:
        own = load_settings(**given)
        create_topics(own)
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="onibus-bench-") as folder:
        port_flag = "--bootstrap-servers of a cluster that runs"
        running = start_broker(
            BrokerOptions(
                Path(folder), port=BENCH_PORT, port_flag=port_flag, folder_flag="TMPDIR", stays=False
            )
        )
        try:
            own = load_settings(**given | running.client_settings())
            create_topics(own)
            yield own
        finally:
            stop_broker(Path(folder))


def _report(title: str, figures: list[Figure], as_json: bool) -> None:

    from onibus.learner.benchmarks.result import show, to_json

    if as_json:
        echo(json.dumps(to_json(title, figures), indent=2))
    else:
        show(console(markup=True), title, figures)
