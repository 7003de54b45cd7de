"""`onibus learn`: a run of Sample Factory with rewards from the bus, from its start to its clean end."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.files import read_state, reason_of, write_whole
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.observability.metrics import expose
from onibus.infra.process.shutdown import stop_event
from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoints import newest_checkpoint, options_in, read_checkpoint, remove_parts
from onibus.learner.configuration import configuration
from onibus.learner.options import OPTIONS_FILE, LearnOptions, load_options, save_options
from onibus.learner.progress import Progress
from onibus.learner.rewards.frozen import check_judges
from onibus.learner.run_files.parts import record_parts
from onibus.learner.run_files.run_lock import only_learner_of
from onibus.learner.sample_factory import run_experiment
from onibus.producers.nethack.tasks import make_task

log = logging.getLogger(__name__)

SESSIONS_FILE = "sessions"

_FIXED_BY_CHECKPOINT = ("task", "network", "max_episode_steps")


def run(
    settings: Settings,
    options: LearnOptions,
    *,
    resume: bool,
    metrics_port: int | None,
    or_start: bool = False,
) -> None:
    """Learn until the options' end, SIGTERM or SIGINT; then save a checkpoint and say what was reached.

    Args:
        resume: go on with a run that exists.
        metrics_port: where metrics are served, if anywhere.
        or_start: with ``resume``: begin the run if it does not exist.

    Raises:
        OnibusError: an unknown task, a missing broker or topic, a run that exists (without ``resume``), does
            not exist or does not fit its checkpoint (with it), or is trained by another process, a process
            that failed.
    """
    stopping = stop_event()
    folder = settings.runs_dir / options.run
    if resume and not or_start and not _exists(folder):
        raise OnibusError(
            f"there is no run {options.run} in {settings.runs_dir} to resume; "
            "give the --run of one that is there, or leave --resume out to start it"
        )
    configuration(options, settings.runs_dir, 0)  # refuses what does not fit before anything is written
    make_task(options.task, max_episode_steps=options.max_episode_steps).close()  # type: ignore[no-untyped-call]
    if options.captions:
        require_topics(settings, role="learner")
        check_judges(settings, options)
    with only_learner_of(folder):
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


def _exists(folder: Path) -> bool:
    return (folder / OPTIONS_FILE).exists() or newest_checkpoint(folder) is not None


def _open_run(options: LearnOptions, folder: Path, resume: bool) -> int:
    """Begin a session in the run's folder; returns how many there were before."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None and not resume:
        raise OnibusError(
            f"run {options.run} exists in {folder} with a checkpoint; "
            "use --resume to go on with it, or another --run name"
        )
    if checkpoint is not None:
        _check_fits(options, checkpoint)
    remove_parts(folder)
    before = read_state(folder / SESSIONS_FILE, int, _sessions_that_left_files(folder))
    try:
        save_options(options, folder)
        write_whole(folder / SESSIONS_FILE, f"{before + 1}\n")
        record_parts(folder)
    except OSError as error:
        raise OnibusError(
            f"cannot write the run's folder {folder}: {reason_of(error)}; choose another --runs-dir"
        ) from error
    return before


def _sessions_that_left_files(folder: Path) -> int:
    """Where the count is lost: each session wrote a file for TensorBoard. Games must not come up again."""
    return len(list((folder / "tensorboard").glob("events*")))


def _check_fits(options: LearnOptions, checkpoint: Path) -> None:
    before = options_in(read_checkpoint(checkpoint)) or load_options(checkpoint.parent.parent)
    for name in _FIXED_BY_CHECKPOINT:
        was, now = getattr(before, name), getattr(options, name)
        if was != now:
            flag = name.replace("_", "-")
            raise OnibusError(
                f"run {options.run} was started with --{flag} {was}, not {now}; "
                f"resume it with --{flag} {was}, or start another --run"
            )
