"""`onibus demo`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.flags import with_options
from onibus.infra.cli.judge_model import PROBABILITY, judge_model
from onibus.infra.cli.options import PriceIn, PriceOut, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.terminal import console
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.run_names import check_run_name
from onibus.infra.settings import DEFAULT_PORT, Settings
from onibus.learner.option_groups import DEFAULT_REWARD, DEFAULT_TASK
from onibus.learner.options import LearnOptions, default_specs

if TYPE_CHECKING:
    from rich.console import Console

    from onibus.infra.demo.session import Demo, DemoOptions


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


@with_settings
@with_options(LearnOptions, only=("task", "reward"))
def demo(
    settings: Settings,
    given: dict[str, Any],
    llm: Annotated[
        str,
        typer.Option(
            help="Who judges: rules (keywords), openai (any compatible server) or vllm (starts a server)."
        ),
    ] = "rules",
    spec: Annotated[str | None, typer.Option(help="Annotation specification: a name or a file.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Server of --llm openai, for example http://127.0.0.1:8000/v1.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of the model (openai), or a folder or a name on the hub (vllm). "
            "(default for vllm: SmolLM2-135M-Instruct, fetched first)"
        ),
    ] = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Minutes to run. (default: 4; a task that can be learnt, until it is learnt, 10 at most)",
        ),
    ] = None,
    annotators: Annotated[int, typer.Option(min=1, max=16, help="Number of annotator processes.")] = 2,
    run: Annotated[
        str | None, typer.Option(help="Name of the run. (default: made of task, reward and time)")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Save the last frame of the live view to this SVG file.")
    ] = None,
    broker_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the demo's own broker.")
    ] = DEFAULT_PORT,
    learner_args: Annotated[
        str, typer.Option(help="Further options for onibus learn, in quotes (motif needs --motif-model).")
    ] = "",
) -> None:
    """Run everything on this machine and watch it learn; ends with a summary and a report."""

    from onibus.consumers.annotator.options import AnnotateOptions
    from onibus.consumers.annotator.run import check
    from onibus.infra.demo.session import DemoOptions, one_at_a_time
    from onibus.infra.demo.watch import watch_for
    from onibus.producers.nethack.tasks import make_task

    task, reward = given.get("task", DEFAULT_TASK), given.get("reward", DEFAULT_REWARD)
    kind = reward_kind(reward)
    if reward == "motif" and "--motif-model" not in learner_args:
        raise OnibusError(
            '--reward motif needs a model; add --learner-args "--motif-model FILE", of onibus replay train'
        )
    make_task(task).close()  # type: ignore[no-untyped-call]
    default_name = f"demo-{task}-{reward}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = check_run_name(default_name if run is None else run)
    (usual,) = default_specs(task, reward)
    small = llm == "vllm" and model is None  # a model that judges by probabilities alone
    given_spec = spec or usual.name + (PROBABILITY if small and kind.annotators else "")
    learner = learner_args.split()
    learner += ["--spec", f"{_spec_name(given_spec)}={usual.coefficient}"] if reward != "none" else []
    if kind.annotators and llm != "vllm":
        check(AnnotateOptions(specs=(given_spec,), llm=llm, base_url=base_url, model=model))
    options = DemoOptions(
        run=name,
        task=task,
        reward=reward,
        spec=given_spec,
        spec_name=_spec_name(given_spec),
        judge_name=kind.judge or _annotator_name(llm, model),
        judge=_judge_flags(llm, base_url, model, price_in, price_out),
        learner=tuple(learner),
        watch=watch_for(minutes, task, reward),
        annotators=annotators,
        broker_port=broker_port,
    )
    stopping = stop_event()
    with one_at_a_time(settings.runs_dir):
        if llm == "vllm" and kind.annotators:
            options = _with_server(settings, options, model, stopping)
        _play(settings, options, console(), picture, stopping)


def _annotator_name(llm: str, model: str | None) -> str:
    return llm if model is None else f"{llm} ({model})"


def _judge_flags(
    llm: str, base_url: str | None, model: str | None, price_in: float | None, price_out: float | None
) -> tuple[str, ...]:
    flags = ["--llm", llm]
    flags += ["--price-in", str(price_in)] if price_in else []
    flags += ["--price-out", str(price_out)] if price_out else []
    flags += ["--base-url", base_url] if base_url else []
    flags += ["--model", model] if model else []
    return tuple(flags)


def _with_server(
    settings: Settings, options: DemoOptions, model: str | None, stopping: threading.Event
) -> DemoOptions:
    """The same demo with a vLLM server of its own that judges; what it serves is made first if need be."""
    from onibus.consumers.specs.spec_file import load_spec_file, spec_names
    from onibus.infra.demo.session import free_port
    from onibus.infra.vllm.environment import vllm_python
    from onibus.infra.vllm.server import VllmServer

    vllm_python()  # missing: say so before anything else
    if model is None and load_spec_file(options.spec).answer.reads_probabilities is None:
        able = " and ".join(name for name in spec_names() if name.endswith(PROBABILITY))
        raise OnibusError(
            f"the small model that is fetched judges by probabilities, under {able}, and {options.spec} asks "
            "for an answer in words; give --model"
        )
    server = VllmServer.of(model or str(judge_model(settings, stopping)), free_port())
    return replace(
        options, server=server, judge=tuple(server.judge_flags()), judge_name=f"vLLM ({server.name})"
    )


def _play(
    settings: Settings,
    options: DemoOptions,
    shown_on: Console,
    picture: Path | None,
    stopping: threading.Event,
) -> None:
    from onibus.infra.demo.session import Demo
    from onibus.learner.reporting.recorded_games import RecordedGames

    with Demo(settings, options, shown_on, stopping) as running:
        is_shown = shown_on.is_terminal or picture is not None
        running.watch(RecordedGames(running.settings, options.run) if is_shown else None)
        if picture is not None:
            running.picture(picture)
        running.stop_components()
        _finish(shown_on, running)


def _finish(shown_on: Console, running: Demo) -> None:
    """Summary and report, while the broker still runs."""
    from onibus.infra.demo.summary import CaptionRow, print_summary
    from onibus.learner.reporting.collecting import make_report

    report: Path | None = None
    rows: list[CaptionRow] = []
    figures: Sequence[tuple[str, str]] = ()
    if (running.folder / "history.jsonl").exists():
        with shown_on.status("writing the report …"):
            made = make_report(running.settings, running.folder)
        report, figures = made.path, made.figures
        paid = (c for c in made.captions or () if c.reward > 0)
        rows = [CaptionRow(c.text, c.verdict, c.steps, c.reward) for c in paid]
    print_summary(shown_on, running, figures, rows, report)


def _spec_name(spec: str) -> str:
    from onibus.consumers.specs.spec_file import load_spec_file

    return load_spec_file(spec).name
