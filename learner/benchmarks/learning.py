"""Does it learn, over the bus? KeyRoom-S5 with judged messages and without, on several seeds."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.replay.spec_evaluation import decided, evaluate_trial
from onibus.consumers.replay.trying_specs import try_spec
from onibus.consumers.specs.reference_set import built_in_path, read_references
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.demo.session import Demo, DemoOptions
from onibus.infra.demo.watch import Watch
from onibus.infra.files import write_whole
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.settings import DEFAULT_PORT, Settings
from onibus.infra.vllm.server import VllmServer
from onibus.learner.benchmarks.result import Figure
from onibus.learner.options import PAIRS, default_specs
from onibus.learner.reporting.charts import Curve, curve_of, line_chart
from onibus.learner.run_files.history import read_history

LEARNT, NOT_LEARNT = 0.8, 0.1
ENOUGH = 0.9
"""Mean return at which a run ends early: the goal is passed by then, and the machine is free for the next."""
LAST_SECOND, NEARLY_ALL = 0.02, 0.99
"""What the mean return may gain between the last line of a run's history and its end, and the share of its
steps that it has then taken."""

_NAMES = {"retrieval": "labels (retrieval)", "none": "extrinsic reward alone"}
CURVES_FILE = "learning.json"
PICTURE_FILE = "learning.svg"
NEVER = 24 * 3600.0
SEEDS_PER_PANEL = 100
"""Judge k of a panel with flip seed s has the flip seed 100 s + k."""
_REQUESTS = 16
"""In flight, while the judge answers about the reference set."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What is done to the judge's answers: see ``onibus annotate --flip``, ``--ask-again`` and ``--panel``.

    Attributes:
        judges: keyword rules that judge each caption, each with flips of its own; the majority decides.
    """

    flip: float = 0.0
    seed: int = 0
    ask_again: int = 0
    judges: int = 1

    def flags(self, folder: Path) -> tuple[str, ...]:
        """Flags of ``onibus annotate``; of several judges the file is written into this folder."""
        flip: tuple[str, ...] = ()
        if self.judges > 1:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"judges{self.suffix}.toml"
            seeds = (self.seed * SEEDS_PER_PANEL + number for number in range(self.judges))
            judge = '[[judge]]\nllm = "rules"\nflip = {}\nflip_seed = {}\n\n'
            write_whole(path, "".join(judge.format(self.flip, seed) for seed in seeds))
            flip = ("--panel", str(path.resolve()))
        elif self.flip:
            flip = ("--flip", str(self.flip), "--flip-seed", str(self.seed))
        return (*flip, "--ask-again", str(self.ask_again)) if self.ask_again else flip

    @property
    def suffix(self) -> str:
        """What names of runs with this noise end in."""
        flip = f"-flip{self.flip:g}-{self.seed}" if self.flip else ""
        flip += f"-judges{self.judges}" if self.judges > 1 else ""
        return f"{flip}-again{self.ask_again}" if self.ask_again else flip


@dataclass(frozen=True, slots=True)
class LearningPlan:
    """Which runs to make: one for each reward and seed, ``steps`` environment steps each."""

    task: str
    spec: str
    rewards: Sequence[str]
    seeds: Sequence[int]
    steps: int
    server: VllmServer | None = None
    """Who judges; without a server the keyword rules do."""
    noise: Noise = Noise()
    inference: str | None = None
    """Where actions are chosen (``onibus learn --inference``); None: where it is the default."""

    def run_name(self, reward: str, seed: int) -> str:
        """The name of a run."""
        judge = "" if self.server is None else "-vllm"
        where = "" if self.inference is None else f"-{self.inference}"
        return f"bench-learning-{self.task}-{reward}{judge}{self.noise.suffix}{where}-{seed}"

    def topic_prefix(self, reward: str, seed: int) -> str:
        """Where a run's topics are: its own, or those of all runs where labels take time and money."""
        name = self.run_name(reward, seed) if self.server is None else f"bench-learning-{self.task}-vllm"
        return f"{name}."


def measure(settings: Settings, plan: LearningPlan, console: Console) -> list[Figure]:
    """Make the runs one after the other; returns the returns reached.

    Each has topics of its own, so that it waits for its labels. Where a server judges, all runs share one
    set, and the judge is asked about each caption once. A run that an earlier call finished in the same
    folder is not made again.

    Also leaves ``learning.json`` (curves) and ``learning.svg`` (their picture) in the runs folder.

    Raises:
        OnibusError: a run failed.
    """
    curves: dict[str, dict[int, Curve]] = {reward: {} for reward in plan.rewards}
    figures = [] if plan.server is None else judge_figures(plan.server, plan.spec)
    for seed in plan.seeds:
        for reward in plan.rewards:
            rows = finished_run(settings, plan, reward, seed, console)
            curves[reward][seed] = curve_of(rows, "env_steps", "return")
            figures.append(_figure(f"{reward}{plan.noise.suffix}", seed, rows))
            _keep(settings.runs_dir, plan, curves)
    return figures


