"""The options of a session of a run: what was given, and what a run that goes on has.

It takes no PyTorch, whose import takes a second and a half: what is wrong with flags is said at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError
from onibus.infra.run_names import check_run_name
from onibus.learner.checkpoints import newest_checkpoint, options_in, read_checkpoint
from onibus.learner.option_groups import DEFAULT_TASK
from onibus.learner.options import OPTIONS_FILE, LearnOptions, load_options, make_options, resumed_options

log = logging.getLogger(__name__)


def chosen_options(
    runs_dir: Path, given: Mapping[str, Any], name: str | None, *, resume: bool, or_start: bool
) -> tuple[LearnOptions, LearnOptions | None]:
    """The options of a session, and those of the session before if the run goes on.

    Raises:
        OnibusError: the run to resume does not exist, or does not fit; a value is out of range.
    """
    if resume and name is None:
        raise OnibusError("--resume needs the --run to go on with")
    folder = None if name is None else runs_dir / check_run_name(name)
    if folder is None or not ((resume or or_start) and _exists(folder)):
        if resume and not or_start:
            raise OnibusError(
                f"there is no run {name} in {runs_dir} to resume; "
                "give the --run of one that is there, or leave --resume out to start it"
            )
        options = make_options(**{"task": DEFAULT_TASK, "run": name or ""} | dict(given))
        default_name = f"{options.task}-{options.reward.replace(':', '.')}-{time.strftime('%Y%m%d-%H%M%S')}"
        return options if name else options.model_copy(update={"run": check_run_name(default_name)}), None
    before = _options_of(folder)
    if (task := given.get("task")) not in (None, before.task):  # or else what it has no options for is said
        raise was_started_with(str(name), "--task", before.task, task)
    return resumed_options(before, **given).model_copy(update={"run": name}), before


def was_started_with(run: str, flag: str, was: object, now: object) -> OnibusError:
    """The refusal of a flag that says something else than the run began with."""
    return OnibusError(
        f"run {run} was started with {flag} {was}, not {now}; "
        f"leave {flag} out to resume it, or start another --run"
    )


def _exists(folder: Path) -> bool:
    return (folder / OPTIONS_FILE).exists() or newest_checkpoint(folder) is not None


def _options_of(folder: Path) -> LearnOptions:
    """The options of the run's last session; those in its checkpoint where the file is lost or broken."""
    try:
        return load_options(folder)
    except OnibusError as error:
        checkpoint = newest_checkpoint(folder)
        kept = None if checkpoint is None else options_in(read_checkpoint(checkpoint))
        if kept is None:
            raise
        log.warning("%s; going on with the options in %s", error, checkpoint)
        return kept
