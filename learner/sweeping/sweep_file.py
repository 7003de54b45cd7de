"""Sweep files: tasks, rewards, specs, seeds and options in TOML, and the runs that they stand for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.flags import flag_name
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.run_names import check_run_name
from onibus.learner.option_groups import DEFAULT_REWARD
from onibus.learner.options import PAIRS, LearnOptions, make_options

BUILT_IN = "onibus.infra.sweeps"

_AXES = ("run", "task", "reward", "specs", "seed")
"""Options that a sweep file has places of its own for."""


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_Several = (BeforeValidator(_listed), Field(min_length=1))
Texts = Annotated[list[str], *_Several]
Numbers = Annotated[list[int], *_Several]
Values = Annotated[list[Any], *_Several]


class SweepFile(BaseModel):
    """What a sweep file says. Each combination of tasks, rewards, specs, seeds and ``grid`` is a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tasks: Texts
    rewards: Texts = Field([DEFAULT_REWARD])
    specs: Texts | None = None
    seeds: Numbers = Field([0])
    parallel: int = Field(1, ge=1)
    options: dict[str, Any] = Field({})
    grid: dict[str, Values] = Field({})
    annotate: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """The runs of a sweep file.

    Attributes:
        name: of the sweep; names of runs begin with it.
        runs: options of each run, by which it is found again.
        parallel: how many run at a time.
        annotators: arguments of ``onibus annotate`` for the specs of all runs; None where none is asked for.
    """

    name: str
    runs: Sequence[LearnOptions]
    parallel: int
    annotators: Sequence[str] | None


def read_sweep(place: str, scale: float = 1.0) -> Sweep:
    """The sweep in a file, or the one that comes with onibus under a name.

    Args:
        place: path of a TOML file, or a name such as ``goal-steers``.
        scale: share of each run's steps that is taken.

    Raises:
        OnibusError: there is no such file, it cannot be read, or an option in it is wrong.
    """
    text, stem = _text(place)
    try:
        file = SweepFile.model_validate({"name": stem} | tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OnibusError(f"sweep file {place}: {where}: {first['msg']}; correct it") from error
    except ValueError as error:
        raise OnibusError(f"sweep file {place} is not TOML: {error}; correct it") from error
    by_name: dict[str, LearnOptions] = {}
    for options in _runs(file, place, scale):
        before = by_name.setdefault(options.run, options)
        if before != options:
            raise OnibusError(f"sweep file {place}: two runs would be named {options.run}; change the grid")
    runs = list(by_name.values())
    return Sweep(file.name, runs, file.parallel, _annotators(file, runs))


def learn_arguments(options: LearnOptions) -> list[str]:
    """Arguments of ``onibus`` that make this run, or go on with it."""
    usual = make_options(options.task, run=options.run, reward=options.reward)
    arguments = ["learn", "--run", options.run, "--task", options.task, "--reward", options.reward]
    for name, field in LearnOptions.model_fields.items():
        value = getattr(options, name)
        if name in ("run", "task", "reward") or value == getattr(usual, name):
            continue
        arguments += _flag(flag_name(name, field.metadata), value)
    return [*arguments, "--resume-or-start"]


def _text(place: str) -> tuple[str, str]:
    """What the file says, and its name without the ending."""
    path = Path(place)
    built_in = resources.files(BUILT_IN) / f"{place}.toml"
    try:
        if not path.exists() and "/" not in place and built_in.is_file():
            return built_in.read_text(encoding="utf-8"), place
        return path.read_text(encoding="utf-8-sig"), path.stem
    except (OSError, UnicodeDecodeError) as error:
        raise OnibusError(f"cannot read the sweep file {place} ({reason_of(error)}); give another") from error


def _runs(file: SweepFile, place: str, scale: float) -> Iterator[LearnOptions]:
    fixed = {_field(name, place): value for name, value in file.options.items()}
    grid = {_field(name, place): values for name, values in file.grid.items()}
    if twice := sorted(fixed.keys() & grid.keys()):
        raise OnibusError(f"sweep file {place}: {twice[0]} is in options and in grid; take one out")
    specs: Sequence[str | None] = file.specs or [None]
    for task, reward, spec in product(file.tasks, file.rewards, specs):
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            for seed in file.seeds:
                given = fixed | chosen | {"seed": seed, "reward": reward}
                if spec is not None and reward != "none":
                    given["specs"] = _specs(spec, reward)
                yield _options(file.name, task, chosen, _scaled(given, scale, place), place)


def _options(
    name: str, task: str, chosen: Mapping[str, Any], given: dict[str, Any], place: str
) -> LearnOptions:
    parts = [name, task, given["reward"], *given.get("specs", ())]
    parts += [f"{field.replace('_', '-')}-{value}" for field, value in chosen.items()]
    run = check_run_name("-".join([*parts, f"s{given['seed']}"]))
    try:
        return make_options(task, run=run, **given)
    except OnibusError as error:
        raise OnibusError(f"sweep file {place}: {error}") from error


def _field(name: str, place: str) -> str:
    field = name.removeprefix("--").replace("-", "_")
    if field in _AXES or field == "spec":
        raise OnibusError(f"sweep file {place}: {name} has its own place: tasks, rewards, specs or seeds")
    if field == "import":
        return "imports"
    if field not in LearnOptions.model_fields:
        raise OnibusError(f"sweep file {place}: onibus learn has no --{name}; see onibus learn --help")
    return field


def _specs(spec: str, reward: str) -> list[str]:
    """``gold+combat=0.1`` is a mixture; a reward that compares takes each spec's pairs."""
    shares = [share.strip() for share in spec.split("+")]
    if not reward_kind(reward).compares:
        return shares
    names = [share.partition("=") for share in shares]
    return [f"{name if name.endswith(PAIRS) else name + PAIRS}{sign}{value}" for name, sign, value in names]


def _scaled(given: dict[str, Any], scale: float, place: str) -> dict[str, Any]:
    """Runs have a length in steps: so it is known whether one is done, and their ends can be compared."""
    steps = given.get("steps")
    if not isinstance(steps, int):
        raise OnibusError(f"sweep file {place}: options need steps, the length of each run")
    if ended := {"seconds", "until_return"} & given.keys():
        raise OnibusError(f"sweep file {place}: {ended.pop()} would end runs early; take it out")
    return given | {"steps": max(1, round(steps * scale))}


def _annotators(file: SweepFile, runs: Sequence[LearnOptions]) -> list[str] | None:
    specs = dict.fromkeys(s.name for run in runs if run.kind.annotators and run.captions for s in run.specs)
    if file.annotate is None or not specs:
        return None
    arguments = ["annotate"]
    for spec in specs:
        arguments += ["--spec", spec]
    for name, value in file.annotate.items():
        arguments += _flag("--" + name.removeprefix("--").replace("_", "-"), value)
    return arguments


def _flag(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, dict):
        value = tuple(f"{name}={text}" for name, text in value.items())
    if isinstance(value, tuple):
        return [part for one in value for part in (flag, str(one))]
    return [flag, str(value)]
