"""`onibus learn`: a run of Sample Factory with rewards from the bus, from its start to its clean end."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import torch

from infra.errors import OnibusError
from infra.kafka.topic_admin import require_topics
from infra.observability.metrics import expose
from infra.process.shutdown import stop_event
from infra.settings import Settings, environment_of
from learner.options import LearnOptions, load_options, save_options
from learner.parts import record_parts
from learner.progress import Progress
from learner.rewards.frozen import check_judges
from learner.sample_factory import newest_checkpoint, run_experiment
from producers.nethack.tasks import make_task

log = logging.getLogger(__name__)

SESSIONS_FILE = "sessions"

_FIXED_BY_CHECKPOINT = ("task", "network", "max_episode_steps")


def run(settings: Settings, options: LearnOptions, *, resume: bool, metrics_port: int | None) -> None:
    """Learn until the options' end, SIGTERM or SIGINT; then save a checkpoint and say what was reached.

    Raises:
        OnibusError: an unknown task, a missing broker or topic, a run that exists (without ``resume``) or
            does not fit its checkpoint (with it), a worker that died.
    """
    stopping = stop_event()
    folder = settings.runs_dir / options.run
    make_task(options.task, max_episode_steps=options.max_episode_steps).close()  # type: ignore[no-untyped-call]
    if options.captions:
        require_topics(settings, role="learner")
        check_judges(settings, options)
    session = _open_run(options, folder, resume)
    os.environ.update(environment_of(settings))
    expose(metrics_port, settings.metrics_host)
    with Progress(options, folder) as progress:
        state = run_experiment(options, settings.runs_dir.absolute(), stopping, progress.watch, session)
    saved = newest_checkpoint(folder)
    reached = progress.last.get("return", math.nan)
    log.info(
        "run %s: %s environment steps, mean return %s, checkpoint %s",
        options.run,
        f"{state.env_steps:,}",
        "not known yet" if math.isnan(reached) else f"{reached:.3f}",
        saved,
    )


def _open_run(options: LearnOptions, folder: Path, resume: bool) -> int:
    """Claim the run's folder; returns how often the run was started before."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None and not resume:
        raise OnibusError(
            f"run {options.run} exists in {folder} with a checkpoint; "
            "use --resume to go on with it, or another --run name"
        )
    if checkpoint is not None:
        _check_fits(options, folder, checkpoint)
    sessions = folder / SESSIONS_FILE
    before = int(sessions.read_text()) if sessions.exists() else 0
    try:
        save_options(options, folder)
        sessions.write_text(f"{before + 1}\n")
        record_parts(folder)
    except OSError as error:
        raise OnibusError(
            f"cannot write the run's folder {folder}: {error.strerror}; choose --runs-dir"
        ) from error
    return before


def _check_fits(options: LearnOptions, folder: Path, checkpoint: Path) -> None:
    before = load_options(folder)
    for name in _FIXED_BY_CHECKPOINT:
        was, now = getattr(before, name), getattr(options, name)
        if was != now:
            flag = name.replace("_", "-")
            raise OnibusError(
                f"run {options.run} was started with --{flag} {was}, not {now}; "
                f"resume it with --{flag} {was}, or start another --run"
            )
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise OnibusError(
            f"checkpoint {checkpoint} cannot be read ({type(error).__name__}); "
            "delete it to resume from the one before"
        ) from error
