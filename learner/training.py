"""`onibus learn`: a run of Sample Factory with rewards from the bus, from its start to its clean end."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onibus.infra.devices import torch_device
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.observability.metrics import expose
from onibus.infra.plugins import is_plugin
from onibus.infra.process.shutdown import stop_event
from onibus.infra.settings import Settings, environment_of
from onibus.learner.checkpoints import (
    newest_checkpoint,
    options_in,
    read_checkpoint,
    remove_parts,
    warn_of_edits,
)
from onibus.learner.chosen_options import was_started_with
from onibus.learner.configuration import configuration
from onibus.learner.options import (
    LearnOptions,
    difference,
    save_options,
)
from onibus.learner.progress import RunProgress
from onibus.learner.rewards.frozen import check_judges
from onibus.learner.rewards.plugin import load_reward
from onibus.learner.run_files.parts import record_parts
from onibus.learner.run_files.run_lock import only_learner_of
from onibus.learner.run_files.sessions import begin_session, sessions_before
from onibus.learner.run_files.specs import SPECS_FILE
from onibus.learner.sample_factory import prepare_processes, run_experiment
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.nethack.captioners import game_captioner
from onibus.producers.nethack.tasks import check_played, make_task

log = logging.getLogger(__name__)

_FIXED_BY_CHECKPOINT = {
    "task": "--task",
    "actions": "--actions",
    "network": "--network",
    "core": "--rnn",
    "core_size": "--rnn-size",
    "max_episode_steps": "--max-episode-steps",
}
"""What the weights of a run depend on, or its episodes, and the flags."""

_WORKERS_PER_CORE = 4
"""Above which workers only wait for each other."""


def run(
    settings: Settings,
    options: LearnOptions,
    before: LearnOptions | None,
    given: Mapping[str, Any],
    metrics_port: int | None = None,
) -> None:
    """Learn until the options' end, SIGTERM or SIGINT; then save a checkpoint and say what was reached.

    Args:
        settings: where the bus and the folder of runs are.
        options: of this session, see :func:`~onibus.learner.chosen_options.chosen_options`.
        before: those of the session before, if the run goes on.
        given: the options that were given, as for :func:`~onibus.learner.options.make_options`.
        metrics_port: where metrics are served, if anywhere.

    Raises:
        OnibusError: what cannot be played, a missing broker or topic, a run that exists (without ``before``),
            does not fit its checkpoint (with it), or is trained by another process, a process that failed.
    """
    os.environ.update(environment_of(settings))
    prepare_processes(options)
    stopping = stop_event()
    folder = settings.runs_dir / options.run
    configuration(options, settings.runs_dir, 0)  # refuses what does not fit before anything is written
    torch_device(options.device)  # refuses a GPU that is not there
    _try_task(options)
    if is_plugin(options.reward):
        load_reward(options.reward)
    if options.captions:
        require_topics(settings, role="learner")
        check_judges(settings, options)
    if before is not None and _has_reached(options, folder):
        return
    with only_learner_of(folder):
        session = _open_run(options, folder, before, given)
        expose(metrics_port, settings.metrics_host)
        log.info(
            "starting run %s: %d environments, network %s",
            *(options.run, options.workers * options.environments, options.network),
        )
        warn_of_few_cores(options)
        with RunProgress(options, folder) as progress:
            state = run_experiment(options, settings.runs_dir.absolute(), stopping, progress.watch, session)
            progress.finish(state)
    saved = newest_checkpoint(folder)
    reached = progress.last.get("return", math.nan)
    log.info(
        "run %s: %s environment steps, mean return %s, %s distinct captions, checkpoint %s",
        options.run,
        f"{state.env_steps:,}",
        "not known yet" if math.isnan(reached) else f"{reached:.3f}",
        f"{progress.last.get('captions_distinct', 0):,.0f}",
        saved,
    )


def _try_task(options: LearnOptions) -> None:
    """Make the task once: what cannot be played is refused before anything is written."""
    if (own := options.registered) is not None:
        CaptionWrapper(own.make(), own.captioner).close()
        if options.inference == "local" and not own.is_discrete:
            raise OnibusError(
                f"--inference local: {own.name} has continuous actions; use --inference central"
            )
        return
    game_captioner(options.captioner)
    check_played(options.played, options.actions, options.character, options.dungeons)
    task = make_task(
        options.played,
        max_episode_steps=options.max_episode_steps,
        actions=options.actions,
        character=options.character,
    )
    task.close()  # type: ignore[no-untyped-call]


def warn_of_few_cores(options: LearnOptions) -> None:
    """A preset's workers are those of the machine that it was published on."""
    cores = os.cpu_count() or 1
    if options.workers > _WORKERS_PER_CORE * cores:
        log.warning(
            "%d rollout workers share %d cores, and each takes memory; as many games with --workers %d "
            "--environments %d",
            *(options.workers, cores, cores, -(-options.workers * options.environments // cores)),
        )


def _has_reached(options: LearnOptions, folder: Path) -> bool:
    """Whether the run has all its steps; says what to do then."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None or options.steps is None:
        return False
    steps = int(read_checkpoint(checkpoint)["env_steps"])
    if steps < options.steps:
        return False
    log.warning(
        "run %s has learned for %s steps and ends at --steps %s: give it more, or --steps 0 for no limit",
        options.run,
        f"{steps:,}",
        options.steps,
    )
    return True


def _open_run(
    options: LearnOptions,
    folder: Path,
    before: LearnOptions | None = None,
    given: Mapping[str, Any] | None = None,
) -> int:
    """Begin a session in the run's folder; returns how many there were before.

    Args:
        options: of this session.
        folder: of the run.
        before: options of the session before, if the run goes on.
        given: what was given by flags.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None and before is None:
        raise OnibusError(
            f"run {options.run} exists in {folder} with a checkpoint; "
            "use --resume to go on with it, or another --run name"
        )
    if checkpoint is not None and before is not None:
        content = read_checkpoint(checkpoint)
        _check_fits(options, options_in(content) or before)
        warn_of_edits(content, options)
    remove_parts(folder)
    if before is not None:
        changed = ", ".join(difference(before, options)) or "its own options"
        log.info("run %s goes on with %s", options.run, changed)
    else:
        (folder / SPECS_FILE).unlink(missing_ok=True)  # of a run that was never saved
    session = sessions_before(folder)
    try:
        save_options(options, folder)
        begin_session(folder, session, options, given or {}, before)
        record_parts(folder, options.plugins())
    except OSError as error:
        raise OnibusError(
            f"cannot write the run's folder {folder}: {reason_of(error)}; choose another --runs-dir"
        ) from error
    return session


def _check_fits(options: LearnOptions, before: LearnOptions) -> None:
    for name, flag in _FIXED_BY_CHECKPOINT.items():
        was, now = getattr(before, name), getattr(options, name)
        if was != now:
            raise was_started_with(options.run, flag, was, now)
