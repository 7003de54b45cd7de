"""Captioners: what a step brought about, in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from onibus.infra.captioner_names import MESSAGE
from onibus.infra.plugins import version_of
from onibus.producers.publishing.caption import Caption, make_room
from onibus.schemas.ids import caption_id, lookup_id

LONGEST_CAPTION = 2_000
"""Characters of a caption; what is longer is cut off."""


class Transition(NamedTuple):
    """One step of an environment, as a captioner sees it. Nothing in it may be changed.

    Attributes:
        before: the observation that the action was chosen for; the same object that the environment gave out,
            so an environment that writes into one array over and over shows the new values here, too.
        action: as the environment got it.
        after: the observation that the action led to.
        reward: of the task.
        terminated: whether the episode ended in this step by itself.
        truncated: whether it was cut off.
        info: what the environment says of the step.
        environment: the environment itself, without its wrappers.
    """

    before: Any
    action: Any
    after: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    environment: Any


Captioner = Callable[[Transition], str | None]
"""What a step brought about, in words; None or an empty text for nothing worth saying. It is called at every
step, so it must be fast, and keep nothing that grows."""


def caption_in_info(step: Transition) -> str | None:
    """The captioner of a task that has none: ``info["caption"]``."""
    said: str | None = step.info.get("caption")
    return said


_version = cache(version_of)


def recorded_name(captioner: Captioner | None) -> str:
    """What records call a task's captioner: ``module:function``, a blank, the module's version.

    ``message`` where the environment itself has the words, that is for None.
    """
    if captioner is None:
        return MESSAGE
    module = getattr(captioner, "__module__", type(captioner).__module__)
    name = getattr(captioner, "__qualname__", type(captioner).__qualname__)
    return f"{module}:{name} {_version(module)}"


def one_line(text: str) -> str:
    """A text with every run of blanks and line breaks as one blank."""
    return " ".join(text.split())


class CaptionTexts:
    """Captions by their texts, made once each; bounded by :data:`TABLE_CAPTIONS`.

    Args:
        captioner: whose texts they are, as records name it.
        line: what makes one line of a text.
    """

    def __init__(self, captioner: str = MESSAGE, line: Callable[[str], str] = one_line) -> None:
        self._captioner, self._line = captioner, line
        self._captions: dict[str, Caption | None] = {}

    def caption(self, text: object) -> Caption | None:
        """The caption of a text; None for one of nothing but blanks.

        Raises:
            TypeError: it is not a text.
        """
        if not isinstance(text, str):
            raise TypeError(f"a caption is a str or None, not {type(text).__name__}")
        text = text[:LONGEST_CAPTION]
        try:
            return self._captions[text]
        except KeyError:
            return self._add(text)

    def _add(self, text: str) -> Caption | None:
        make_room(self._captions)
        line = self._line(text.encode(errors="replace").decode())
        full_id = caption_id(line)
        made = Caption(line, full_id, lookup_id(full_id), self._captioner) if line else None
        self._captions[text] = made
        return made
