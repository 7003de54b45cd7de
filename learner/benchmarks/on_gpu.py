"""The full network on a GPU, at the sizes that were published: steps, processor time and the GPU's share.

Every run is ``onibus learn`` as a whole process, alone on the machine but for broker, annotator (by rules)
and trainer, which are not counted. Plain Sample Factory is the same task, network and sizes with its own
sampling, without captions, publishing and reward.
"""

from __future__ import annotations

import contextlib
import csv
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from onibus.infra.errors import OnibusError
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.annotator_run import judges
from onibus.learner.benchmarks.result import Figure
from onibus.learner.run_files.history import read_history

START_SECONDS = 240.0
STOP_SECONDS = 30.0
SAMPLE_MILLISECONDS = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """Which runs to make.

    Attributes:
        task: task to play.
        rewards: rewards, each beside plain Sample Factory.
        games: sizes: environments of all workers together.
        workers: rollout workers.
        seconds: length of each run after its warm-up.
        warm_up: seconds of each run that are not counted.
        inference: where actions are computed, in the runs that are not plain.
        batch_size: transitions per batch.
        device: gpu; cpu tries the benchmark itself.
    """

    task: str
    rewards: Sequence[str]
    games: Sequence[int]
    workers: int
    seconds: float
    warm_up: float
    inference: Sequence[str]
    batch_size: int
    device: str = "gpu"


def measure(settings: Settings, plan: Plan) -> Iterator[list[Figure]]:
    """Figures of each run, as soon as it has ended.

    Raises:
        OnibusError: there is no GPU, a size cannot be divided over the workers, or a run ended too early.
    """
    if plan.device == "gpu" and not torch.cuda.is_available():
        raise OnibusError("this machine has no GPU that torch can use; onibus bench step-cost needs none")
    for games in plan.games:
        if games % plan.workers:
            raise OnibusError(f"{games} games are no multiple of {plan.workers} workers; choose --workers")
    with judges(settings, plan.task, plan.rewards):
        for games in plan.games:
            plain = _run(settings, plan, games, ("--inference", "central", "--no-captions"))
            yield _figures(f"{games} games, plain Sample Factory", plain, plain)
            for inference in plan.inference:
                for reward in plan.rewards:
                    flags = ("--inference", inference, "--reward", reward)
                    run = _run(settings, plan, games, flags)
                    yield _figures(f"{games} games, {inference}, {reward}", run, plain)


@dataclass(frozen=True, slots=True)
class _Run:
    """Steps per second, microseconds of processor time per step, and the GPU's shares and memory in GiB."""

    speed: float
    cost: float
    busy: float
    memory: float


def _run(settings: Settings, plan: Plan, games: int, flags: Sequence[str]) -> _Run:
    name = f"bench-gpu-{uuid.uuid4().hex[:8]}"
    size = ("--workers", str(plan.workers), "--environments", str(games // plan.workers))
    command = [
        *("learn", "--run", name, "--task", plan.task, "--network", "full", "--device", plan.device),
        *("--preset", "oni", "--batch-size", str(plan.batch_size), *size, *flags),
    ]
    learner = Component("learner", command, settings.runs_dir / f"{name}.log")
    learner.start(environment_of(settings))
    try:
        learner.wait_ready(START_SECONDS, threading.Event())
        time.sleep(plan.warm_up)
        with _watched(plan.device) as samples:
            time.sleep(plan.seconds)
        learner.check()
    finally:
        learner.ask_to_stop()
        learner.wait_stopped(STOP_SECONDS)
    ends = (plan.warm_up, plan.warm_up + plan.seconds)
    rows = [row for row in read_history(settings.runs_dir / name) if ends[0] <= row["seconds"] <= ends[1]]
    if not rows or rows[-1]["env_steps"] == rows[0]["env_steps"]:
        raise OnibusError(f"the run took no step after its warm-up; its last lines:\n{learner.last_lines()}")
    steps, seconds, cpu_seconds = (
        rows[-1][name] - rows[0][name] for name in ("env_steps", "seconds", "cpu_seconds")
    )
    return _Run(
        steps / seconds,
        cpu_seconds * 1e6 / steps,
        statistics.fmean(busy for busy, _ in samples) if samples else 0.0,
        max((memory for _, memory in samples), default=0.0) / 1024,
    )


@contextlib.contextmanager
def _watched(device: str) -> Iterator[list[tuple[float, float]]]:
    """Per cent of time in which the GPU worked, and MiB of its memory in use, while the block runs."""
    samples: list[tuple[float, float]] = []
    if device != "gpu":
        yield samples
        return
    command = [
        *("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"),
        *("--loop-ms", str(SAMPLE_MILLISECONDS)),
    ]
    with tempfile.TemporaryFile("w+") as output:
        watcher = subprocess.Popen(command, stdout=output)
        try:
            yield samples
        finally:
            watcher.terminate()
            watcher.wait()
        output.seek(0)
        samples += [(float(row[0]), float(row[1])) for row in csv.reader(output) if len(row) == 2]


def _figures(name: str, run: _Run, plain: _Run) -> list[Figure]:
    figures = [
        Figure(f"{name}: speed", run.speed, "steps/s"),
        Figure(f"{name}: processor time", run.cost, "µs per step"),
        Figure(f"{name}: time in which the GPU works", run.busy, "%"),
        Figure(f"{name}: memory of the GPU", run.memory, "GiB"),
    ]
    if run is not plain:
        figures.append(Figure(f"{name}: speed ÷ plain", run.speed / plain.speed, "ratio"))
        figures.append(Figure(f"{name}: processor time ÷ plain", run.cost / plain.cost, "ratio"))
    return figures
