"""The 28 actions of the published experiments, and what they do at NetHack's questions.

After ONI (Zheng et al., arXiv 2410.23022): NLE's 23 task actions and five commands. With NLE's own rules
only what lies on letters that happen to be actions could be eaten or drunk, and no spell could be cast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
from nle import nethack
from nle.env import tasks as nle_tasks

from onibus.producers.nethack.hearing_game import ESCAPE, IN_QUESTION, WAITS_FOR_SPACE, HearingGame

ONI_ACTIONS: tuple[int, ...] = (
    *nle_tasks.TASK_ACTIONS,
    nethack.Command.CAST,
    nethack.Command.QUAFF,
    nethack.Command.PRAY,
    nethack.Command.PICKUP,
    nethack.Command.PAY,
)
"""Keys by the action's index."""

FIRST = ord("a")
"""Chooses the first entry of a menu: the first spell, the first skill that can be enhanced."""

_ITEM_QUESTIONS = (b"What do you want to eat", b"What do you want to drink")
_TAKES_THE_FIRST = ONI_ACTIONS.index(ord("y"))
_CAST = ONI_ACTIONS.index(nethack.Command.CAST)
_OFFERED = re.compile(rb"\[([^\]]*?)(?: or [^\]]*)?\]")
_LETTER = re.compile(rb"[a-zA-Z]")
_CONFIDENT = b"You feel more confident in"

# Keys that a policy cannot choose stand behind the actions: NLE's step takes an index, never a key.
_ANSWERS = (ESCAPE, *range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1))
_INDEX_OF_ANSWER = {key: len(ONI_ACTIONS) + place for place, key in enumerate(_ANSWERS)}


class OniActions(HearingGame):
    """Mixed into a task of NLE's: :data:`ONI_ACTIONS` instead of its actions.

    * CAST opens the menu of spells, and the first one is cast.
    * At "What do you want to eat?" and "… drink?" the action ``y`` (north-west) takes the first letter that
      is offered; every other action leaves the question. The question about a drink waits for the player.
    * "You feel more confident in …" is followed by ``#enhance`` and its first skill, once the game waits
      for a command.
    """

    open_questions = (*HearingGame.open_questions, b"drink")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._casts = False
        self._confident = False
        super().__init__(*args, actions=(*ONI_ACTIONS, *_ANSWERS), **kwargs)
        self.action_space = gym.spaces.Discrete(len(ONI_ACTIONS))

    def reset(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a game."""
        self._casts = self._confident = self._has_more_to_do = False
        return super().reset(*args, **kwargs)

    def step(self, action: int) -> Any:
        """One action, 0 … 27."""
        if self._waits[IN_QUESTION]:
            action = self._answer(action)
        else:
            self._casts = action == _CAST
            self._has_more_to_do |= self._casts
        return super().step(action)

    def _answer(self, action: int) -> int:
        """The action, or at a question about an item the answer in its place."""
        question = self._message.tobytes()
        if not any(words in question for words in _ITEM_QUESTIONS):
            return action
        letter = first_letter_offered(question) if action == _TAKES_THE_FIRST else None
        return _INDEX_OF_ANSWER[ESCAPE if letter is None else letter]

    def _hear(self, message: bytes) -> None:
        self._confident = self._confident or _CONFIDENT in message
        super()._hear(message)

    def _perform_known_steps(
        self, observation: Sequence[Any], done: bool, exceptions: bool = True
    ) -> tuple[Sequence[Any], bool]:
        if exceptions and self._casts:
            self._casts = False
            if not done and self._waits[WAITS_FOR_SPACE]:
                observation, done = self.nethack.step(FIRST)
        observation, done = super()._perform_known_steps(observation, done, exceptions)
        if exceptions and self._confident and not done and not self._is_waiting():
            self._confident = False
            observation, done = self.nethack.step(nethack.Command.ENHANCE)
            if not done and self._waits[WAITS_FOR_SPACE]:
                observation, done = self.nethack.step(FIRST)
            observation, done = super()._perform_known_steps(observation, done, exceptions)
        self._has_more_to_do = self._casts or self._confident
        return observation, done


def first_letter_offered(question: bytes) -> int | None:
    """The first item that a question offers: ``[$c-f or ?*]`` → ``c``; None for ``[*]``, ``[- or ?*]``."""
    offered = _OFFERED.search(question)
    letter = _LETTER.search(offered[1]) if offered else None
    return letter[0][0] if letter else None


@cache
def with_oni_actions(task: Callable[..., Any]) -> Callable[..., Any]:
    """A task of NLE's, or of ours, with :class:`OniActions`."""
    assert isinstance(task, type)
    return type(f"{task.__name__}WithOniActions", (OniActions, task), {})
