"""Which checkpoints are evaluated: of a run by name or folder, or a file on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from onibus.infra.errors import OnibusError
from onibus.learner.checkpoints import CHECKPOINT_FOLDER, playable_checkpoint
from onibus.learner.options import OPTIONS_FILE
from onibus.learner.run_files.run_folders import find_run

Which = Literal["newest", "best", "all"]


def chosen_checkpoints(runs_dir: Path, place: str, which: Which) -> list[Path]:
    """The checkpoint files of ``place``, those with the fewest steps first.

    Args:
        runs_dir: where runs lie that are given by name.
        place: a checkpoint file, a run's folder, or a run's name.
        which: of a run: the newest, that of the best return in training, or every one that is kept.

    Raises:
        OnibusError: there is no such run, file or checkpoint.
    """
    if place.endswith((".pth", ".safetensors")) or Path(place).is_file():
        return [Path(place)]
    folder = find_run(runs_dir, place)
    newest = playable_checkpoint(folder)
    best = max((folder / CHECKPOINT_FOLDER).glob("best_*.pth"), default=None)
    if newest is None:
        raise OnibusError(
            f"no checkpoint in {folder}; give the folder of a run that has learned, or a checkpoint file"
        )
    if which == "newest":
        return [newest]
    if which == "best":
        if best is None:
            raise OnibusError(
                f"run {folder.name} has no best checkpoint: one is kept from 100,000 steps on; "
                "use --checkpoints newest"
            )
        return [best]
    kept = [*(folder / CHECKPOINT_FOLDER).glob("checkpoint_*.pth"), *([best] if best else [])] or [newest]
    return sorted(kept, key=lambda path: path.name.split("_")[1:])


def run_folder_of(checkpoint: Path) -> Path | None:
    """The folder of the run that the file lies in; None for one that lies elsewhere."""
    folder = checkpoint.parent.parent
    return folder if (folder / OPTIONS_FILE).exists() else None
