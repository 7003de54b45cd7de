"""How far each run of a sweep is: always what its folder says, so that nothing else can be lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.infra.files import last_row
from onibus.learner.checkpoints import newest_checkpoint
from onibus.learner.options import OPTIONS_FILE, LearnOptions, load_options
from onibus.learner.run_files.history import HISTORY_FILE

_MAY_CHANGE = {"run", "steps", "checkpoint_seconds", "wandb"}
"""Options that a run may be gone on with differently."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a run is: steps that its newest checkpoint has, and the last row of its history."""

    saved_steps: int
    row: dict[str, Any]


def reached(folder: Path) -> Reached:
    """How far the run in ``folder`` is; nothing where there is none."""
    checkpoint = newest_checkpoint(folder)
    saved = 0 if checkpoint is None else int(checkpoint.stem.rpartition("_")[2])
    return Reached(saved, last_row(folder / HISTORY_FILE))


def is_done(folder: Path, options: LearnOptions) -> bool:
    """Whether the run has a checkpoint of all its steps."""
    return options.steps is not None and reached(folder).saved_steps >= options.steps


def check_fits(folder: Path, options: LearnOptions) -> None:
    """Do nothing if a run in ``folder`` is the one that the sweep means, or if there is none.

    Raises:
        OnibusError: it was made with other options.
    """
    if not (folder / OPTIONS_FILE).exists():
        return
    before = load_options(folder)
    for name in LearnOptions.model_fields:
        was, now = getattr(before, name), getattr(options, name)
        if name not in _MAY_CHANGE and was != now:
            raise OnibusError(
                f"run {options.run} is there with another {name.replace('_', '-')} ({was}, not {now}); "
                "give the sweep another name, or remove the run's folder"
            )
