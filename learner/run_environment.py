"""The environment of a run: as Sample Factory's rollout workers make it, and as an evaluation does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sample_factory.envs.env_utils import TrainingInfoInterface

import onibus.learner.quiet_libraries  # noqa: F401  a rollout worker begins with this module
from onibus.infra.settings import load_settings
from onibus.learner.options import LearnOptions
from onibus.producers.environments.any_task import AnyEnvironment
from onibus.producers.environments.any_task import make_environment as make_any
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.environments.tasks import import_tasks
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.publishing.caption_notes import NOTES_FOLDER
from onibus.producers.publishing.caption_publisher import process_bus


class _Informed(TrainingInfoInterface):  # type: ignore[misc]
    """An environment as Sample Factory runs it: it also learns which policy version acts.

    With central inference Sample Factory passes that on when an episode ends, at most every five seconds, so
    the version in a caption may be that much behind. Local sampling sets it when it takes new parameters.
    """

    policy_version: int

    def set_training_info(self, training_info: dict[str, Any]) -> None:
        """Called by the rollout worker at the end of an episode."""
        self.policy_version = training_info.get("policy_version", self.policy_version)


class LearnerEnvironment(NetHackEnvironment, _Informed):
    """That of a task of NetHack's or MiniHack's."""


class LearnerCaptionWrapper(CaptionWrapper, _Informed):
    """That of a registered task."""


def make_environment(_name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> AnyEnvironment:
    """Sample Factory's factory: one environment in a rollout worker (or to learn the spaces: no config)."""
    del render_mode
    options = LearnOptions.model_validate(cfg.onibus)
    settings = load_settings()
    publishing = options.captions and env_config is not None
    notes = Path(cfg.train_dir) / cfg.experiment / NOTES_FOLDER
    return environment_for(
        options,
        worker=env_config.worker_index if env_config else 0,
        environment=env_config.vector_index if env_config else 0,
        seed=cfg.environment_seed,
        bus=(lambda: process_bus(settings, options.run, options.task, notes))
        if publishing
        else (lambda: None),
    )


def environment_for(
    options: LearnOptions, *, worker: int, environment: int, seed: int, bus: Callable[[], Any]
) -> AnyEnvironment:
    """The environment of a run with these options; the rest is as :func:`make_any` has it."""
    import_tasks(options.imports)
    return make_any(
        options.played,
        kinds=(LearnerEnvironment, LearnerCaptionWrapper),
        observation=options.network,
        captions=options.captions,
        max_episode_steps=options.max_episode_steps,
        actions=options.actions,
        character=options.character,
        captioner=options.captioner,
        dungeons=options.dungeons,
        run=options.run,
        worker=worker,
        environment=environment,
        seed=seed,
        bus=bus,
    )
