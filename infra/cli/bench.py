"""`onibus bench`: every figure of infra/docs/figures.md."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.bench_judges import learning, noisy_judges, vllm
from onibus.infra.cli.bench_surroundings import broker_for, report
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.devices import Device
from onibus.infra.process.shutdown import ended_by_signals
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.learner.benchmarks.result import Figure

_Labels = Annotated[int, typer.Option(min=1_000, help="Labels in the table.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Measure the figures of infra/docs/figures.md on this machine.", no_args_is_help=True
    )
    group.callback()(_ended_by_signals)
    group.command("reward-path")(reward_path)
    group.command("step-parts")(step_parts)
    group.command("label-table")(label_table)
    group.command("annotators")(annotators)
    group.command("step-cost")(step_cost)
    group.command("gpu")(gpu)
    group.command("size")(size)
    group.command("reward-models")(reward_models)
    group.command("noisy-labels")(noisy_labels)
    group.command("near-pairs")(near_pairs)
    group.command("captioners")(captioners)
    group.command("replay")(replay)
    group.command("learning")(learning)
    group.command("noisy-judges")(noisy_judges)
    group.command("vllm")(vllm)
    group.command("goal-steers")(goal_steers)
    group.command("all")(everything)
    app.add_typer(group, name="bench")


def _ended_by_signals(context: typer.Context) -> None:
    """Measure the figures of infra/docs/figures.md on this machine."""
    # For the whole command: a benchmark waits in many places, and undoes on the way out what it has started.
    context.with_resource(ended_by_signals("stopped before its end; nothing was measured"))


def reward_path(labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Microseconds from a batch's caption ids to its rewards (no broker; about half a minute)."""
    from onibus.learner.benchmarks import reward_path as benchmark

    report("reward path", benchmark.measure(labels), as_json)


@with_settings
def label_table(settings: Settings, labels: _Labels = 1_000_000, as_json: AsJson = False) -> None:
    """Memory per label, and the load rate beside a bare consumer (about two minutes)."""
    from onibus.learner.benchmarks import label_table as benchmark

    figures = benchmark.measure_memory(labels)
    with broker_for(settings, "bench-labels.") as own:
        figures += benchmark.measure_load(own, labels)
    report("label table", figures, as_json)


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

    with broker_for(settings, "bench-annotators.") as own:
        figures = benchmark.measure(own, captions, backlog)
    report("annotators", figures, as_json)


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

    with broker_for(settings, "bench-steps.") as own:
        figures = [
            figure
            for reward in rewards.split(",")
            for figure in benchmark.measure(
                own, task, reward, seconds, rounds, workers, environments, profile
            )
        ]
    report(f"cost of a step, {task}, small network", figures, as_json)


def step_parts(
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side is measured, in turn.")] = 30,
    as_json: AsJson = False,
) -> None:
    """The game's step and the networks' layers beside the libraries' own (half a minute)."""
    from onibus.learner.benchmarks import step_parts as benchmark

    report("parts of a step", benchmark.measure(rounds), as_json)


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
    from onibus.learner.benchmarks import skewed_labels

    torch.set_num_threads(1)
    figures = benchmark.measure_swap(captions, swaps)
    with broker_for(settings, "bench-models.") as own:
        figures += benchmark.measure_trainer(own, annotations)
    figures += benchmark.measure_accuracy(play_steps, versions)
    figures += skewed_labels.measure(range(3))
    report("reward models", figures, as_json)


