"""The environment of a run: as Sample Factory's rollout workers make it, and as an evaluation does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sample_factory.envs.env_utils import TrainingInfoInterface

import onibus.learner.quiet_libraries  # noqa: F401  a rollout worker begins with this module
from onibus.infra.settings import load_settings
from onibus.learner.options import LearnOptions
from onibus.producers.environments.caption_wrapper import CaptionWrapper
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.publishing.caption_notes import NOTES_FOLDER
from onibus.producers.publishing.caption_publisher import process_bus


class LearnerEnvironment(NetHackEnvironment, TrainingInfoInterface):  # type: ignore[misc]
    """The environment as Sample Factory runs it: it also learns which policy version acts.

    With central inference Sample Factory passes that on when an episode ends, at most every five seconds, so
    the version in a caption may be that much behind. Local sampling sets it when it takes new parameters.
    """

    def set_training_info(self, training_info: dict[str, Any]) -> None:
        """Called by the rollout worker at the end of an episode."""
        self.policy_version = training_info.get("policy_version", self.policy_version)


class LearnerCaptionWrapper(CaptionWrapper, TrainingInfoInterface):  # type: ignore[misc]
    """The same of a registered task."""

    def set_training_info(self, training_info: dict[str, Any]) -> None:
        """Called by the rollout worker at the end of an episode."""
        self.policy_version = training_info.get("policy_version", self.policy_version)


def make_environment(
    _name: str, cfg: Any, env_config: Any, render_mode: str | None = None
) -> NetHackEnvironment | CaptionWrapper:
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
) -> NetHackEnvironment | CaptionWrapper:
    """The environment of a run with these options; the rest is as :class:`NetHackEnvironment` has it."""
    if (own := options.registered) is not None:
        return LearnerCaptionWrapper(
            own.make(),
            own.captioner,
            task=own,
            captions=options.captions,
            max_episode_steps=options.max_episode_steps,
            run=options.run,
            worker=worker,
            environment=environment,
            seed=seed,
            bus=bus,
        )
    return LearnerEnvironment(
        task=options.played,
        observation=options.network,
        captions=options.captions,
        max_episode_steps=options.max_episode_steps,
        actions=options.actions,
        character=options.character,
        run=options.run,
        worker=worker,
        environment=environment,
        seed=seed,
        bus=bus,
    )
