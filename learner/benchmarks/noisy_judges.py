"""What each reward stands of a judge that errs: KeyRoom-S5 with a share of the verdicts flipped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from rich.console import Console

from onibus.infra.settings import Settings
from onibus.learner.benchmarks.learning import LearningPlan, Noise, finished_run, steps_until_learnt
from onibus.learner.benchmarks.result import Figure

_LAST_ROWS = 5
"""Of a history: their mean is the return at the end."""


def measure(settings: Settings, plans: Sequence[LearningPlan], console: Console) -> list[Figure]:
    """Make the runs one after the other, each with topics of its own: steps until learnt, return at the end.

    A run that an earlier call finished in the same folder is not made again.

    Raises:
        OnibusError: a run failed, or was stopped before its end.
    """
    return [
        figure
        for plan in plans
        for reward in plan.rewards
        for seed in plan.seeds
        for figure in _figures(plan, reward, seed, finished_run(settings, plan, reward, seed, console))
    ]


def noises(
    flips: Sequence[float],
    flip_seeds: Sequence[int],
    ask_again: Sequence[int],
    judges: Sequence[int] = (1,),
) -> list[Noise]:
    """Every combination; without flips one alone, for more answers would say the same then."""
    found = []
    for flip in flips:
        combinations = product([flip], flip_seeds, ask_again, judges)
        found += [Noise(*one) for one in combinations] if flip else [Noise()]
    return found


def _figures(plan: LearningPlan, reward: str, seed: int, rows: list[dict[str, float]]) -> Iterator[Figure]:
    noise = plan.noise
    name = f"{reward}, {noise.flip:.0%} flipped" + (f" (seed {noise.seed})" if noise.flip else "")
    name += f", {noise.judges} judges" if noise.judges > 1 else ""
    name += f", asked again {noise.ask_again} times" if noise.ask_again else ""
    name += f", seed {seed}"
    if not math.isnan(when := steps_until_learnt(rows)):
        yield Figure(f"{name}: steps until the mean return is 0.8", when, "steps")
    last = [r["return"] for r in rows if "return" in r][-_LAST_ROWS:]
    mean = sum(last) / len(last) if last else math.nan
    yield Figure(f"{name}: mean return after {rows[-1]['env_steps']:,.0f} steps", mean, "return")
