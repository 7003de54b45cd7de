"""onibus: reinforcement learning with a language model's judgement as reward, streamed over Kafka.

The names below are the public interface and stay as they are; what else can be imported may change. Each is
loaded when it is first used, so ``import onibus`` alone loads no library. The folders of the repository are
the packages here: ``onibus.producers`` is ``producers/``, and so on.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "AnnotationSpec",
    "Answer",
    "CaptionWrapper",
    "LabelLookup",
    "OnibusError",
    "Question",
    "RewardBatch",
    "Settings",
    "Transition",
    "Verdict",
    "__version__",
    "annotations",
    "captions",
    "episodes",
    "labels",
    "load_settings",
    "register_task",
    "reward_updates",
]

if TYPE_CHECKING:
    from onibus.consumers.language_models.base import Answer as Answer
    from onibus.consumers.language_models.base import Question as Question
    from onibus.consumers.tables import LabelLookup as LabelLookup
    from onibus.consumers.tables import annotations as annotations
    from onibus.consumers.tables import captions as captions
    from onibus.consumers.tables import episodes as episodes
    from onibus.consumers.tables import labels as labels
    from onibus.consumers.tables import reward_updates as reward_updates
    from onibus.infra.errors import OnibusError as OnibusError
    from onibus.infra.settings import Settings as Settings
    from onibus.infra.settings import load_settings as load_settings
    from onibus.infra.version import NUMBER as __version__  # noqa: N811
    from onibus.learner.rewards.plugin import RewardBatch as RewardBatch
    from onibus.producers.environments.caption_wrapper import CaptionWrapper as CaptionWrapper
    from onibus.producers.environments.tasks import register_task as register_task
    from onibus.producers.publishing.caption_texts import Transition as Transition
    from onibus.schemas.records import AnnotationSpec as AnnotationSpec
    from onibus.schemas.records import Verdict as Verdict

_PLACES = {
    "__version__": "infra.version",
    "AnnotationSpec": "schemas.records",
    "Answer": "consumers.language_models.base",
    "CaptionWrapper": "producers.environments.caption_wrapper",
    "LabelLookup": "consumers.tables",
    "OnibusError": "infra.errors",
    "Question": "consumers.language_models.base",
    "RewardBatch": "learner.rewards.plugin",
    "Settings": "infra.settings",
    "Transition": "producers.publishing.caption_texts",
    "Verdict": "schemas.records",
    "annotations": "consumers.tables",
    "captions": "consumers.tables",
    "episodes": "consumers.tables",
    "labels": "consumers.tables",
    "load_settings": "infra.settings",
    "register_task": "producers.environments.tasks",
    "reward_updates": "consumers.tables",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'onibus' has no attribute {name!r}")
    return getattr(import_module(f"onibus.{_PLACES[name]}"), "NUMBER" if name == "__version__" else name)


def __dir__() -> list[str]:
    return __all__
