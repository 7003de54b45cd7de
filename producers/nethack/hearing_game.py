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

_RUNNING = base.NLE.StepStatus.RUNNING
_GAME_OVER = 0
"""Place in NLE's "program_state"."""


class HearingGame(base.NLE):  # type: ignore[misc]
    """NLE's game; :meth:`_hear` gets the message of each observation within a step, in order.

    It does what NLE's tasks do with what the game waits for: it closes every ``--More--`` and menu, leaves
    text entries, and leaves questions but for those of :attr:`open_questions`, which the player answers.

    A step has NLE's results. Of the observation before it only the bottom-line statistics are kept for the
    task's reward, which is all that the rewards of our tasks read; one that reads others fails. Rewards get
    statistics as memory views, whose integers Python computes with several times faster than NumPy's.
    """

    open_questions: tuple[bytes, ...] = base.SKIP_EXCEPTIONS
    """Words of the questions that are not left."""

    _has_more_to_do = False
    """Whether :meth:`_perform_known_steps` has something to do though the game waits for nothing."""

    last_observation: Sequence[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        arrays = self.nethack._obs_buffers  # the game writes every observation into them
        self._statistics: memoryview = arrays["blstats"].data
        self._message: memoryview = arrays["message"].data
        self._waits: memoryview = arrays["internal"].data
        self._state: memoryview = arrays["program_state"].data
        self._before: list[Any] = [None] * len(arrays)
        self._of_arrays: Any = None  # NLE returns the same sequence of arrays at every step
        self._after: list[Any] = []
        self._named: dict[str, Any] = {}
        has_own_end = type(self)._is_episode_end is not base.NLE._is_episode_end
        self._has_own_end = has_own_end or type(self)._get_end_status is not HearingGame._get_end_status

    def step(self, action: int) -> Any:
        """One action, as NLE has it."""
        before = self._before
        before[self._blstats_index] = memoryview(self._statistics.tobytes()).cast("l")
        observation, done = self.nethack.step(self.actions[action])
        truncated = self._steps >= self._max_episode_steps
        has_news = done or self._message[0] or self._has_more_to_do or self._is_waiting()
        if has_news and (not self._allow_all_modes or self._state[_GAME_OVER] == 1):
            observation, done = self._perform_known_steps(observation, done, exceptions=True)
        self._steps += 1
        self.last_observation = observation
        if observation is not self._of_arrays:
            self._take(observation)
        if done or self._has_own_end or self._steps >= self._max_episode_steps:
            status = self._get_end_status(observation, done)
        else:
            status = _RUNNING
        reward = float(self._reward_fn(before, action, self._after, status))
        if not (status or done):  # nearly always
            information = {"end_status": status, "is_ascended": False}
            return self._named.copy(), reward, done, truncated, information
        if not done:
            self._quit_game(observation, done)
        return self._get_observation(observation), reward, True, truncated, self._get_information(status)

    def _get_end_status(self, observation: Sequence[Any], done: bool) -> Any:
        if self._steps >= self._max_episode_steps:
            return super()._get_end_status(observation, done)
        end = self._is_episode_end(observation)
        return self.StepStatus(done or end) if done or end else self.StepStatus.RUNNING

    def _take(self, observation: Sequence[Any]) -> None:
        self._of_arrays = observation
        self._named = self._get_observation(observation)
        self._after = list(observation)
        self._after[self._blstats_index] = self._statistics

    def _hear(self, message: bytes) -> None:
        """Take note of a message: 256 bytes, Latin-1, padded with zeros; never an empty one."""

    def _perform_known_steps(
        self, observation: Sequence[Any], done: bool, exceptions: bool = True
    ) -> tuple[Sequence[Any], bool]:
        if not exceptions:  # the game is being quit
            result: tuple[Sequence[Any], bool] = super()._perform_known_steps(observation, done, exceptions)
            return result
        waits = self._waits
        while True:
            message = self._message.tobytes() if self._message[0] else b""
            if message:
                self._hear(message)
            if done:
                return observation, done
            if waits[WAITS_FOR_SPACE]:
                observation, done = self.nethack.step(SPACE)
            elif waits[IN_TEXT_ENTRY]:
                observation, done = self.nethack.step(ESCAPE)
            elif waits[IN_QUESTION] and not any(words in message for words in self.open_questions):
                # As NLE has it: what comes after a question that was left waits for the player.
                observation, done = self.nethack.step(ESCAPE)
                if self._message[0]:
                    self._hear(self._message.tobytes())
                return observation, done
            else:
                return observation, done

    def _is_waiting(self) -> bool:
        """Whether the game waits for an answer, a text or a space, and not for a command."""
        waits = self._waits
        return bool(waits[IN_QUESTION] or waits[IN_TEXT_ENTRY] or waits[WAITS_FOR_SPACE])


@cache
def hearing(task: Callable[..., Any]) -> Callable[..., Any]:
    """A task of NLE's for NetHack as a :class:`HearingGame`; one that is already returns as it is."""
    assert isinstance(task, type)
    return task if issubclass(task, HearingGame) else type(task.__name__, (HearingGame, task), {})