def finished_run(
    settings: Settings, plan: LearningPlan, reward: str, seed: int, console: Console
) -> list[dict[str, float]]:
    """The history of a run, which is made now unless an earlier call has finished it.

    Raises:
        OnibusError: the run failed, or was stopped before its end.
    """
    name = plan.run_name(reward, seed)
    console.print(f"{name}: {plan.steps:,} steps")
    rows = read_history(settings.runs_dir / name)
    if _is_finished(plan, rows):
        console.print("made already; delete its folder to make it again")
        return rows
    apart = settings.model_copy(update={"topic_prefix": plan.topic_prefix(reward, seed)})
    with Demo(apart, _options(plan, reward, seed, apart.runs_dir), console, threading.Event()) as demo:
        demo.watch()
    return read_history(settings.runs_dir / name)


def steps_until_learnt(rows: Sequence[Mapping[str, float]]) -> float:
    """Environment steps until the mean return of 100 episodes was 0.8; NaN if it never was."""
    return next((r["env_steps"] for r in rows if r.get("return", -math.inf) >= LEARNT), math.nan)


def _options(plan: LearningPlan, reward: str, seed: int, runs_dir: Path) -> DemoOptions:
    spec = f"{plan.spec}{PAIRS}" if reward_kind(reward).compares else plan.spec
    coefficient = default_specs(plan.task, reward)[0].coefficient
    spec_name = load_spec_file(spec).name
    share = () if reward == "none" else ("--spec", f"{spec_name}={coefficient}")
    judge = plan.server.judge_flags() if plan.server else ("--llm", "rules")
    return DemoOptions(
        run=plan.run_name(reward, seed),
        task=plan.task,
        reward=reward,
        spec=spec,
        spec_name=spec_name,
        judge_name=plan.server.name if plan.server else "rules",
        judge=(*judge, *plan.noise.flags(runs_dir)),
        learner=(
            *("--seed", str(seed), "--steps", str(plan.steps), "--until-return", str(ENOUGH), *share),
            *(("--inference", plan.inference) if plan.inference else ()),
        ),
        watch=Watch(NEVER),
        annotators=2,
        broker_port=DEFAULT_PORT,
    )


def judge_figures(server: VllmServer, spec: str) -> list[Figure]:
    """How often the judge errs: on the half of the reference set that no prompt has seen.

    Raises:
        OnibusError: the server does not answer, or the reference set knows nothing of the spec's goal.
    """
    references = read_references(built_in_path(), load_spec_file(spec).name)
    unseen = [one for one in references if one.half == "second"]
    options = AnnotateOptions(
        specs=(spec,), llm="openai", base_url=server.base_url, model=server.name, concurrency=_REQUESTS
    )
    found = evaluate_trial(
        try_spec(options, [(one.caption,) for one in decided(unseen)]), unseen, most_mistakes=0
    )
    name = f"{server.name}, {spec}, {found.figures.count} captions of the reference set"
    named = {
        "balanced accuracy": found.balanced_accuracy,
        "AUC": found.figures.roc_auc,
        "precision": found.figures.precision,
        "recall": found.figures.recall,
    }
    return [Figure(f"{name}: {what}", v, "") for what, v in named.items() if v is not None]


def _is_finished(plan: LearningPlan, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether an interrupted benchmark had this run behind it."""
    if not rows:
        return False
    last = rows[-1]
    learnt = last["episodes_averaged"] >= 100 and last.get("return", -math.inf) >= ENOUGH - LAST_SECOND
    return learnt or last["env_steps"] >= NEARLY_ALL * plan.steps


def _figure(reward: str, seed: int, rows: Sequence[Mapping[str, float]]) -> Figure:
    """The best mean return of 100 episodes, with the goal that belongs to the reward."""
    full = [r["return"] for r in rows if r["episodes_averaged"] >= 100 and "return" in r]
    best = max(full, default=math.nan)
    name = f"{reward}, seed {seed}: best mean return of 100 episodes"
    if reward == "none":
        return Figure(name, best, "return", f"< {NOT_LEARNT}", best < NOT_LEARNT)
    when = steps_until_learnt(rows)
    return Figure(f"{name} (≥ {LEARNT} at {when:,.0f} steps)", best, "return", f"≥ {LEARNT}", best >= LEARNT)


def _keep(folder: Path, plan: LearningPlan, curves: Mapping[str, Mapping[int, Curve]]) -> None:
    flat = {
        f"{_NAMES.get(reward, reward)}, seed {seed}": curve
        for reward, by_seed in curves.items()
        for seed, curve in by_seed.items()
    }
    write_whole(folder / CURVES_FILE, json.dumps(flat))
    picture = line_chart(
        flat,
        f"environment steps of {plan.task}",
        "mean return of 100 episodes",
        (-1.05, 1.05),
        group_of=lambda name: name.rpartition(", seed")[0],
    )
    write_whole(folder / PICTURE_FILE, picture)
