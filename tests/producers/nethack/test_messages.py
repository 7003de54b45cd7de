"""Captions hold everything that an action made the game say, and nothing that NLE asked it by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.producers.nethack.messages import (
    DISORDER,
    MESSAGE_BYTES,
    CaptionTable,
    MessageListener,
    message_text,
)
from onibus.producers.nethack.seeding import episode_seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task
from onibus.schemas.ids import caption_id, lookup_id

EPISODES = 6


def buffer(text: str) -> bytes:
    return text.encode("latin-1").ljust(MESSAGE_BYTES, b"\0")


def spaced(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", ["score", "keyroom-s5", "wod-hard-full"])
def test_whatever_stood_before_a_more_prompt_on_the_screen_is_in_the_caption(name: str) -> None:
    """The screen is the independent witness: every line that waited with --More-- must have been heard."""
    task: Any = make_task(
        name, observation_keys=("glyphs", "blstats", "message", "tty_chars"), max_episode_steps=1000
    )
    screens: list[list[str]] = []
    game, index = task.unwrapped, task.unwrapped._observation_keys.index("tty_chars")
    listener, table = MessageListener(task), CaptionTable()
    inner = game.nethack.step

    def watched(action: int) -> Any:
        result = inner(action)
        screens.append(["".join(map(chr, row)).rstrip() for row in result[0][index][:3]])
        return result

    game.nethack.step = watched
    rng = np.random.default_rng(0)
    waited = 0
    for episode in range(EPISODES):
        reset_with_seeds(task, episode_seeds(1, 0, 0, episode))
        over = False
        while not over:
            listener.said.clear()
            screens.clear()
            _, _, terminated, truncated, info = task.step(int(rng.integers(task.action_space.n)))
            over = terminated or truncated
            if over and info["end_status"].name != "DEATH":
                continue  # NLE quits the game: its questions follow
            heard = spaced(table.caption(listener.said).text.replace(" / ", " ")) if listener.said else ""
            for rows in screens:
                for number, row in enumerate(rows):
                    if "--More--" in row and DISORDER not in row:
                        waited += 1
                        assert spaced(" ".join(rows[: number + 1]).split("--More--")[0]) in heard
    assert waited > 5
    task.close()


def test_captions_are_text_and_ids_of_the_messages_joined() -> None:
    caption = CaptionTable().caption([buffer("The jackal bites!"), buffer("You die...")])
    assert caption.text == "The jackal bites! / You die..."
    assert caption.id == caption_id(caption.text)
    assert caption.lookup == lookup_id(caption.id)


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        (["In what direction?", "Can't open 'rumors' file.  Program in disorder!"], "In what direction?"),
        (["The key whispers:  Can't open 'rumors' file.  Program in disorder!"], "The key whispers:"),
        (["You hear a bell.", "bad glyph 7", "Program in disorder!"], "You hear a bell."),
        (
            [
                "bad glyph 7",
                "Program in disorder!  (Saving and reloading may fix this problem.)",
                "Ouch!  It bites!",
            ],
            "Ouch!  It bites!",
        ),
        (["Can't open 'rumors' file.  Program in disorder!"], None),
        ([], None),
    ],
)
def test_what_the_engine_complains_of_is_in_no_caption(said: list[str], caption: str | None) -> None:
    table = CaptionTable()
    for _ in range(2):
        found = table.caption([buffer(text) for text in said])
        assert (found and found.text) == caption


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"It's a wall." + bytes(244), "It's a wall."),
        (b"x" * 256, "x" * 256),
        (b"two\nlines\0left over", "two lines"),
        (b"caf\xe9\xff\0", "caf\u00e9\u00ff"),
    ],
)
def test_messages_become_one_line_of_text_byte_for_byte(raw: bytes, text: str) -> None:
    assert message_text(raw) == text


@given(st.lists(st.integers(0, 40), max_size=200))
def test_the_table_is_bounded_and_never_wrong(numbers: list[int]) -> None:
    table = CaptionTable(limit=16)
    for number in numbers:
        assert table.caption([buffer(f"message {number}")]).text == f"message {number}"
        assert len(table._captions) <= 16


def test_the_same_messages_are_decoded_and_hashed_once() -> None:
    table = CaptionTable()
    assert table.caption([buffer("a"), buffer("b")]) is table.caption([buffer("a"), buffer("b")])
