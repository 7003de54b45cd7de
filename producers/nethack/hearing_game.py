"""NLE's games that look at every message of a step, also those that NLE clicks away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nle.env import base

SPACE, ESCAPE = 32, 27
"""Keys that close a ``--More--`` or a menu, and that leave a question."""

IN_QUESTION, IN_TEXT_ENTRY, WAITS_FOR_SPACE = 1, 2, 3
"""Places in NLE's "internal" observation: what the game is waiting for, if anything."""


class HearingGame(base.NLE):  # type: ignore[misc]
    """NLE's game; :meth:`_hear` gets the message of each observation within a step, in order.

    It does what NLE's tasks do with what the game waits for: it closes every ``--More--`` and menu, leaves
    text entries, and leaves questions but for those of :attr:`open_questions`, which the player answers.
    """

    open_questions: tuple[bytes, ...] = base.SKIP_EXCEPTIONS
    """Words of the questions that are not left."""

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
