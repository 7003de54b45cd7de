"""Runs that are alike but for their seed, and in what the groups of them differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.learner.options import LearnOptions, load_options
from onibus.learner.run_files.history import read_history

_OF_ONE_RUN = ("run", "seed", "wandb")
"""Options that runs of a group may differ in."""

_SELF_EXPLAINING = ("task", "reward", "specs")
"""Options whose value alone says what is meant."""


@dataclass(frozen=True)
class Run:
    """One run as its folder has it.

    Attributes:
        folder: where it lies; its name is the run's.
        options: what it was started with.
        rows: its history, by rising ``env_steps``; what was lost in a crash and learned again is in it once.
    """

    folder: Path
    options: LearnOptions
    rows: Sequence[Mapping[str, float]]

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.name

    @property
    def env_steps(self) -> float:
        """Environment steps taken."""
        return self.rows[-1]["env_steps"]

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self.rows[-1]["seconds"]

    @cached_property
    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes; a resumed run counts from 0 again in each session."""
        total = before = 0.0
        for row in self.rows:
            now = row.get("cpu_seconds", before)
            total += now - before if now >= before else now
            before = now
        return total


@dataclass(frozen=True)
class Group:
    """Runs with the same options but for the seed."""

    name: str
    runs: Sequence[Run]

    @property
    def options(self) -> dict[str, Any]:
        """The options that they share, as JSON has them."""
        return _shared(self.runs[0].options)


def read_run(folder: Path, first_steps: int | None = None) -> Run:
    """The run in ``folder``.

    Args:
        first_steps: look at this many environment steps from its start; None for all of them.

    Raises:
        OnibusError: there is none, it has no history yet, or fewer steps than that.
    """
    options = load_options(folder)
    rows = _rising(row for row in read_history(folder) if "env_steps" in row)
    if not rows:
        raise OnibusError(f"run {folder.name} has no history yet; let it learn for a few seconds first")
    if first_steps is None:
        return Run(folder.resolve(), options, rows)
    if (last := rows[-1]["env_steps"]) < first_steps:
        raise OnibusError(f"--first-steps {first_steps}: run {folder.name} has {last:,.0f} steps; give fewer")
    rows = [row for row in rows if row["env_steps"] <= first_steps] or rows[:1]
    return Run(folder.resolve(), options.model_copy(update={"steps": first_steps}), rows)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The runs in groups, in the order in which they come up.

    A run that is given a second time stands in a group of its own, beside which it can be held.
    """
    seen: Counter[Path] = Counter()
    by_options: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        shared = str(sorted(_shared(run.options).items()))
        by_options.setdefault((shared, seen[run.folder]), []).append(run)
        seen[run.folder] += 1
    members = list(by_options.values())
    names = _names([_shared(group[0].options) for group in members])
    for number, (_, again) in enumerate(by_options):
        names[number] += " (again)" * again
    return [Group(name, group) for name, group in zip(names, members, strict=True)]


def differing(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """Options in which the groups differ, by name, with the value of each group."""
    return _differing([group.options for group in groups])


def _shared(options: LearnOptions) -> dict[str, Any]:
    return {name: value for name, value in options.model_dump(mode="json").items() if name not in _OF_ONE_RUN}


def _differing(options: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for one in options for name in one)
    rows = [(name, [_shown(one.get(name)) for one in options]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _names(options: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is the matter with each group: the settings that differ, or task and reward of the only one."""
    rows = _differing(options)
    if not rows:
        return [f"{one['task']}, {one['reward']}" for one in options]
    rows.sort(key=lambda row: row[0] not in _SELF_EXPLAINING)
    return [
        ", ".join(
            values[number] if name in _SELF_EXPLAINING else f"{name.replace('_', ' ')} {values[number]}"
            for name, values in rows
            if values[number] != _NOTHING
        )
        or "none"
        for number in range(len(options))
    ]


_NOTHING = "–"


def _shown(value: Any) -> str:
    if isinstance(value, list):  # specs with their coefficients
        return " + ".join(f"{share['name']}={share['coefficient']:g}" for share in value) or _NOTHING
    return _NOTHING if value is None else str(value)


def _rising(rows: Any) -> list[Mapping[str, float]]:
    """Without the rows that a later one takes back: the run went on from a checkpoint before them."""
    kept: list[Mapping[str, float]] = []
    for row in reversed(list(rows)):
        if not kept or row["env_steps"] < kept[-1]["env_steps"]:
            kept.append(row)
    return kept[::-1]
