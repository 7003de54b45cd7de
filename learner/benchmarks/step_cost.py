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
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onibus.infra.process.components import Component, Supervisor
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.annotator_run import judges
from onibus.learner.benchmarks.result import Figure
from onibus.learner.benchmarks.step_split import split, write_flame_graph
from onibus.learner.process_profile import FOLDER_VARIABLE, Profile, read_profiles
from onibus.learner.run_files.history import read_history

WARM_UP_SECONDS = 15.0
GOALS = {"retrieval": 0.5, "classification": 0.55, "ranking": 0.55}


def measure(
    settings: Settings,
    task: str,
    reward: str,
    seconds: float,
    rounds: int,
    workers: int,
    environments: int,
    profile: Path | None = None,
) -> list[Figure]:
    """Microseconds of CPU a step, plain and with everything, their ratio, and what each is spent on.

    Plain is Sample Factory's own sampling, without captions, publishing and reward.

    With a model's reward its trainer runs, too, but is not counted either.

    Args:
        settings: a broker with topics.
        task: task to play.
        reward: retrieval, classification or ranking.
        seconds: length of each run after its warm-up.
        rounds: pairs of runs; an even number gives each side each half of the cores equally often.
        workers: rollout workers.
        environments: environments of each.
        profile: a folder for flame graphs of the last pair.

    Raises:
        OnibusError: a run ended too early to measure.
    """
    size = ["--task", task, "--workers", str(workers), "--environments", str(environments)]
    size += ["--network", "small", "--epochs", "1"]  # for every task
    sides = ((*size, "--inference", "central", "--no-captions"), (*size, "--reward", reward))
    with judges(settings, task, [reward]):
        pairs = [_side_by_side(settings, sides, seconds, number) for number in range(rounds)]
    plain, ours = zip(*pairs, strict=True)
    ratio = statistics.median(o.cost / p.cost for p, o in pairs)
    if profile is not None:
        _draw(plain[-1], profile, "plain")
        _draw(ours[-1], profile, reward)
    return [
        Figure("plain Sample Factory", _median(plain), "µs of CPU a step"),
        Figure(f"with captions, publishing and {reward}", _median(ours), "µs of CPU a step"),
        Figure.at_most("with ÷ plain", ratio, "ratio", GOALS[reward]),
        *_parts("plain", plain),
        *_parts(reward, ours),
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    """Microseconds of CPU a step of one run, its parts, and the profiles behind them."""

    cost: float
    parts: dict[str, float]
    profiles: list[Profile]


def _median(runs: Sequence[_Run]) -> float:
    return statistics.median(run.cost for run in runs)


def _parts(side: str, runs: Sequence[_Run]) -> list[Figure]:
    """The parts' medians, and their shares of the sum."""
    medians = {part: statistics.median(run.parts[part] for run in runs) for part in runs[0].parts}
    whole = sum(medians.values())
    return [
        Figure(f"{side}: {part} ({value / whole:.0%})", value, "µs of CPU a step")
        for part, value in medians.items()
        if value
    ]


def _draw(run: _Run, folder: Path, side: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for profile in run.profiles:
        write_flame_graph(profile, folder / f"{side}-{profile.process}.svg")


def _side_by_side(
    settings: Settings, sides: Sequence[Sequence[str]], seconds: float, number: int
) -> tuple[_Run, ...]:
    """Two runs at the same time, the halves of the cores exchanged in odd rounds."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    halves = (cores[:middle] or cores, cores[middle:])
    supervisor = Supervisor(environment_of(settings))
    with tempfile.TemporaryDirectory(prefix="onibus-profile-") as folder:
        runs = [
            _learner(settings, flags, seconds, Path(folder) / str(place)) for place, flags in enumerate(sides)
        ]
        try:
            for place, run in enumerate(runs):
                with _on(halves[(number + place) % 2]):
                    supervisor.start([run])
            for run in runs:
                run.wait_finished()
        finally:
            supervisor.stop()
        return tuple(_measured(settings, run, Path(folder) / str(place)) for place, run in enumerate(runs))


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """What is started within runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _learner(settings: Settings, flags: Sequence[str], seconds: float, profiles: Path) -> Component:
    """A run of ``onibus learn``, named as it is."""
    profiles.mkdir()
    name = f"bench-{uuid.uuid4().hex[:8]}"
    arguments = ("learn", "--run", name, *flags, "--seconds", str(seconds + WARM_UP_SECONDS))
    return Component(
        name, arguments, settings.runs_dir / f"{name}.log", variables={FOLDER_VARIABLE: str(profiles)}
    )


def _measured(settings: Settings, run: Component, folder: Path) -> _Run:
    profiles = read_profiles(folder)
    rows = read_history(settings.runs_dir / run.name)
    first = next(r for r in rows if r["seconds"] >= WARM_UP_SECONDS)
    steps = rows[-1]["env_steps"] - first["env_steps"]
    cost = (rows[-1]["cpu_seconds"] - first["cpu_seconds"]) * 1e6 / steps
    profiled = sum(p.main_seconds + sum(p.thread_seconds.values()) for p in profiles) * 1e6
    # Profiles end a little before their processes do: how many steps they are of, their own time says.
    return _Run(cost, split(profiles, profiled / cost if profiled else 1.0), profiles)
