"""NLE's games that look at every message of a step, and take half the time for what surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from nle.env import base

SPACE, ESCAPE = 32, 27
"""Keys that close a ``--More--`` or a menu, and that leave a question."""

IN_QUESTION, IN_TEXT_ENTRY, WAITS_FOR_SPACE = 1, 2, 3
"""Places in NLE's "internal" observation: what the game is waiting for, if anything."""

_GAME_OVER = 0
"""Place in NLE's "program_state"."""


class HearingGame(base.NLE):  # type: ignore[misc]
    """NLE's game; :meth:`_hear` gets the message of each observation within a step, in order.

    It does what NLE's tasks do with what the game waits for: it closes every ``--More--`` and menu, leaves
    text entries, and leaves questions but for those of :attr:`open_questions`, which the player answers.

    A step has NLE's results. Of the observation before it only the bottom-line statistics are kept for the
    task's reward, which is all that the rewards of our tasks read; one that reads others fails.
    """

    open_questions: tuple[bytes, ...] = base.SKIP_EXCEPTIONS
    """Words of the questions that are not left."""

    _named: tuple[Any, dict[str, Any]] = (None, {})
    """NLE's observations, and those of them that are returned, by name."""

    last_observation: Sequence[Any]

    def step(self, action: int) -> Any:
        """One action, as NLE has it."""
        before: list[Any] = [None] * len(self.last_observation)
        before[self._blstats_index] = self.last_observation[self._blstats_index].copy()
        observation, done = self.nethack.step(self.actions[action])
        truncated = self._check_abort(observation)
        if not self._allow_all_modes or observation[self._program_state_index].item(_GAME_OVER) == 1:
            observation, done = self._perform_known_steps(observation, done, exceptions=True)
        self._steps += 1
        self.last_observation = observation
        status = self._get_end_status(observation, done)
        reward = float(self._reward_fn(before, action, observation, status))
        if not (status or done):  # nearly always
            information = {"end_status": status, "is_ascended": False}
            return self._get_observation(observation), reward, done, truncated, information
        if not done:
            self._quit_game(observation, done)
        return self._get_observation(observation), reward, True, truncated, self._get_information(status)

    def _get_end_status(self, observation: Sequence[Any], done: bool) -> Any:
        if self._steps >= self._max_episode_steps:
            return super()._get_end_status(observation, done)
        end = self._is_episode_end(observation)
        return self.StepStatus(done or end) if done or end else self.StepStatus.RUNNING

    def _get_observation(self, observation: Sequence[Any]) -> dict[str, Any]:
        if self._named[0] is not observation:  # it is the same list of arrays at every step
            self._named = observation, super()._get_observation(observation)
        return self._named[1].copy()

    def _hear(self, message: bytes) -> None:
        """Take note of a message: 256 bytes, Latin-1, padded with zeros; never an empty one."""

    def _perform_known_steps(
        self, observation: Sequence[Any], done: bool, exceptions: bool = True
    ) -> tuple[Sequence[Any], bool]:
        if not exceptions:  # the game is being quit
            result: tuple[Sequence[Any], bool] = super()._perform_known_steps(observation, done, exceptions)
            return result
        while True:
            said = observation[self._message_index]
            message = said.tobytes() if said.item(0) else b""
            if message:
                self._hear(message)
            if done:
                return observation, done
            waits = observation[self._internal_index].item  # of single numbers the fastest by far
            if waits(WAITS_FOR_SPACE):
                observation, done = self.nethack.step(SPACE)
            elif waits(IN_TEXT_ENTRY):
                observation, done = self.nethack.step(ESCAPE)
            elif waits(IN_QUESTION) and not any(words in message for words in self.open_questions):
                # As NLE has it: what comes after a question that was left waits for the player.
                observation, done = self.nethack.step(ESCAPE)
                if observation[self._message_index][0]:
                    self._hear(observation[self._message_index].tobytes())
                return observation, done
            else:
                return observation, done

    def _is_waiting(self, observation: Sequence[Any]) -> bool:
        """Whether the game waits for an answer, a text or a space, and not for a command."""
        return bool(observation[self._internal_index][IN_QUESTION : WAITS_FOR_SPACE + 1].any())


@cache
def hearing(task: Callable[..., Any]) -> Callable[..., Any]:
    """A task of NLE's for NetHack as a :class:`HearingGame`; one that is already returns as it is."""
    assert isinstance(task, type)
    return task if issubclass(task, HearingGame) else type(task.__name__, (HearingGame, task), {})
