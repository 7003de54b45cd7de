"""Captions: what the game said because of one action, as text and as ids.

NLE answers ``--More--`` prompts and death screens inside one environment step and shows the last message
alone, often an empty one. So the listener looks at every inner step of the game. Captions then are
recognised by their raw bytes: the text is decoded and hashed once, not at every step.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from onibus.producers.publishing.caption import TABLE_CAPTIONS, Caption, make_room
from onibus.schemas.ids import caption_id, lookup_id

SEPARATOR = " / "
"""Between the messages of one caption."""

MESSAGE_BYTES = 256
"""Size of NLE's message buffer; what is shorter ends with zero bytes."""

MESSAGES_KEPT = 64
"""Messages of one step that are listened to; NetHack shows a handful, only a runaway loop shows more."""

DISORDER = "Program in disorder!"
"""What NetHack says after a complaint about itself, such as a file of data that MiniHack's has replaced."""


_KILL = re.compile(r"(?:^|  )You (?:kill|destroy) [^!]*!")
"""What NetHack says when the player has killed a monster, or destroyed one that never lived."""


@dataclass(frozen=True, slots=True)
class NetHackCaption(Caption):
    """A caption, and how many monsters it says that the player killed."""

    kills: int = 0


class MessageListener:
    """Hears every message of a game, also those that the environment itself clicks away.

    ``said`` holds the message buffers (256 bytes each) since it was last cleared, without immediate
    repeats. What the game says while NLE quits it (step limit reached, task done) is not the outcome of
    an action and is left out.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        game: Any = env.unwrapped
        self.said: list[bytes] = []
        game.nethack.step = _listening(game.nethack, self.said)
        game._quit_game = _not_listening(game._quit_game, self.said)


class CaptionTable:
    """Captions by the raw message buffers that make them up; bounded by :data:`TABLE_CAPTIONS`."""

    def __init__(self, limit: int = TABLE_CAPTIONS) -> None:
        self._limit = limit
        self._captions: dict[bytes, NetHackCaption] = {}

    def caption(self, said: list[bytes]) -> NetHackCaption | None:
        """The caption of one step; None if nothing was said but the engine's complaints about itself.

        Args:
            said: the message buffers as :class:`MessageListener` collects them.
        """
        if not said:
            return None
        raw = said[0] if len(said) == 1 else b"".join(said)
        caption = self._captions.get(raw) or self._add(raw, said)
        return caption if caption.text else None

    def _add(self, raw: bytes, said: list[bytes]) -> NetHackCaption:
        make_room(self._captions, self._limit)
        messages = [message_text(message) for message in said]
        if any(DISORDER in message for message in messages):
            messages = without_complaints(messages)
        text = SEPARATOR.join(messages)
        full_id = caption_id(text)
        caption = NetHackCaption(text, full_id, lookup_id(full_id), kills=sum(map(kills, messages)))
        self._captions[raw] = caption
        return caption


def kills(message: str) -> int:
    """Monsters that a message says the player killed; two spaces part the sentences of a message."""
    return len(_KILL.findall(message))


def message_text(message: bytes) -> str:
    """A NetHack message (Latin-1, zero-terminated) as one line of text."""
    return message.partition(b"\0")[0].decode("latin-1").replace("\n", " ").strip()


def without_complaints(messages: list[str]) -> list[str]:
    """Messages without what the engine complains of; two spaces part the sentences of a message.

    A complaint is the sentence before :data:`DISORDER`, in the same message or the one before.
    """
    sentences: list[list[str]] = []
    for message in messages:
        sentences.append([])
        for sentence in message.split("  "):
            if sentence.startswith(DISORDER):
                complaint = next((kept for kept in sentences[-1:-3:-1] if kept), [])
                del complaint[-1:]
            elif not sentence.startswith("(Saving and reloading"):
                sentences[-1].append(sentence)
    return ["  ".join(kept) for kept in sentences if kept]


def _listening(nethack: Any, said: list[bytes]) -> Callable[[int], Any]:
    """``nethack.step`` that also listens; what that calls is called from here, as it is at every step."""
    view = nethack._obs_buffers["message"].data  # of arrays NumPy takes several times as long for a byte
    step, is_done, observed = nethack._pynethack.step, nethack._pynethack.done, nethack._step_return

    def heard(action: int) -> Any:
        step(action)
        if view[0]:
            message = view.tobytes()
            if not said or (message != said[-1] and len(said) < MESSAGES_KEPT):
                said.append(message)
        return observed(), is_done()

    return heard


def _not_listening(quit_game: Callable[..., Any], said: list[bytes]) -> Callable[..., Any]:
    def quit_unheard(*arguments: Any) -> Any:
        heard = len(said)
        with warnings.catch_warnings():  # in some menus NLE has to end the game the hard way, and says so
            warnings.filterwarnings("ignore", message=".*smooth quitting of game failed")
            result = quit_game(*arguments)
        del said[heard:]
        return result

    return quit_unheard
