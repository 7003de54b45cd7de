"""Checkpoints of a run: which is the newest, what is in it, and writing one whole.

To find them takes no PyTorch, whose import takes a second and a half.
"""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.infra.files import PART_SUFFIX, reason_of, write_whole
from onibus.learner.options import LearnOptions

log = logging.getLogger(__name__)

CHECKPOINT_FOLDER = "checkpoint_p0"
EXPORTED_FILE = "model.safetensors"
"""In a folder that ``onibus export hf`` wrote: weights, which carry the run's options."""
MILESTONES = "milestones"
"""The folder in it for checkpoints that are kept forever."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of the run in ``folder``."""
    return max((folder / CHECKPOINT_FOLDER).glob("checkpoint_*.pth"), default=None)


def read_checkpoint(
    path: Path, device: Any = "cpu", advice: str = "delete it to resume from the one before"
) -> dict[str, Any]:
    """The content of a checkpoint, its tensors on ``device``.

    Raises:
        OnibusError: it cannot be read, or is something else; ends with ``advice``.
    """
    try:
        if path.suffix == ".safetensors":
            content = _exported(path, device)
        else:
            import torch

            content = torch.load(path, map_location=device, weights_only=True)
        if not {"model", "train_step", "env_steps"} <= content.keys():
            raise ValueError("it is not a checkpoint of onibus learn")
    except Exception as error:  # torch raises many kinds for a broken file
        reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
        raise OnibusError(f"checkpoint {path} cannot be read ({reason}); {advice}") from error
    return content


def _exported(path: Path, device: Any) -> dict[str, Any]:
    """The content of what :func:`weights_metadata` was written with, as a checkpoint's."""
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device)) as file:
        told = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    steps = {name: int(told[name]) for name in ("train_step", "env_steps")}
    return {"model": weights, **steps, "onibus": {"options": told["options"]}}


def warn_of_edits(checkpoint: dict[str, Any], options: LearnOptions) -> None:
    """Log which of the user's own modules are not as they were when a checkpoint was written.

    Raises:
        OnibusError: one cannot be imported.
    """
    then: dict[str, str] = checkpoint.get("onibus", {}).get("plugin_files", {})
    now = options.plugin_files() if then else {}
    if changed := [module for module, checksum in then.items() if now.get(module, checksum) != checksum]:
        log.warning(
            "%s: edited since the checkpoint was written, so the policy may meet what it was not trained on; "
            "undo the changes or train it further",
            ", ".join(changed),
        )


def weights_metadata(content: dict[str, Any], options: LearnOptions) -> dict[str, str]:
    """What a file of weights alone carries of a checkpoint, so that it can be played."""
    steps = {name: str(int(content[name])) for name in ("train_step", "env_steps")}
    return {"format": "pt", "options": options.model_dump_json()} | steps


def playable_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run in ``folder``, or the weights of a run that was exported there."""
    exported = folder / EXPORTED_FILE
    return newest_checkpoint(folder) or (exported if exported.exists() else None)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write it whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import torch

    serialised = io.BytesIO()
    torch.save(content, serialised)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, serialised.getbuffer())


def remove_parts(folder: Path) -> None:
    """Remove what killed writers left of checkpoints of the run in ``folder``; no one must be writing one."""
    for part in (folder / CHECKPOINT_FOLDER).glob(f".*{PART_SUFFIX}"):
        part.unlink(missing_ok=True)


def options_in(checkpoint: dict[str, Any]) -> LearnOptions | None:
    """The options of the run, which are in each checkpoint; None in a very old one."""
    kept = checkpoint.get("onibus", {}).get("options")
    try:
        return None if kept is None else LearnOptions.model_validate(json.loads(kept))
    except ValueError as error:
        raise OnibusError(f"the options in the checkpoint cannot be read: {reason_of(error)}") from error