def noisy_labels(
    labels: Annotated[int, typer.Option(min=500, help="Labels to learn from.")] = 10_000,
    late_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the published schedule after 25,000 labels.")
    ] = 8_000,
    play_steps: Annotated[
        int, typer.Option(min=1_000, help="Random steps whose messages captions are made of.")
    ] = 100_000,
    device: Annotated[Device, typer.Option(help="Where models are trained.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """The published reward model beside ours, when one label in ten is wrong (no broker; nine minutes).

    50,000 labels take an hour on a CPU: use --device gpu.
    """
    from onibus.learner.benchmarks import noisy_labels as benchmark

    report("noisy labels", benchmark.measure(play_steps, labels, late_steps, device), as_json)


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

    report("near pairs", benchmark.measure(play_steps, captions, seeds), as_json)


def captioners(
    captioner: Annotated[
        list[str] | None,
        typer.Option(help="A captioner, as for onibus learn; can be repeated. (default: the built-in ones)"),
    ] = None,
    task: Annotated[str, typer.Option(help="Task of NetHack's or MiniHack's to play.")] = "score",
    play_steps: Annotated[int, typer.Option(min=1_000, help="Random steps with each.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Distinct captions that each captioner makes of the same play, and its cost (no broker; seconds)."""
    from onibus.infra.captioner_names import BUILT_IN
    from onibus.learner.benchmarks import captioners as benchmark

    figures = benchmark.measure(task, play_steps, captioner or BUILT_IN)
    report(f"captioners, {task}", figures, as_json)


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

    with broker_for(settings, "bench-size.") as own:
        figures = benchmark.measure(own, task, workers, environments)
    report(f"size, {task}, {workers} workers of {environments}", figures, as_json)


@with_settings
def gpu(
    settings: Settings,
    task: Annotated[str, typer.Option(help="Task to play.")] = "score",
    rewards: Annotated[
        str, typer.Option(help="Rewards, separated by commas.")
    ] = "none,retrieval,classification",
    games: Annotated[str, typer.Option(help="Numbers of environments, separated by commas.")] = "480,2048",
    workers: Annotated[int, typer.Option(min=1, help="Rollout workers.")] = 16,
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of each run after its warm-up.")] = 20,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of each run that are not counted.")] = 10,
    inference: Annotated[
        str, typer.Option(help="Where actions are computed: local, central or both, separated by a comma.")
    ] = "local",
    batch_size: Annotated[int, typer.Option(min=32, help="Transitions per batch.")] = 1024,
    device: Annotated[str, typer.Option(help="gpu; cpu only to try the benchmark itself.")] = "gpu",
    as_json: AsJson = False,
) -> None:
    """The full network on a GPU, with ONI's sizes, beside plain Sample Factory (about eight minutes)."""
    from onibus.learner.benchmarks import on_gpu as benchmark

    sizes = [int(size) for size in games.split(",")]
    plan = benchmark.Plan(
        task, rewards.split(","), sizes, workers, seconds, warm_up, inference.split(","), batch_size, device
    )
    title = f"full network, {task}, {workers} workers, batches of {batch_size}"
    measured: list[Figure] = []
    with broker_for(settings, "bench-gpu.") as own:
        for figures in benchmark.measure(own, plan):
            measured += figures
            if not as_json:
                report(title, figures, as_json)
    if as_json:
        report(title, measured, as_json)


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

    with broker_for(settings, "bench-replay.") as own:
        figures = annotation_log.measure_fold(own, annotations)
        figures += label_page.measure(own, labels)
        figures += rebuilding.measure(own, task, seconds)
    report("replay", figures, as_json)


@with_settings
def goal_steers(
    settings: Settings,
    scale: Annotated[
        float, typer.Option(min=1e-3, max=1e3, help="Share of the two million steps of each run to take.")
    ] = 0.01,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, max=3, help="Runs of each goal, and of none.")] = 3,
) -> None:
    """What goals do to play on the full game (five minutes at a hundredth of the steps; whole: hours)."""
    from onibus.infra.cli.sweep import run_sweep
    from onibus.learner.sweeping.sweep_file import read_sweep

    whole = read_sweep("goal-steers", scale)
    sweep = replace(whole, runs=[run for run in whole.runs if run.seed <= seeds])
    with broker_for(settings, "bench-goals.") as own:
        folder = own.runs_dir / f"bench-goal-steers-{scale:g}"  # the same command goes on from there
        run_sweep(own.model_copy(update={"runs_dir": folder}), sweep, parallel)


@with_settings
def everything(settings: Settings) -> None:
    """Run all benchmarks, one after the other (about an hour)."""
    from onibus.infra.settings import environment_of

    os.environ.update({k: v for k, v in environment_of(settings).items() if _was_given(settings, k)})
    learned = (reward_models, noisy_labels, near_pairs, captioners, replay)
    for command in (
        reward_path,
        step_parts,
        label_table,
        annotators,
        step_cost,
        size,
        *learned,
        vllm,
        learning,
        goal_steers,
    ):
        command()


def _was_given(settings: Settings, variable: str) -> bool:
    return variable.removeprefix("ONIBUS_").lower() in settings.model_fields_set
