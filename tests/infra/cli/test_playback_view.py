"""What is seen of a recorded episode in terminals of several sizes: nothing wraps, and no number is cut."""

from __future__ import annotations

import io

import numpy as np
import pytest

from onibus.infra.cli.playback_view import PlaybackView
from onibus.infra.process.terminal import console
from onibus.learner.reporting.run_judge import Judgement
from onibus.producers.nethack.playback import Frame

CAPTION = "You see here a key named The Master Key of Thievery, and a very long story of how it came here."


def a_frame(step: int, caption: str | None, count: int = 1) -> Frame:
    characters = np.full((24, 80), ord(" "), np.uint8)
    for row in range(24):
        text = f"row {row:02}" + "." * 73 + "|"
        characters[row] = np.frombuffer(text.encode(), np.uint8)
    return Frame(step, characters, np.full((24, 80), 7, np.int8), 0.25, caption, count)


def shown(width: int, height: int, steps: int = 60, *, ascii_only: bool = False) -> list[str]:
    view = PlaybackView("a-run/0/0/12 keyroom-s5")
    for step in range(steps):
        view.add(a_frame(step, CAPTION, step + 1), Judgement("helpful", 0.5))
    out = io.StringIO()
    console(file=out, width=width, height=height).print(view.render(width, height, ascii_only))
    return out.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 25), (80, 40), (160, 24), (160, 40)])
def test_the_view_fits_the_terminal(width: int, height: int) -> None:
    lines = shown(width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("step 59  return 15.00  intrinsic 30.00")
    assert any(line.startswith("row 01") and line[79] == "|" for line in lines)
    assert any(line.startswith("row 23") for line in lines)
    assert any("✓ +0.50 ×60 You see here a key" in line for line in lines)


def test_on_24_rows_the_caption_takes_the_place_of_the_games_own_line() -> None:
    lines = shown(80, 24)
    assert len(lines) == 24
    assert not any(line.startswith("row 00") for line in lines)
    assert "✓ +0.50 ×60 You see here" in lines[0]


def test_captions_stand_below_the_map_or_beside_it() -> None:
    below, beside = shown(80, 40), shown(160, 40)
    assert sum("You see here" in line for line in below[25:]) == 15
    assert sum("You see here" in line for line in beside) == 24
    assert "a-run/0/0/12 keyroom-s5" in below[0]


def test_marks_are_plain_where_the_terminal_has_ascii_only() -> None:
    assert "\n".join(shown(80, 24, ascii_only=True)).isascii()


def test_a_step_without_caption_has_none_of_an_earlier_one() -> None:
    view = PlaybackView("a-run")
    view.add(a_frame(0, CAPTION), Judgement("helpful", 0.5))
    view.add(a_frame(1, None, 0), Judgement("", 0.0))
    out = io.StringIO()
    console(file=out, width=80, height=24).print(view.render(80, 24))
    assert "You see here" not in out.getvalue()
