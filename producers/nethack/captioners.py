"""Captioners of NetHack's and MiniHack's tasks: what puts a step into words, the message aside."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np
from nle import nethack
from numpy.typing import NDArray

from onibus.infra.captioner_names import MESSAGE, MESSAGE_AND_CHANGES, check_captioner, short_name
from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of, is_plugin, load_plugin, version_of, was_imported
from onibus.producers.nethack.messages import SEPARATOR, NetHackCaption
from onibus.producers.publishing.caption import Caption
from onibus.producers.publishing.caption_texts import Captioner, CaptionTexts, Transition

_HUNGER = (
    "You are satiated.", "You are not hungry.", "You are hungry.", "You are weak from hunger.",
    "You are fainting from hunger.", "You have fainted from hunger.", "You have starved.",
)  # fmt: skip
"""By NLE's number, which is NetHack's hunger state."""
_FEW_HIT_POINTS, _SHARE_OF_ALL = 5, 7
_watched = itemgetter(
    nethack.NLE_BL_XP, nethack.NLE_BL_HUNGER, nethack.NLE_BL_DEPTH, nethack.NLE_BL_HP, nethack.NLE_BL_HPMAX
)
"""Experience level, hunger, depth, hit points and the most there can be, of a list of statistics."""
_Watched = tuple[int, int, int, int, int]


def message_and_changes(step: Transition) -> str | None:
    """The message, and in words of their own the changes that the status lines show.

    Experience level, hunger, depth, and hit points that become low: 5 or fewer, or at most a seventh of all,
    which NetHack counts as trouble (pray.c of NetHack 3.6). They are joined as messages are. The step that
    ends an episode has no status lines, so it has its message alone. Recorded episodes rely on these words:
    other words are another captioner.
    """
    message: str | None = step.info.get("caption")
    if step.terminated or step.truncated:
        return message
    before: _Watched = _watched(step.before["blstats"].tolist())
    after: _Watched = _watched(step.after["blstats"].tolist())
    if before == after:
        return message
    changes = _changes(before, after)
    return SEPARATOR.join(([message] if message else []) + changes) if changes else message


def _changes(before: _Watched, after: _Watched) -> list[str]:
    found = []
    old_level, old_hunger, old_depth, *old_points = before
    level, hunger, depth, *points = after
    if level != old_level:
        found.append(f"You are now at experience level {level}.")
    if hunger != old_hunger and 0 <= hunger < len(_HUNGER):
        found.append(_HUNGER[hunger])
    if depth != old_depth:
        found.append(f"You have gone {'down' if depth > old_depth else 'up'} to depth {depth}.")
    is_low = _is_low(*points)
    if is_low != _is_low(*old_points):
        found.append("Your hit points are low." if is_low else "Your hit points are no longer low.")
    return found


def _is_low(points: int, most: int) -> bool:
    return points <= _FEW_HIT_POINTS or points * _SHARE_OF_ALL <= most


class GameCaptioner:
    """One captioner of NetHack's games, in this process.

    Attributes:
        name: as records have it: the user's own with the version of its module.
    """

    def __init__(self, name: str, captioner: Captioner) -> None:
        self.name = name
        self._captioner = captioner
        self._texts = CaptionTexts(name, _one_line)

    def caption(
        self,
        message: NetHackCaption | None,
        before: bytes,
        action: int,
        outcome: tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]],
        game: Any,
    ) -> Caption | None:
        """The caption of one step; None for nothing.

        Args:
            message: what the game said.
            before: bytes of the (27,) int64 statistics before the step.
            action: its index.
            outcome: what the game's ``step`` returned; its info is given the message as ``caption``.
            game: the environment without wrappers.

        Raises:
            OnibusError: the captioner failed; names it.
        """
        after, reward, terminated, truncated, info = outcome
        if message is not None:
            info["caption"] = message.text
        earlier = {"blstats": np.frombuffer(before, np.int64)}
        step = Transition(earlier, action, after, float(reward), terminated, truncated, info, game)
        try:
            text = self._captioner(step)
            return None if text is None else self._texts.caption(text)
        except Exception as error:
            raise failure_of(f"the captioner {self.name}", error) from error


@cache
def game_captioner(name: str) -> GameCaptioner | None:
    """The captioner of this name; None for ``message``, whose captions the game itself makes.

    Raises:
        OnibusError: there is no such captioner, or it cannot be imported.
    """
    check_captioner(name)
    if name == MESSAGE:
        return None
    if name == MESSAGE_AND_CHANGES:
        return GameCaptioner(name, message_and_changes)
    captioner = load_plugin("--captioner", name)
    if not callable(captioner):
        raise OnibusError(f"--captioner {name}: this is a {type(captioner).__name__}; name a function")
    return GameCaptioner(f"{name} {version_of(name.partition(':')[0])}", captioner)


def recorded_captioner(recorded: str) -> GameCaptioner | None:
    """The captioner that a record names, whatever its version.

    What stands on the bus never has a module imported: that would run whatever code it names.

    Raises:
        OnibusError: it is the user's own, and its module was not imported.
    """
    name = short_name(recorded)
    module = name.partition(":")[0]
    if is_plugin(name) and not was_imported(module):
        raise OnibusError(f"its captions are those of {recorded}; add --import {module} to play it again")
    return game_captioner(name)


def _one_line(text: str) -> str:
    """As the game's messages: two blanks stay between their sentences."""
    return text.replace("\n", " ").strip()
