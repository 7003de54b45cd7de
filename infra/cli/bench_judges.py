"""`onibus bench learning`, `noisy-judges` and `vllm`: those that a language model, or noise, judges for."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from onibus.infra.cli.bench_surroundings import broker_for, report
from onibus.infra.cli.judge_model import PROBABILITY
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import console
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.infra.vllm.server import VllmServer

_N = TypeVar("_N", int, float)


class BenchJudge(StrEnum):
    """Who judges captions while learning is measured."""

    RULES = "rules"
    VLLM = "vllm"


@with_settings
def learning(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to learn.")] = "keyroom-s5",
    spec: Annotated[str, typer.Option(help="Annotation spec.")] = "keys-and-doors",
    llm: Annotated[
        BenchJudge,
        typer.Option(help="Who judges: keyword rules, or SmolLM2 on a vLLM server, by probabilities."),
    ] = (BenchJudge.RULES),
    rewards: Annotated[str, typer.Option(help="Rewards, separated by commas.")] = "retrieval,none",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 1.")] = 3,
    steps: Annotated[int, typer.Option(min=10_000, help="Environment steps of each run.")] = 1_500_000,
    inference: Annotated[
        Literal["local", "central"] | None, typer.Option(help="Which sampler (see onibus learn).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learning curves with judged messages and without (about 30 minutes)."""

    from onibus.learner.benchmarks import learning as benchmark

    server = None if llm is BenchJudge.RULES else _server(settings, None)
    asked = spec if server is None else f"{spec}{PROBABILITY}"
    plan = benchmark.LearningPlan(
        *(task, asked, rewards.split(","), range(1, seeds + 1), steps, server), inference=inference
    )
    with _serving(server), broker_for(settings, "unused.") as own:
        figures = benchmark.measure(own, plan, console(stderr=True))
    report("learning", figures, as_json)


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
    judges: Annotated[
        str,
        typer.Option(
            help="Numbers of judges per caption, likewise, each with flips of its own; the majority decides "
            "(annotate --panel)."
        ),
    ] = "1",
    flip_seeds: Annotated[int, typer.Option(min=1, help="Number of choices of what is flipped, from 1.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 1.")] = 1,
    steps: Annotated[int, typer.Option(min=10_000, help="Environment steps of each run.")] = 1_500_000,
    as_json: AsJson = False,
) -> None:
    """What each reward stands of a judge whose verdicts are flipped (rules judge; two hours)."""
    from onibus.consumers.annotator.panel_file import MOST_JUDGES
    from onibus.learner.benchmarks import noisy_judges as benchmark
    from onibus.learner.benchmarks.learning import LearningPlan

    shares, again = _numbers("--flips", flips, float), _numbers("--ask-again", ask_again, int)
    panels = _numbers("--judges", judges, int)
    if not all(1 <= count <= MOST_JUDGES for count in panels):
        raise OnibusError(f"--judges {judges}: give numbers from 1 to {MOST_JUDGES}")
    plans = [
        LearningPlan(task, spec, rewards.split(","), range(1, seeds + 1), steps, noise=noise)
        for noise in benchmark.noises(shares, range(1, flip_seeds + 1), again, panels)
    ]
    with broker_for(settings, "unused.") as own:
        figures = benchmark.measure(own, plans, console(stderr=True))
    report("noisy judges", figures, as_json)


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
    from onibus.learner.benchmarks import vllm_client as benchmark

    server = _server(settings, model)
    with _serving(server), broker_for(settings, "bench-vllm.") as own:
        figures = benchmark.measure(own, server, prompts, concurrency, rounds)
    report(f"vLLM server with {server.name}, {concurrency} requests at a time", figures, as_json)


def _server(settings: Settings, model: str | None) -> VllmServer:
    """A server, not started yet, for a model or for SmolLM2, which is fetched now if it is not there."""
    from onibus.infra.cli.judge_model import judge_model
    from onibus.infra.demo.session import free_port
    from onibus.infra.vllm.server import VllmServer

    return VllmServer.of(model or str(judge_model(settings, threading.Event())), free_port())


@contextmanager
def _serving(server: VllmServer | None) -> Iterator[None]:
    """The server, if there is one, from when it is ready until the end of the block."""
    from onibus.infra.process.components import Supervisor
    from onibus.infra.vllm.server import READY_SECONDS

    if server is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="onibus-bench-") as folder:
        supervisor = Supervisor({})
        try:
            supervisor.start([server.component(Path(folder) / "vllm-server.log")])
            supervisor.wait_ready(READY_SECONDS, threading.Event())
            yield
        finally:
            supervisor.stop()


def _numbers(flag: str, text: str, kind: Callable[[str], _N]) -> list[_N]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise OnibusError(f"{flag} {text}: give numbers separated by commas, such as 0,1") from error
