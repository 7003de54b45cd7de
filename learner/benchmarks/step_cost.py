"""CPU time of an environment step with captions, publishing and rewards, beside plain Sample Factory.

Both run the same tasks, network and sizes as whole processes, at the same time, each on its half of the
cores, which they exchange from round to round: CPU time of the same work differs by a third from one minute
to the next on a shared machine. It is that of the learner's process tree (runner, learner, policy worker,
rollout workers) after a warm-up. Annotators, trainer and broker run too, but are not counted: in production
they are elsewhere.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from onibus.infra.errors import OnibusError
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.supervisor import Component, Supervisor
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.result import Figure
from onibus.learner.options import default_specs
from onibus.learner.progress import read_history

WARM_UP_SECONDS = 15.0
READY_SECONDS = 120.0
GOALS = {"retrieval": 0.5, "classification": 0.55, "ranking": 0.55}


def measure(
    settings: Settings, task: str, reward: str, seconds: float, rounds: int, workers: int, environments: int
) -> list[Figure]:
    """Microseconds of CPU a step, plain and with everything, and their ratio.

    With a model's reward its trainer runs, too, but is not counted either.

    Args:
        settings: a broker with topics.
        task: task to play.
        reward: retrieval, classification or ranking.
        seconds: length of each run after its warm-up.
        rounds: pairs of runs; an even number gives each side each half of the cores equally often.
        workers: rollout workers.
        environments: environments of each.

    Raises:
        OnibusError: a run ended too early to measure.
    """
    size = ("--task", task, "--workers", str(workers), "--environments", str(environments))
    (spec,) = default_specs(task, reward)
    supervisor = Supervisor(environment_of(settings))
    try:
        supervisor.start([_component(settings, "annotate", spec.name, "--name", "bench")])
        supervisor.wait_ready(READY_SECONDS, stop_event())
        if reward_kind(reward).trainer:
            supervisor.start([_component(settings, "train-reward", spec.name)])
            supervisor.wait_ready(READY_SECONDS, stop_event())
        sides = ((*size, "--inference", "central", "--no-captions"), (*size, "--reward", reward))
        pairs = [_side_by_side(settings, sides, seconds, number) for number in range(rounds)]
    finally:
        supervisor.stop()
    plain, ours = zip(*pairs, strict=True)
    ratio = statistics.median(o / p for p, o in pairs)
    return [
        Figure("plain Sample Factory", statistics.median(plain), "µs of CPU a step"),
        Figure(f"with captions, publishing and {reward}", statistics.median(ours), "µs of CPU a step"),
        Figure.at_most("with ÷ plain", ratio, "ratio", GOALS[reward]),
    ]


def _component(settings: Settings, command: str, spec: str, *flags: str) -> Component:
    return Component(command, (command, "--spec", spec, *flags), settings.runs_dir / f"bench-{command}.log")


def _side_by_side(
    settings: Settings, sides: Sequence[Sequence[str]], seconds: float, number: int
) -> tuple[float, ...]:
    """Microseconds of CPU a step of each of two runs at the same time, the halves exchanged in odd rounds."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    halves = (cores[:middle] or cores, cores[middle:])
    with ThreadPoolExecutor(len(sides)) as pool:
        runs = [
            pool.submit(_run, settings, flags, seconds, halves[(number + place) % 2])
            for place, flags in enumerate(sides)
        ]
        return tuple(run.result() for run in runs)


def _run(settings: Settings, flags: Sequence[str], seconds: float, cores: Sequence[int]) -> float:
    """Microseconds of CPU a step of one run of ``onibus learn`` on these cores."""
    os.sched_setaffinity(0, cores)  # of this thread, and so of what it starts
    name = f"bench-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "onibus", "learn", "--run", name, *flags]
    finished = subprocess.run(
        [*command, "--seconds", str(seconds + WARM_UP_SECONDS)],
        env={**os.environ, **environment_of(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise OnibusError(f"a run of the benchmark failed: {finished.stderr.strip()[-400:]}")
    rows = read_history(settings.runs_dir / name)
    first = next(r for r in rows if r["seconds"] >= WARM_UP_SECONDS)
    steps = rows[-1]["env_steps"] - first["env_steps"]
    return (rows[-1]["cpu_seconds"] - first["cpu_seconds"]) * 1e6 / steps
